package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/doctor"
	"tekton.host/pkg/doctor/onhost"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
)

// examination is one run of doctor.
type examination struct {
	*app
	look              onhost.Options
	deep, fix, dryRun bool
	format            format
}

func (a *app) doctorCommand() *cobra.Command {
	e := &examination{app: a}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say whether this host is one that tekton runs well on, and what to do where it is not",
		Long: "Say whether this host is one that tekton runs well on: versions with known flaws, kernel,\n" +
			"addresses, ports, permissions, disk, the daemon and the sources. It only looks, also without\n" +
			"a daemon; what only root can see it says. --deep also starts a throw-away machine, in an\n" +
			"installation of its own beside the real one, to see what this host's firewall does to it.\n\n" +
			"Exit codes: 0 no error was found, warnings at most; 1 an error was found, or a change of --fix failed.",
		Example: "  sudo tekton doctor --deep\n  sudo tekton doctor --fix --dry-run\n  tekton doctor -o json | jq '.findings[] | select(.level != \"ok\")'",
		Args:    cobra.NoArgs,
	}
	output := formatFlag(cmd, asJSON, asYAML)
	cmd.Flags().StringVar(&e.look.Config, "config", "", "the daemon's Host file (default "+onhost.DefaultConfig+", where it is there)")
	cmd.Flags().BoolVar(&e.deep, "deep", false, "start a throw-away machine and try the firewall from inside (needs root, takes seconds)")
	cmd.Flags().BoolVar(&e.fix, "fix", false, "do what findings propose: each is safe, shown before, and done once; then look again")
	cmd.Flags().BoolVar(&e.dryRun, "dry-run", false, "with --fix: only show it")
	cmd.MarkFlagFilename("config", "yaml", "yml")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if e.format, err = output(); err != nil {
			return err
		}
		if e.dryRun && !e.fix {
			return usage("--dry-run is for --fix")
		}
		if (e.deep || e.fix && !e.dryRun) && os.Geteuid() != 0 {
			return &exit{code: exitError, err: fmt.Errorf("--deep and --fix change this host, which needs root"), next: "sudo " + cmd.CommandPath() + " …"}
		}
		if cmd.Flags().Changed("socket") || a.getenv("TEKTON_SOCKET") != "" {
			e.look.Socket = a.socket
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		e.look.Programs, e.look.Version = filepath.Dir(self), wire.Build().Version
		return e.run(cmd.Context())
	}
	return cmd
}

func (e *examination) run(ctx context.Context) error {
	facts := onhost.Look(ctx, e.look)
	report := doctor.Judge(facts)
	if e.fix {
		changes := report.Changes()
		for _, c := range changes {
			fmt.Fprintf(e.err, "%s\n", terminal.EscapeLines(c.String()))
			if e.dryRun {
				continue
			}
			if err := onhost.Mend(ctx, c, facts.Host, e.look.Programs); err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
		}
		if len(changes) == 0 {
			fmt.Fprintln(e.err, "There is nothing that --fix could do.")
		} else if !e.dryRun {
			facts = onhost.Look(ctx, e.look)
		}
	}
	if e.deep {
		trial := onhost.Try(ctx, facts.Host, e.look.Programs)
		facts.Trial, facts.TrialLeft = &trial, ""
	}
	report = doctor.Judge(facts)
	if err := e.show(report); err != nil {
		return err
	}
	if n := report.Count(doctor.Error); n > 0 {
		return &exit{code: exitError} // it has been shown
	}
	return nil
}

func (e *examination) show(r doctor.Report) error {
	if e.format != asTable {
		return e.write(e.format, r)
	}
	group := ""
	for _, f := range r.Findings {
		if f.Group != group {
			group = f.Group
			fmt.Fprintln(e.out, e.data.Bold(group))
		}
		// What others said is escaped; the colour is ours.
		fmt.Fprintf(e.out, "  %s %s: %s\n", e.sign(f.Level), terminal.Escape(f.Check), terminal.Escape(f.Says))
		if f.Level == doctor.OK {
			continue
		}
		for _, more := range []struct{ name, text string }{{"where", f.Where}, {"fix", f.Fix}} {
			if more.text != "" {
				fmt.Fprintf(e.out, "      %s: %s\n", more.name, terminal.Escape(more.text))
			}
		}
	}
	var counts []string
	for _, c := range []struct {
		level doctor.Level
		one   string
	}{{doctor.Error, "error"}, {doctor.Warning, "warning"}} {
		counts = append(counts, plural(r.Count(c.level), c.one))
	}
	counts = append(counts, fmt.Sprintf("%d not looked at", r.Count(doctor.Unknown)), fmt.Sprintf("%d fine", r.Count(doctor.OK)))
	fmt.Fprintln(e.out, strings.Join(counts, ", "))
	return nil
}

// sign is what a level looks like: a mark on a terminal, a word elsewhere.
func (e *examination) sign(l doctor.Level) string {
	type look struct {
		mark, word string
		paint      func(string) string
	}
	s := map[doctor.Level]look{
		doctor.OK:      {"✓", "ok     ", e.data.Green},
		doctor.Unknown: {"?", "unknown", e.data.Faint},
		doctor.Warning: {"!", "warning", e.data.Yellow},
		doctor.Error:   {"✗", "error  ", e.data.Red},
	}[l]
	if terminal.IsTerminal(e.out) {
		return s.paint(s.mark)
	}
	return s.paint(s.word)
}
