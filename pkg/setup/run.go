package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/job"
	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/resource"
)

// Reasons of a failed setup.
const (
	reasonFailed  = "SetupFailed"
	reasonService = "ServiceFailed"
	reasonSeed    = "SeedFailed"
	reasonEnded   = "MachineEnded"
)

// Run makes the attempt of a machine's directory. It is the whole work of the
// supervised process; what it says on out is the setup's log.
func Run(ctx context.Context, dir string, out io.Writer) error {
	if err := host.NoDump(); err != nil { // it reads secrets
		return err
	}
	a := &attempt{Attempt: job.Attempt{Dir: dir, Out: out, Failed: reasonFailed, Timeout: resource.ReasonSetupTimeout}}
	a.Progress = func() any { return progress{Phase: a.Phase()} }
	return a.Attempt.Run(ctx, jobVersion, &a.description, a.work, func() error { return nil })
}

type attempt struct {
	job.Attempt
	description
	inside *inside
	state  state
	// reloaded: systemd knows the units that were delivered.
	reloaded bool
	// telling is the log of units that have ended already.
	telling sync.WaitGroup
}

// work does what is left to be done.
func (a *attempt) work(ctx context.Context) (err error) {
	if _, err := a.Last(&a.state); err != nil {
		return err
	}
	if a.inside, err = enter(a.Leader, a.LeaderStart); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrProcessDone) {
			return job.Failed(reasonEnded, "the machine ended meanwhile: %w", err)
		}
		return err
	}
	defer a.inside.close()
	if err := a.steps(ctx, a.state.plan(a.Setup)); err != nil {
		if ctx.Err() == nil && a.inside.ended(err) {
			return job.Failed(reasonEnded, "the machine ended meanwhile: %w", err)
		}
		return err
	}
	return nil
}

func (a *attempt) steps(ctx context.Context, t todo) error {
	defer a.telling.Wait()
	a.Begin(resource.SetupDelivering)
	if err := a.awaitSystemd(ctx); err != nil {
		return err
	}
	if t.recover {
		a.recover(ctx)
	}
	if t.work {
		if err := a.renew(ctx, t.seed); err != nil {
			// Whoever asks for an end does not wait for more.
			if t.keep && a.inside.alive() && !errors.Is(err, context.Canceled) {
				late, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackTime)
				defer cancel()
				a.putBack(late)
			}
			return err
		}
	} else if err := a.deliver(ctx, a.Setup, false); err != nil {
		return err
	}
	if !t.start {
		return nil
	}
	a.Begin(resource.SetupStarting)
	return a.startServices(ctx, t.again)
}

// renew brings the files and sets the machine up with them.
func (a *attempt) renew(ctx context.Context, seed bool) error {
	a.state.Begun = &a.Setup
	if err := a.Succeed(a.state); err != nil {
		return err
	}
	if err := a.deliver(ctx, a.Setup, true); err != nil {
		return err
	}
	if err := a.replaceCheckout(ctx, a.Setup.Checkout); err != nil {
		return err
	}
	a.Begin(resource.SetupRunning)
	if err := a.setup(ctx); err != nil {
		return err
	}
	if seed {
		a.Begin(resource.SetupSeeding)
		if err := a.seed(ctx); err != nil {
			return err
		}
	}
	a.state.Done, a.state.DoneAt = &a.Setup, time.Now()
	return a.Succeed(a.state)
}

// putBackTime is that for a whole checkout, also where a setup has used up its
// own: half of one would be a mixture of two revisions.
const putBackTime = 5 * time.Minute

// putBack brings the files of what was set up before: when its services end, what
// starts again are they. What a failed setup has done beside stays done.
func (a *attempt) putBack(ctx context.Context) {
	s := *a.state.Done
	err := errors.Join(a.deliver(ctx, s, false), a.replaceCheckout(ctx, s.Checkout))
	if _, stale := a.reload(ctx, s.Files); err != nil || stale != nil {
		err = errors.Join(err, stale)
		a.Say("tekton: the files of revision %s are not all back: %v", s.Revision, err)
	}
}

// deliver writes the files of a setup.
func (a *attempt) deliver(ctx context.Context, s resource.Setup, work bool) error {
	a.reloaded = false
	if len(s.Files) == 0 {
		return nil
	}
	var w handover.Work
	for _, f := range s.Files {
		if f.Signal && !work {
			continue
		}
		data, err := content(f)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
		w.Files = append(w.Files, handover.WorkFile{Path: f.Path, Mode: f.Mode, User: f.User, Data: data})
	}
	return a.run(ctx, "deliver files", w)
}

// content of a file, with its secrets.
func content(f resource.SetupFile) ([]byte, error) {
	env, err := variables(f)
	switch {
	case err != nil:
		return nil, err
	case len(env) > 0:
		return []byte(handover.FormatEnvironment(env)), nil
	case len(f.Secrets) > 0:
		return launch.ReadSecret(f.Secrets[0].File)
	}
	return []byte(f.Content), nil
}

// variables of a file that is an environment.
func variables(f resource.SetupFile) ([]string, error) {
	env := append([]string(nil), f.Environment...)
	for _, s := range f.Secrets {
		if s.Env == "" {
			continue
		}
		value, err := launch.ReadSecret(s.File)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.Name, err)
		}
		kv, err := launch.SecretVariable(s, string(value))
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.Name, err)
		}
		env = append(env, kv)
	}
	return env, nil
}

// setup runs the setup itself.
func (a *attempt) setup(ctx context.Context) error {
	switch {
	case a.Setup.Unit != "":
		return a.runUnit(ctx, a.Setup.Unit)
	case len(a.Setup.Command) == 0:
		return nil
	}
	w := handover.Work{Command: a.Setup.Command, User: a.Setup.User, WorkDir: a.Setup.WorkDir, Inherit: !a.Setup.Boots}
	for _, f := range a.Setup.Files {
		env, err := variables(f)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
		w.Environment = append(w.Environment, env...)
	}
	return a.run(ctx, strings.Join(a.Setup.Command, " "), w)
}

// seed fills the database. That it did is written together with the setup's end.
func (a *attempt) seed(ctx context.Context) error {
	err := a.runUnit(ctx, a.Setup.Database.Seed)
	if err != nil && ctx.Err() == nil && !a.inside.ended(err) {
		return job.Failed(reasonSeed, "%w", err)
	}
	a.state.Seeded = a.Setup.Database.OID
	return err
}

// run does a piece of work inside; what it says goes to the log.
func (a *attempt) run(ctx context.Context, what string, w handover.Work) error {
	return a.runWith(ctx, what, w, nil)
}

func (a *attempt) runWith(ctx context.Context, what string, w handover.Work, in io.Reader) error {
	last := ""
	err := a.inside.do(ctx, w, in, func(line string) {
		last = line
		a.Say("%s", line)
	})
	if err == nil {
		return nil
	}
	if last != "" {
		return fmt.Errorf("%s: %w: %s", what, err, last)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// output is what a program inside says, of which not more than maxOutput is kept.
func (a *attempt) output(ctx context.Context, argv ...string) (string, error) {
	var b bytes.Buffer
	err := a.inside.do(ctx, handover.Work{Command: argv}, nil, func(line string) {
		if b.Len() < maxOutput {
			b.WriteString(line + "\n")
		}
	})
	text := strings.TrimSpace(b.String())
	if err != nil {
		first, _, _ := strings.Cut(text, "\n")
		return text, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, first)
	}
	return text, nil
}

const maxOutput = 64 << 10
