package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/terminal"
)

// DefaultSocket is where the daemon listens unless it is told otherwise.
const DefaultSocket = "/run/tekton/tekton.sock"

// ownSignals marks commands that handle signals themselves.
const ownSignals = "own-signals"

// Options are what the process gives to the command line.
type Options struct {
	Args   []string            // required; without the program's name
	Stdin  io.Reader           // required
	Stdout io.Writer           // required
	Stderr io.Writer           // required
	Getenv func(string) string // required
}

// Run runs one command and returns the exit code.
func Run(ctx context.Context, o Options) int {
	a := &app{in: o.Stdin, out: o.Stdout, err: o.Stderr, getenv: o.Getenv, now: time.Now, sources: map[string][]byte{}}
	root := a.root()
	root.SetArgs(o.Args)
	root.SetIn(o.Stdin)
	root.SetOut(o.Stdout)
	root.SetErr(o.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case !a.started: // cobra refused the command line
		err = &exit{code: exitUsage, err: err}
	}
	return a.report(cmd, err)
}

// app is what the commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time
	client   *client.Client
	data     view // of standard output
	talk     view // of standard error
	// sources are the files that were read, for the lines of problems.
	sources map[string][]byte

	socket, colour string
	started        bool
}

// view writes for people.
type view struct{ terminal.Style }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tekton",
		Short: "tekton converges this host to the specs in its directories",
		Long: "tekton converges this host to the specs in its directories.\n\n" +
			"Objects are named container/web, or just web. Standard output is data,\nstandard error is talk.",
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: a.start,
	}
	socket := a.getenv("TEKTON_SOCKET")
	if socket == "" {
		socket = DefaultSocket
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", socket, "socket of the daemon (TEKTON_SOCKET)")
	root.PersistentFlags().StringVar(&a.colour, "color", terminal.ColourAuto, "colours: auto, always, never (NO_COLOR)")
	root.AddGroup(
		&cobra.Group{ID: "objects", Title: "Objects:"},
		&cobra.Group{ID: "machines", Title: "Machines:"},
		&cobra.Group{ID: "host", Title: "Host:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("objects", a.getCommand(), a.describeCommand(), a.whyCommand(), a.urlCommand(), a.openCommand(), a.eventsCommand(), a.historyCommand(), a.applyCommand(), a.deleteCommand(), a.planCommand(),
		a.validateCommand(), a.waitCommand(), a.newCommand(), a.importCommand(), a.adoptCommand(), a.explainCommand(), a.schemaCommand())
	add("machines", a.agentCommand(), a.previewCommand(), a.logsCommand(), a.topCommand(), a.execCommand(), a.shellCommand(), a.cpCommand(), a.portForwardCommand(), a.restartCommand())
	add("host", a.sourceCommand(), a.releaseDeletesCommand(), a.secretCommand(), a.dataCommand(), a.backupCommand(), a.doctorCommand(), a.versionCommand(), a.manCommand())
	root.SetFlagErrorFunc(unknownFlag)
	root.SetUsageTemplate(root.UsageTemplate() + "{{if not .HasParent}}\n" + exitCodeTable() + "{{end}}")
	root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	return root
}

// unknownFlag says which flag was probably meant.
func unknownFlag(cmd *cobra.Command, err error) error {
	e, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return fmt.Errorf("%w%s", err, meant("--"+e.GetSpecifiedName(), names))
}

// start runs before each command, when its line has been understood.
func (a *app) start(cmd *cobra.Command, _ []string) error {
	if err := cmd.ValidateFlagGroups(); err != nil { // cobra would do so only after this
		return err
	}
	data, err := terminal.NewStyle(a.out, a.colour, a.getenv)
	if err != nil {
		return err
	}
	talk, err := terminal.NewStyle(a.err, a.colour, a.getenv)
	if err != nil {
		return err
	}
	a.data, a.talk = view{data}, view{talk}
	a.client = client.New(a.socket)
	a.started = true
	if cmd.Annotations[ownSignals] == "" {
		ctx, _ := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		cmd.SetContext(ctx)
	}
	return nil
}
