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
	"tekton.host/pkg/resource"
)

const (
	// A boot takes from 0.1 s on an idle host to many on a busy one. A look is a
	// system call; to ask systemctl costs 20 ms of CPU.
	firstPause = 5 * time.Millisecond
	lastPause  = 200 * time.Millisecond
	// privateSocket is where systemctl asks systemd. It is made when the boot begins.
	privateSocket = "run/systemd/private"
	// afterwards bounds what is done about a unit when the deadline is over.
	afterwards = 10 * time.Second
	// serviceLines of the journal tell why a service did not start.
	serviceLines = 20
)

// awaitSystemd waits until the machine's systemd takes requests. Before, its
// users may not be there either.
func (a *attempt) awaitSystemd(ctx context.Context) error {
	if up := a.state.Started != nil && a.state.Started.Boot == a.Setup.Boot; up || !a.Setup.Boots {
		return nil
	}
	asked := time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		_, err := a.inside.root.Stat(privateSocket)
		if err == nil || time.Since(asked) > lastPause {
			asked = time.Now()
			if _, err = a.output(ctx, "systemctl", "show", "--property=Version"); err == nil || ctx.Err() != nil {
				return ctx.Err()
			}
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
func (a *attempt) runUnit(ctx context.Context, unit string) (err error) {
	a.telling.Wait()
	active, err := a.reload(ctx, a.Setup.Files, unit)
	if err != nil {
		return err
	}
	stop := a.follow(ctx, unit)
	defer func() {
		if err == nil {
			a.telling.Go(stop) // what comes next need not wait for its last lines
		} else {
			stop()
		}
	}()
	_, err = a.output(ctx, append([]string{"systemctl"}, again(active[unit], unit)...)...)
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
func again(active, unit string) []string {
	if active == "inactive" || active == "failed" {
		return []string{"start", "--", unit}
	}
	return []string{"restart", "--job-mode=ignore-requirements", "--", unit}
}

// reload has systemd read delivered units anew that it has read before. It costs
// 0.2 s of CPU, and more on a busy host, so systemd is asked whether it has to:
// of a first start, and of a commit that changes only code, it need not. The same
// question tells the ActiveState of these units and of one more.
func (a *attempt) reload(ctx context.Context, files []resource.SetupFile, also ...string) (active map[string]string, err error) {
	var units []string
	for _, f := range files {
		// What is beside a unit its unit tells of.
		if !a.reloaded && strings.Contains(f.Path, "/systemd/") && path.Ext(f.Path) != ".conf" {
			units = append(units, path.Base(f.Path))
		}
	}
	delivered := len(units)
	for _, unit := range also {
		if !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	if len(units) == 0 {
		return nil, nil
	}
	said, err := a.output(ctx, append([]string{"systemctl", "show", "--property=LoadState,NeedDaemonReload,ActiveState", "--"}, units...)...)
	stale := err != nil
	active = make(map[string]string)
	for i, about := range strings.Split(said, "\n\n") {
		if i == len(units) {
			break
		}
		stale = stale || i < delivered && (strings.Contains(about, "NeedDaemonReload=yes") || strings.Contains(about, "LoadState=not-found"))
		_, state, _ := strings.Cut(about, "ActiveState=")
		active[units[i]], _, _ = strings.Cut(state, "\n")
	}
	if err = nil; stale && delivered > 0 {
		_, err = a.output(ctx, "systemctl", "daemon-reload")
	}
	a.reloaded = err == nil
	return active, err
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
// The machine has the host's clock.
func (a *attempt) follow(ctx context.Context, unit string) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	now := time.Now()
	since := fmt.Sprintf("--since=@%d.%06d", now.Unix(), now.Nanosecond()/1000)
	argv := []string{"journalctl", "--no-pager", "--lines=all", "--output=cat", "--unit=" + unit, since}
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

// recover starts services of what was set up before. That some do not start is
// no reason not to go on.
func (a *attempt) recover(ctx context.Context) {
	before := *a.state.Done
	before.Boot = a.Setup.Boot
	a.putBack(ctx)
	if err := a.restart(ctx, before, "restart"); err != nil {
		a.Say("tekton: %v", err)
		return
	}
	a.state.started(&before)
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
	err := a.restart(ctx, a.Setup, verb)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.state.Tried = &a.Setup
	if err == nil {
		a.state.started(&a.Setup)
	}
	if errState := a.Succeed(a.state); errState != nil {
		return errState
	}
	return err
}

// restart goes through all services, also when one does not start.
func (a *attempt) restart(ctx context.Context, s resource.Setup, verb string) error {
	if len(s.Services) == 0 {
		return nil
	}
	if _, err := a.reload(ctx, s.Files); err != nil {
		return err
	}
	var failed error
	for _, unit := range s.Services {
		_, err := a.output(ctx, "systemctl", verb, "--", unit)
		if err == nil {
			a.Say("tekton: %s of %s done", verb, unit)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.telling.Wait()
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
