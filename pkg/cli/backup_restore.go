package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/backup"
	"tekton.host/pkg/doctor/onhost"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

// openArchive opens one, or standard input.
func (a *app) openArchive(name string) (io.Reader, func() error, error) {
	if name == standard {
		return a.in, func() error { return nil }, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

func (a *app) backupVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify FILE|-", Short: "Read an archive to its end, and say what is in it, or that it is not whole", Args: cobra.ExactArgs(1),
		Example: "  tekton backup verify host.tar.gz\n  restic dump latest host.tar | tekton backup verify -",
	}
	output := formatFlag(cmd, asJSON, asYAML)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := output()
		if err != nil {
			return err
		}
		in, end, err := a.openArchive(args[0])
		if err != nil {
			return err
		}
		defer end()
		m, err := backup.Verify(in)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if f != asTable {
			return a.write(f, m)
		}
		var rows [][]terminal.Cell
		for _, p := range m.Parts {
			rows = append(rows, []terminal.Cell{terminal.Text(p.Name), terminal.Text(fmt.Sprint(p.Entries)), terminal.Text(terminal.Bytes(p.Bytes))})
		}
		a.table([]string{"PART", "FILES", "SIZE"}, rows)
		for _, r := range m.Remarks {
			a.warn("%s", r)
		}
		if err := notWhole(m); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		fmt.Fprintf(a.err, "A whole backup of %s, made by tekton %s.\n", summary(m), terminal.Escape(m.Tekton))
		return nil
	}
	return cmd
}

func (a *app) backupHostFileCommand() *cobra.Command {
	return &cobra.Command{
		Use: "host-file FILE|-", Short: "Print the Host file of an archive", Args: cobra.ExactArgs(1),
		Example: "  sudo tekton backup host-file host.tar.gz > /etc/tekton/host.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, end, err := a.openArchive(args[0])
			if err != nil {
				return err
			}
			defer end()
			text, err := backup.HostFile(in)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = a.out.Write(text)
			return err
		},
	}
}

func (a *app) backupRestoreCommand() *cobra.Command {
	var also []string
	var config string
	cmd := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Put an archive back on a host that has nothing of tekton's yet",
		Long: "Put an archive back, while tektond does not run, where nothing of tekton's is yet. Where\nthings go the Host file of this host says; take the one of the archive and change in it what is\n" +
			"different here (addresses, ports, directories): tekton backup host-file FILE.\n\n" +
			"The archive is checked first, so one that is not whole changes nothing. Cut short, the same\ncommand goes on. Databases come back when tektond runs and makes them, before their machines start.",
		Example: "  sudo tekton backup host-file host.tar.gz > /etc/tekton/host.yaml\n  sudo tekton backup restore host.tar.gz\n  sudo systemctl start tektond",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&config, "config", onhost.DefaultConfig, "the Host file of this host")
	cmd.Flags().StringArrayVar(&also, "also", nil, "a path that create was given with --also, and that is to be there again; may be repeated")
	cmd.MarkFlagFilename("config", "yaml", "yml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := needRoot(cmd, "a backup is put back with its owners"); err != nil {
			return err
		}
		h, err := hostOf(config)
		if errors.Is(err, fs.ErrNotExist) {
			return &exit{code: exitError, err: err, next: fmt.Sprintf("tekton backup host-file %s > %s, and change in it what is different on this host", args[0], config)}
		}
		if err != nil {
			return err
		}
		paths, err := absolute(also)
		if err != nil {
			return err
		}
		return a.restore(cmd.Context(), args[0], backup.Places{Host: h, Also: paths})
	}
	return cmd
}

// hostOf reads a Host file as the daemon does.
func hostOf(path string) (v1alpha1.HostSpec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return v1alpha1.HostSpec{}, err
	}
	h, problems := spec.DecodeHost(path, data)
	if len(problems) > 0 {
		return v1alpha1.HostSpec{}, &wire.Error{Code: wire.Invalid, Message: path + " is no good Host file", Problems: problems}
	}
	h.Default()
	return h.Spec, h.Validate().ToAggregate()
}

func (a *app) restore(ctx context.Context, name string, places backup.Places) error {
	in, end, err := a.openArchive(name)
	if err != nil {
		return err
	}
	defer end()
	m := a.meter("writing", 0)
	stop := m.telling(ctx, m.lines)
	done, err := backup.Restore(ctx, backup.RestoreOptions{Places: places, Archive: in, MachineID: machineID(), Progress: m.add})
	stop()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, part := range slices.Sorted(maps.Keys(done.Skipped)) {
		a.warn("%s was left out: %s", part, done.Skipped[part])
	}
	fmt.Fprintf(a.err, "Put back: %s. Start tektond: it makes the rest.\n", summary(done.Manifest))
	return nil
}
