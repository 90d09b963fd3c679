package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/migrate"
)

func (a *app) importCommand() *cobra.Command {
	var from, to, domain, stateDir string
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Write specs for containers of agent.sh, preview.sh and nixos-container",
		Long: "Reads the tracking files of agent.sh and preview.sh and the configuration of all other NixOS\n" +
			"containers, and prints a spec for each, or writes them into a directory. Standard error says of\n" +
			"each what is taken over and what is not. Nothing on the host is changed: every spec is disabled,\n" +
			"and begins with the commands that bring its data over.",
		Example: "  tekton import | less\n  tekton import --to /root/imported",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&to, "to", "", "the directory to write a file a container into; no file is replaced")
	cmd.Flags().StringVar(&from, "root", "/", "the host's root, or a copy of it")
	cmd.Flags().StringVar(&domain, "domain", "", "the domain of previews; default: PREVIEW_DOMAIN of /var/secrets/preview.env")
	cmd.Flags().StringVar(&stateDir, "state-dir", "", "tekton's state directory; default: /var/lib/tekton")
	cmd.MarkFlagDirname("to")
	cmd.RunE = func(*cobra.Command, []string) error {
		found, err := migrate.Read(migrate.Options{Root: os.DirFS(from), Domain: domain, StateDir: stateDir})
		if err != nil {
			return err
		}
		specs, err := a.imported(found, to)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "%s found, %s written\n", plural(len(found), "container"), plural(specs, "spec"))
		return nil
	}
	return cmd
}

// imported writes the specs and tells of each container.
func (a *app) imported(found []migrate.Container, to string) (specs int, err error) {
	for _, c := range found {
		fmt.Fprintf(a.err, "%s (%s)\n", terminal.Escape(c.Name), terminal.Escape(c.At))
		a.notes("taken over", c.Taken)
		a.notes("not taken over", c.Left)
		if c.Object == nil {
			continue
		}
		name, text, err := c.File()
		if err == nil && to == "" {
			if specs > 0 {
				io.WriteString(a.out, "---\n")
			}
			_, err = a.out.Write(text)
		} else if err == nil {
			err = writeNew(to, name, text)
		}
		if err != nil {
			return specs, err
		}
		specs++
	}
	return specs, nil
}

func (a *app) notes(what string, notes []migrate.Note) {
	for _, n := range notes {
		fmt.Fprintf(a.err, "  %s: %s: %s\n", what, terminal.Escape(n.At), terminal.Escape(n.Text))
	}
}

// writeNew writes a file that is not there yet.
func writeNew(dir, name string, text []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s/%s is there already; move it away, or import into another directory", dir, name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
