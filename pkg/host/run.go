package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// maxOutput bounds what is kept of a command's output.
	maxOutput = 1 << 20
	// stderrTail is how much of stderr enters an error.
	stderrTail = 2 << 10
	// killDelay between the end of the context and SIGKILL to the command's group.
	killDelay = 2 * time.Second
)

// Command is one run of a program: argv, never a shell.
type Command struct {
	Argv  []string
	Stdin string
	Env   []string // added to PATH, LC_ALL=C
	// Dir is the working directory; empty keeps ours, which another Credential may not be able to enter.
	Dir string
	// Credential to run as; nil keeps ours.
	Credential *syscall.Credential
	// Stdout takes the output as it comes, instead of the result; an error of it ends the command.
	Stdout io.Writer
	// Stderr gets what is said there as it comes, too.
	Stderr io.Writer
	// DiesWithUs kills the program when this process is gone, also by SIGKILL.
	DiesWithUs bool
}

// RunError is a command that failed: argv, how it ended, and the end of what it said.
type RunError struct {
	Argv   []string
	Err    error
	Stderr string
}

func (e *RunError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %v", strings.Join(e.Argv, " "), e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.Argv, " "), e.Err, e.Stderr)
}

func (e *RunError) Unwrap() error { return e.Err }

// Run runs the command to its end and returns its standard output. The command
// gets its own process group, which is killed when ctx ends. Secrets go to
// Stdin, never to Argv: Argv enters errors and logs.
func Run(ctx context.Context, c Command) ([]byte, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("run: no command")
	}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, c.Env...)
	cmd.Dir = c.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.Credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	if c.DiesWithUs {
		// The kernel means the thread that started the program: it must live until the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if c.Stdin != "" {
		cmd.Stdin = strings.NewReader(c.Stdin)
	}
	stdout, stderr := Beginning{Max: maxOutput}, Beginning{Max: maxOutput}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(&stderr, c.Stderr)
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		tail := strings.TrimSpace(stderr.String())
		if len(tail) > stderrTail {
			tail = "…" + tail[len(tail)-stderrTail:]
		}
		return stdout.Bytes(), &RunError{Argv: c.Argv, Err: err, Stderr: tail}
	}
	return stdout.Bytes(), nil
}

// Shorten returns at most the first n bytes of a text, and marks that there were more.
func Shorten(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// Beginning keeps the first Max bytes of what is written, and takes the rest.
// It embeds no buffer: io.Copy would find its ReadFrom, which knows no bound.
type Beginning struct {
	Max  int
	kept bytes.Buffer
}

func (b *Beginning) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), max(b.Max-b.kept.Len(), 0))])
	return len(p), nil
}

// Bytes are what was kept.
func (b *Beginning) Bytes() []byte { return b.kept.Bytes() }

func (b *Beginning) String() string { return b.kept.String() }
