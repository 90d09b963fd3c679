package setup

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/job"
	"tekton.host/pkg/machine/handover"
)

const (
	// A boot takes from 0.2 s on an idle host to many on a busy one; a look costs 20 ms of CPU.
	firstPause = 20 * time.Millisecond
	lastPause  = 200 * time.Millisecond
	// afterwards bounds what is done about a unit when the deadline is over.
	afterwards = 10 * time.Second
	// serviceLines of the journal tell why a service did not start.
	serviceLines = 20
)

// awaitSystemd waits until the machine's systemd takes requests. Before, its
// users may not be there either.
func (a *attempt) awaitSystemd(ctx context.Context) error {
	if !a.Setup.Boots {
		return nil
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		_, err := a.output(ctx, "systemctl", "show", "--property=Version")
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if !a.inside.alive() {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runUnit runs a oneshot unit to its end; its journal goes to the log.
func (a *attempt) runUnit(ctx context.Context, unit string) error {
	if err := a.reload(ctx); err != nil {
		return err
	}
	defer a.follow(ctx, unit)()
	_, err := a.output(ctx, append([]string{"systemctl"}, a.again(ctx, unit)...)...)
	if ctx.Err() != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
		defer cancel()
		a.output(late, "systemctl", "stop", "--", unit)
		return ctx.Err()
	}
	if err != nil {
		return a.explain(ctx, unit, err)
	}
	return nil
}

// again is how a setup is run, once more where it has run before, or where one of
// an attempt that was cut short is under way. Services that require it are not to
// be stopped by that: it may fail.
func (a *attempt) again(ctx context.Context, unit string) []string {
	state, _ := a.output(ctx, "systemctl", "show", "--property=ActiveState", "--value", "--", unit)
	if state == "inactive" || state == "failed" {
		return []string{"start", "--", unit}
	}
	return []string{"restart", "--job-mode=ignore-requirements", "--", unit}
}

// reload has systemd read delivered units anew that it has read before. It costs
// 0.2 s of CPU, and more on a busy host, so systemd is asked whether it has to:
// of a first start, and of a commit that changes only code, it need not.
func (a *attempt) reload(ctx context.Context) error {
	show := []string{"systemctl", "show", "--property=LoadState,NeedDaemonReload", "--"}
	units := len(show)
	for _, f := range a.Setup.Files {
		if strings.Contains(f.Path, "/systemd/") {
			show = append(show, path.Base(f.Path))
		}
	}
	if a.reloaded || len(show) == units {
		return nil
	}
	said, err := a.output(ctx, show...)
	if err != nil || strings.Contains(said, "NeedDaemonReload=yes") || strings.Contains(said, "LoadState=not-found") {
		_, err = a.output(ctx, "systemctl", "daemon-reload")
	}
	a.reloaded = err == nil
	return err
}

// explain adds how a unit ended.
func (a *attempt) explain(ctx context.Context, unit string, err error) error {
	how, errShow := a.output(ctx, "systemctl", "show", "--property=ActiveState,Result,ExecMainStatus", "--", unit)
	if errShow != nil {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(strings.Fields(how), ", "))
}

// follow writes to the log what a unit says from now on, until stop is called.
func (a *attempt) follow(ctx context.Context, unit string) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	argv := []string{"journalctl", "--no-pager", "--lines=all", "--output=cat", "--unit=" + unit}
	// "-- cursor: s=…" is the last line of an answer that has entries.
	if text, err := a.output(ctx, "journalctl", "--no-pager", "--lines=1", "--output=cat", "--show-cursor"); err == nil {
		if _, cursor, found := strings.Cut(text[strings.LastIndexByte(text, '\n')+1:], "-- cursor: "); found {
			argv = append(argv, "--after-cursor="+cursor)
		}
	}
	said := 0
	var following sync.WaitGroup
	following.Go(func() {
		a.inside.do(ctx, handover.Work{Command: append(slices.Clone(argv), "--follow")}, nil, func(line string) {
			said++
			a.Say("%s", line)
		})
	})
	return func() {
		late, done := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
		defer done()
		a.output(late, "journalctl", "--sync")
		cancel()
		following.Wait()
		// What came too late to be followed.
		a.inside.do(late, handover.Work{Command: argv}, nil, func(line string) {
			if said--; said < 0 {
				a.Say("%s", line)
			}
		})
	}
}

// recover starts services with what was set up before. That some do not start is
// no reason not to go on.
func (a *attempt) recover(ctx context.Context) {
	if err := a.restart(ctx, "restart"); err != nil {
		a.Say("tekton: %v", err)
		return
	}
	before := *a.state.Done
	before.Boot, before.Files, before.Services = a.Setup.Boot, a.Setup.Files, a.Setup.Services
	a.state.Started, a.state.StartedBy = &before, a.Header.Attempt
	if err := a.Succeed(a.state); err != nil {
		a.Say("tekton: %v", err)
	}
}

// startServices restarts the services; again: only those that do not run.
func (a *attempt) startServices(ctx context.Context, again bool) error {
	verb := "restart"
	if again {
		verb = "start"
	}
	err := a.restart(ctx, verb)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.state.Tried = &a.Setup
	if err == nil {
		a.state.Started, a.state.StartedBy = &a.Setup, a.Header.Attempt
	}
	if errState := a.Succeed(a.state); errState != nil {
		return errState
	}
	return err
}

// restart goes through all services, also when one does not start.
func (a *attempt) restart(ctx context.Context, verb string) error {
	if len(a.Setup.Services) == 0 {
		return nil
	}
	if err := a.reload(ctx); err != nil {
		return err
	}
	var failed error
	for _, unit := range a.Setup.Services {
		_, err := a.output(ctx, "systemctl", verb, "--", unit)
		if err == nil {
			a.Say("tekton: %s of %s done", verb, unit)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		said, _ := a.output(ctx, "journalctl", fmt.Sprintf("--lines=%d", serviceLines), "--output=cat", "--no-pager", "--unit="+unit)
		for line := range strings.Lines(said) {
			a.Say("%s: %s", unit, line)
		}
		if failed == nil {
			failed = job.Failed(reasonService, "%w", a.explain(ctx, unit, err))
		}
	}
	return failed
}
