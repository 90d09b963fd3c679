package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/server/wire"
)

// Exit codes. exec and shell pass on the code of their command.
const (
	exitOK          = 0
	exitError       = 1
	exitChanges     = 2
	exitNotFound    = 3
	exitTimeout     = 4
	exitUnreachable = 5
	exitUsage       = 64
	exitNotStarted  = 125
	exitInterrupted = 130
)

// exitCodes is the table of `tekton --help` and of docs/cli.md.
var exitCodes = []struct {
	code int
	what string
}{
	{exitOK, "done; plan: nothing to do"},
	{exitError, "error; validate, plan, apply: the specs have problems; doctor: something is wrong with the host"},
	{exitChanges, "plan: there are changes"},
	{exitNotFound, "no such object, secret, data or source"},
	{exitTimeout, "wait, --wait: not in time"},
	{exitUnreachable, "the daemon cannot be reached"},
	{exitUsage, "wrong command line"},
	{exitNotStarted, "exec, shell: the command was not started; else its own code"},
	{exitInterrupted, "interrupted"},
}

// exit is an error with an exit code and, where there is one, a next step.
// Without err nothing is printed.
type exit struct {
	code int
	err  error
	next string
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exit{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func notFound(next, format string, args ...any) error {
	return &exit{code: exitNotFound, err: fmt.Errorf(format, args...), next: next}
}

// explain returns the exit code and the next step of an error.
func explain(err error) (code int, next string) {
	if e, ok := errors.AsType[*exit](err); ok {
		return e.code, e.next
	}
	if e, ok := errors.AsType[*client.UnreachableError](err); ok {
		return exitUnreachable, e.Next()
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		if e.Code == wire.NotFound {
			return exitNotFound, e.Next
		}
		return exitError, e.Next
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted, ""
	}
	return exitError, ""
}

// report prints an error of a command and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	code, next := explain(err)
	if code == exitInterrupted || err.Error() == "" {
		return code
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		for _, p := range e.Problems {
			fmt.Fprint(a.err, a.talk.problem(p, a.sources[p.File]))
		}
	}
	fmt.Fprintf(a.err, "%s %s\n", a.talk.Red("error:"), terminal.EscapeLines(err.Error()))
	if code == exitUsage && next == "" {
		if cmd.Runnable() {
			fmt.Fprintf(a.err, "Usage: %s\n", cmd.UseLine())
		}
		next = "see " + cmd.CommandPath() + " --help"
	}
	if next != "" {
		fmt.Fprintf(a.err, "Next step: %s\n", terminal.EscapeLines(next))
	}
	return code
}

func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.err, "%s %s\n", a.talk.Yellow("warning:"), terminal.EscapeLines(fmt.Sprintf(format, args...)))
}

func exitCodeTable() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "  %-4d %s\n", c.code, c.what)
	}
	return b.String()
}
