package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/backup"
	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
)

// standard is the name of standard input and output.
const standard = "-"

func (a *app) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Make one archive of what of this host cannot be made again; check it, put it back",
		Long: "Make one archive of what of this host cannot be made again; check it, put it back.\n\n" +
			"In it are: the Host file and the files that it names, specs of directories, the ledger and\n" +
			"the installation's identity, secrets and passwords, volumes, a dump of each database,\n" +
			"certificates, what is in the trash, events and history. Not in it is what is made again:\n" +
			"images, closures, clones of repositories; nor what machines wrote outside of volumes, and logs.\n\n" +
			"An archive holds secrets. It is a tar stream, so tar lists it and takes single files out.",
	}
	cmd.AddCommand(a.backupCreateCommand(), a.backupVerifyCommand(), a.backupHostFileCommand(), a.backupRestoreCommand())
	return cmd
}

// needRoot also keeps the secrets that root reads out of core dumps.
func needRoot(cmd *cobra.Command, why string) error {
	if os.Geteuid() == 0 {
		return host.NoDump()
	}
	return &exit{code: exitError, err: errors.New(why + ", which needs root"), next: "sudo " + cmd.CommandPath() + " …"}
}

func (a *app) backupCreateCommand() *cobra.Command {
	var also []string
	var compress string
	cmd := &cobra.Command{
		Use:   "create FILE|-",
		Short: "Write an archive to a file, or to standard output",
		Long: "Write an archive to a file of mode 0600, which appears when it is whole, or to standard\noutput, where one that was cut short has no end, which verify and restore see.\n\n" +
			"The host goes on meanwhile. Of each database there is what it held at one moment; of each\nfile of a volume what it held when it was read, and files that changed just then are told.",
		Example: "  sudo tekton backup create /srv/backup/host.tar.gz\n  sudo tekton backup create - | ssh backup@elsewhere 'cat > host.tar.gz'\n" +
			"  sudo tekton backup create --compress none - | restic backup --stdin --stdin-filename host.tar",
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringArrayVar(&also, "also", nil, "a file or directory beside; may be repeated; back it comes where it is named again")
	cmd.Flags().StringVar(&compress, "compress", "gzip", "gzip, or none: for programs that compress and find what they know themselves")
	cmd.RegisterFlagCompletionFunc("compress", cobra.FixedCompletions([]string{"gzip", "none"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if compress != "gzip" && compress != "none" {
			return usage("--compress is gzip or none, not %q", compress)
		}
		if args[0] == standard && terminal.IsTerminal(a.out) {
			return usage("an archive is not written to a terminal")
		}
		if err := needRoot(cmd, "a backup reads all of the host's data"); err != nil {
			return err
		}
		paths, err := absolute(also)
		if err != nil {
			return err
		}
		return a.backup(cmd.Context(), args[0], paths, compress == "none")
	}
	return cmd
}

func absolute(paths []string) ([]string, error) {
	out := slices.Clone(paths)
	for i, p := range out {
		var err error
		if out[i], err = filepath.Abs(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// backup makes an archive of the daemon's host.
func (a *app) backup(ctx context.Context, to string, also []string, plain bool) error {
	info, err := a.client.Backup(ctx)
	if err != nil {
		return err
	}
	places := backup.Places{Host: info.Host, Also: also}
	l := places.Layout()
	lock := flock.New(l.BackupLock())
	if locked, err := lock.TryLock(); err != nil || !locked {
		return errors.Join(errors.New("another backup of this host is being made"), err)
	}
	defer lock.Unlock()
	// Dumps that one which was killed has left; and ours.
	if err := os.RemoveAll(l.Backup()); err != nil {
		return err
	}
	defer os.RemoveAll(l.Backup())
	version, err := a.client.Version(ctx)
	if err != nil {
		return err
	}
	sources, err := a.client.Sources(ctx)
	if err != nil {
		return err
	}
	name, _ := os.Hostname()
	m := a.meter("reading", backup.Size(places))
	defer m.telling(ctx, m.lines)()
	options := backup.CreateOptions{
		Places: places, HostFile: info.HostFile, Plain: plain, Remarks: suspended(sources),
		Head:  backup.Head{Tekton: version.Version, Installation: version.Installation, Instance: version.Instance, Hostname: name, MachineID: machineID()},
		Began: m.begin, Progress: m.add,
		Databases: func(ctx context.Context) ([]string, error) {
			now, err := a.client.Backup(ctx)
			return now.Databases, err
		},
		Dump: func(ctx context.Context, database string) (string, error) {
			return filepath.Join(l.Backup(), database), a.dump(ctx, m, database)
		},
	}
	if to == standard {
		made, err := backup.Create(ctx, a.out, options)
		return a.made(to, made, err)
	}
	made, err := createFile(to, func(w io.Writer) (backup.Manifest, error) { return backup.Create(ctx, w, options) })
	return a.made(to, made, err)
}

// suspended says of which sources a host that an archive is put back on follows again.
func suspended(sources []v1alpha1.SourceStatus) (remarks []string) {
	for _, s := range sources {
		if s.Git != nil && s.Git.Suspended {
			remarks = append(remarks, fmt.Sprintf("source %s is suspended, which is not in the archive: put back, it follows its branch again", s.Name))
		}
	}
	return remarks
}

// unwholeSuffix is that of an archive that lacks something: it does not take the
// place of a whole one.
const unwholeSuffix = ".incomplete"

// createFile has a file appear once all of it is durable. What was left of ones
// that were killed goes.
func createFile(path string, fill func(io.Writer) (backup.Manifest, error)) (m backup.Manifest, err error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return m, fmt.Errorf("%s is there, and is no file", path)
	}
	dir := filepath.Dir(path)
	removeUnfinished(dir, filepath.Base(path))
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithPermissions(0o600), renameio.IgnoreUmask())
	if err != nil {
		return m, err
	}
	defer f.Cleanup()
	if m, err = fill(f); err != nil {
		return m, err
	}
	if len(m.Missing) > 0 {
		err = errors.Join(f.Sync(), os.Rename(f.Name(), path+unwholeSuffix))
	} else {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return m, err
	}
	return m, host.SyncDir(dir)
}

// removeUnfinished removes what a backup that was killed has left beside the file:
// a dot, its name, a number.
func removeUnfinished(dir, base string) {
	entries, _ := os.ReadDir(dir) // the file cannot be made there either
	for _, e := range entries {
		number, is := strings.CutPrefix(e.Name(), "."+base)
		if is && number != "" && strings.Trim(number, "0123456789") == "" && e.Type().IsRegular() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// dump waits until the daemon has dumped a database.
func (a *app) dump(ctx context.Context, m *meter, database string) error {
	for {
		p, err := a.client.BackupDatabase(ctx, database)
		if e, ok := errors.AsType[*wire.Error](err); ok {
			switch e.Code {
			case wire.NotFound:
				return fmt.Errorf("%w: %w", backup.ErrNoDatabase, err)
			case wire.Conflict:
				return fmt.Errorf("%w: %w", backup.ErrNotDumped, err)
			}
		}
		if err != nil || p.Done {
			return err
		}
		m.say(fmt.Sprintf("%s of the dump written, the database has %s", terminal.Bytes(p.Written), terminal.Bytes(p.Size)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(reconnectPause):
		}
	}
}

// made says what came of a backup, on standard error: the archive may be on the other.
func (a *app) made(to string, m backup.Manifest, err error) error {
	if err != nil {
		return err
	}
	for _, r := range m.Remarks {
		a.warn("%s", r)
	}
	switch {
	case to == standard:
		to = "standard output"
	case len(m.Missing) > 0:
		to += unwholeSuffix
	}
	fmt.Fprintf(a.err, "Backup of %s written to %s.\n", summary(m), terminal.Escape(to))
	return notWhole(m)
}

// notWhole is the error of an archive that lacks something.
func notWhole(m backup.Manifest) error {
	if n := len(m.Missing); n > 0 {
		return fmt.Errorf("the archive is not whole: %s missing, see above; mend that and make another one", plural(n, "part"))
	}
	return nil
}

// summary says what is in an archive, in a few words.
func summary(m backup.Manifest) string {
	var files, bytes int64
	databases := 0
	for _, p := range m.Parts {
		files, bytes = files+p.Entries, bytes+p.Bytes
		if strings.HasPrefix(p.Name, backup.GroupDatabases+"/") {
			databases++
		}
	}
	return fmt.Sprintf("%s (%s), %s: %s, %s, %s", terminal.Escape(m.Hostname), terminal.Escape(m.Installation), m.CreatedAt.Local().Format(time.DateTime),
		plural(int(files), "file"), terminal.Bytes(bytes), plural(databases, "database"))
}

func machineID() string {
	id, _ := os.ReadFile("/etc/machine-id") // a host without one is none of those that have one
	return strings.TrimSpace(string(id))
}
