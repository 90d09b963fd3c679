package database

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tekton.host/pkg/host"
)

// pgRestore runs pg_restore as the database's own role, of the same name. entry
// names what it works in, dump the file.
func (d *Driver) pgRestore(ctx context.Context, entry, dump, name string) (err error) {
	u, err := d.user()
	if err != nil {
		return err
	}
	staging, err := d.stage(u, "restore."+entry)
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	archive := filepath.Join(staging, dumpFile)
	if err := copyFor(u, dump, archive); err != nil {
		return fmt.Errorf("copy the dump: %w", err)
	}
	list, err := d.restoreList(ctx, u, staging, archive)
	if err != nil {
		return err
	}
	var server, env []string
	if d.opts.System != nil {
		server, env, err = d.restoreAs(ctx, u, staging, name)
	} else if err = d.setRestoring(ctx, name, true); err == nil {
		defer func() { err = errors.Join(err, d.setRestoring(context.WithoutCancel(ctx), name, false)) }()
	}
	if err != nil {
		return err
	}
	args := append(server, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
		"--username="+name, "--dbname="+name, "--use-list="+list, archive)
	if err := d.pgTool(ctx, u, staging, env, "pg_restore", args...); err != nil {
		return fmt.Errorf("restore database %s: %w", name, err)
	}
	return nil
}

// copyFor makes a copy that the user may read.
func copyFor(u user, from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := dst.Chown(int(u.Uid), int(u.Gid)); err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// restoreList writes the list of what to restore: all but the comments of
// extensions, which only an extension's owner may set.
func (d *Driver) restoreList(ctx context.Context, u user, staging, archive string) (string, error) {
	all := filepath.Join(staging, "all")
	if err := d.pgTool(ctx, u, staging, nil, "pg_restore", "--list", "--file="+all, archive); err != nil {
		return "", fmt.Errorf("list the dump: %w", err)
	}
	content, err := os.ReadFile(all)
	if err != nil {
		return "", err
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(content), "\n"), func(line string) bool {
		return strings.Contains(line, " COMMENT - EXTENSION ")
	})
	list := filepath.Join(staging, "list")
	return list, host.WriteFile(list, []byte(strings.Join(lines, "")), 0o644)
}

// setRestoring opens, or closes, the way by which the cluster's user may be the
// role of one database over the socket.
func (d *Driver) setRestoring(ctx context.Context, name string, on bool) error {
	d.hbaMu.Lock()
	d.restoring = slices.DeleteFunc(slices.Clone(d.restoring), func(n string) bool { return n == name })
	if on {
		d.restoring = append(d.restoring, name)
	}
	d.hbaMu.Unlock()
	if _, err := d.writeFiles(); err != nil {
		return err
	}
	return d.enforce(ctx)
}
