package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/server/wire"
)

// shellCommand runs a login shell: bash where the machine has it.
var shellCommand = []string{"sh", "-c", "command -v bash >/dev/null && exec bash -l; exec sh -l"}

func (a *app) execCommand() *cobra.Command {
	var stdin, tty bool
	var workDir string
	cmd := &cobra.Command{
		Use:               "exec [-it] NAME -- COMMAND [ARGUMENT...]",
		Short:             "Run a command in an object's machine as its root",
		Long:              "Run a command in an object's machine as its root. The exit code is the command's;\n125 if it was not started. Nothing is escaped.",
		Example:           "  tekton exec web -- ps aux\n  tekton exec -i web -- psql < dump.sql\n  tekton exec -it web -- bash",
		Args:              cobra.MinimumNArgs(2),
		Annotations:       map[string]string{ownSignals: "yes"},
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			command := args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return usage("exec needs a command after --")
			}
			return a.run(cmd.Context(), args[0], wire.ExecRequest{Command: command, WorkDir: workDir}, a.streams(stdin), tty)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&stdin, "stdin", "i", false, "pass standard input on")
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	cmd.Flags().StringVarP(&workDir, "workdir", "w", "", "working directory in the machine")
	return cmd
}

func (a *app) shellCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "shell NAME",
		Short:             "Open a shell in an object's machine as its root",
		Args:              cobra.ExactArgs(1),
		Annotations:       map[string]string{ownSignals: "yes"},
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			tty := isTTY(a.in)
			return a.run(cmd.Context(), args[0], wire.ExecRequest{Command: shellCommand}, a.streams(true), tty)
		},
	}
}

func isTTY(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// streams are our own, raw.
func (a *app) streams(stdin bool) client.Streams {
	s := client.Streams{Stdout: a.out, Stderr: a.err}
	if stdin {
		s.Stdin = a.in
	}
	return s
}

// run runs a command in a machine. Its exit code becomes ours.
func (a *app) run(ctx context.Context, name string, req wire.ExecRequest, streams client.Streams, tty bool) error {
	ref, err := a.resolveOne(ctx, name)
	if err != nil {
		return notStarted(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if tty {
		req.Terminal = &wire.Terminal{Type: a.getenv("TERM")}
		restore, err := a.rawTerminal(ctx, req.Terminal, &streams)
		if err != nil {
			return notStarted(err)
		}
		defer restore()
	}
	streams.Signals = forwarded(ctx, cancel)
	code, err := a.exec(ctx, ref, req, streams)
	if err != nil {
		return err
	}
	if code != 0 {
		return &exit{code: code}
	}
	return nil
}

func (a *app) exec(ctx context.Context, ref v1alpha1.Ref, req wire.ExecRequest, streams client.Streams) (int, error) {
	code, err := a.client.Exec(ctx, ref, req, streams)
	if err != nil {
		if ctx.Err() != nil {
			return 0, &exit{code: exitInterrupted}
		}
		return 0, notStarted(err)
	}
	return code, nil
}

func notStarted(err error) error {
	_, next := explain(err)
	if code, _ := explain(err); code == exitUsage {
		return err
	}
	return &exit{code: exitNotStarted, err: err, next: next}
}

// rawTerminal hands our terminal to the command: keys go there as they come,
// and changes of size follow.
func (a *app) rawTerminal(ctx context.Context, t *wire.Terminal, s *client.Streams) (restore func(), err error) {
	f, ok := a.in.(*os.File)
	if !ok || !isTTY(f) {
		return func() {}, nil
	}
	fd := int(f.Fd())
	t.Size = size(fd)
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	resize := make(chan wire.Size)
	s.Resize = resize
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case <-ctx.Done():
				return
			case resize <- size(fd):
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		term.Restore(fd, old)
	}, nil
}

func size(fd int) wire.Size {
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		return wire.Size{}
	}
	return wire.Size{Rows: uint16(rows), Cols: uint16(cols)}
}

// forwarded passes signals on to the command. The second of a sort ends the session.
func forwarded(ctx context.Context, cancel func()) <-chan os.Signal {
	in := make(chan os.Signal, 4)
	signal.Notify(in, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	out := make(chan os.Signal, 4)
	go func() {
		defer signal.Stop(in)
		seen := map[os.Signal]bool{}
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-in:
				if seen[sig] {
					cancel()
					return
				}
				seen[sig] = true
				out <- sig
			}
		}
	}()
	return out
}
