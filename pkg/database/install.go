package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// user is the unprivileged user of the cluster.
type user struct{ *syscall.Credential }

func (d *Driver) user() (user, error) {
	as, err := host.LookupUser(d.opts.User)
	if err != nil {
		return user{}, resource.Taken("PostgresUser", fmt.Errorf("the user that PostgreSQL is to run as: %w; create it or set Host.spec.postgres.user", err))
	}
	if as.Uid == 0 {
		return user{}, resource.Terminal("PostgresUser", fmt.Errorf("PostgreSQL refuses to run as root; set Host.spec.postgres.user to another user than %s", d.opts.User))
	}
	return user{as}, nil
}

// run runs a program as the user, in dir, which it can enter.
func (u user) run(ctx context.Context, dir, stdin string, argv ...string) ([]byte, error) {
	return host.Run(ctx, host.Command{Argv: argv, Stdin: stdin, Dir: dir, Credential: u.Credential})
}

// mkdir makes a directory that belongs to the user.
func (u user) mkdir(path string, perm fs.FileMode) error {
	if err := mkdir(path, perm); err != nil {
		return err
	}
	return os.Chown(path, int(u.Uid), int(u.Gid))
}

// mkdir makes a directory of exactly these permissions, whatever the umask.
func mkdir(path string, perm fs.FileMode) error {
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, perm)
}

// directories makes all that the server needs beside its data. Those above
// the data must let its user pass.
func (d *Driver) directories(u user) error {
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(d.dir)), 0o755); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(d.dir), d.dir, d.conf("")} {
		if err := mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(d.opts.Layout.Run, 0o755); err != nil {
		return err
	}
	return u.mkdir(d.socketDir(), 0o700)
}

// binDirFor returns the programs of one major version.
func (d *Driver) binDirFor(ctx context.Context, major string) (string, error) {
	var have []string
	for _, dir := range d.binDirs() {
		v, err := majorOf(ctx, dir)
		if err != nil {
			return "", err
		}
		if strconv.Itoa(v) == major {
			return dir, nil
		}
		have = append(have, strconv.Itoa(v))
	}
	return "", resource.Taken("PostgresVersion", fmt.Errorf("%s was made by PostgreSQL %s, the host has %s; install PostgreSQL %s, or upgrade the data with pg_upgrade",
		d.dataDir(), major, cmp.Or(strings.Join(have, ", "), "none"), major))
}

// binDir returns the newest programs of the host.
func (d *Driver) binDir(ctx context.Context) (string, error) {
	dirs := d.binDirs()
	if len(dirs) == 0 {
		return "", resource.Taken("PostgresMissing", fmt.Errorf("no PostgreSQL in %s or PATH; install it, or set Host.spec.postgres.binDir or Host.spec.postgres.mode: none", host.PostgresDirs))
	}
	major, err := majorOf(ctx, dirs[0])
	if err != nil {
		return "", err
	}
	if major < minMajor {
		return "", resource.Taken("PostgresVersion", fmt.Errorf("PostgreSQL %d in %s is too old; install %d or newer", major, dirs[0], minMajor))
	}
	return dirs[0], nil
}

// binDirs lists where the programs are, the newest first.
func (d *Driver) binDirs() []string { return host.PostgresPrograms(d.opts.BinDir) }

// majorOf asks the server program: "postgres (PostgreSQL) 15.18 (Debian …)".
func majorOf(ctx context.Context, binDir string) (int, error) {
	out, err := host.Run(ctx, host.Command{Argv: []string{filepath.Join(binDir, "postgres"), "--version"}})
	if err != nil {
		return 0, resource.Taken("PostgresMissing", fmt.Errorf("ask PostgreSQL for its version: %w", err))
	}
	_, version, _ := strings.Cut(string(out), ") ")
	digits := version[:len(version)-len(strings.TrimLeft(version, "0123456789"))]
	major, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("read PostgreSQL's version from %q: %w", strings.TrimSpace(string(out)), err)
	}
	return major, nil
}

// renameDurably moves a finished thing to its place.
func renameDurably(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return host.SyncDir(filepath.Dir(to))
}
