package machine

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/machine/nixos"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// lastLogLines of an ended run are part of its observation.
const lastLogLines = 20

// observedUnit is a unit with what only its status knows.
type observedUnit struct {
	resource.Resource
	value  resource.Unit
	status supervise.Status
}

func (u *observedUnit) running(boot string) bool {
	return u != nil && u.status.Running && u.status.Boot == boot
}

func (u *observedUnit) unenforced() string {
	if u == nil {
		return ""
	}
	return u.status.LimitsUnenforced
}

// tails remembers the last lines of ended runs, which write no more.
type tails struct {
	mu    sync.Mutex
	lines map[string]tail
}

type tail struct {
	boot   string
	exited time.Time
	lines  []string
}

func (t *tails) get(dir string, s supervise.Status, r runner) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, ok := t.lines[dir]
	if !ok || have.boot != s.Boot || !have.exited.Equal(s.ExitedAt) {
		have = tail{s.Boot, s.ExitedAt, r.Tail(dir, lastLogLines)}
		if t.lines == nil {
			t.lines = make(map[string]tail)
		}
		t.lines[dir] = have
	}
	return have.lines
}

func (t *tails) forget(dir string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.lines, dir)
}

// observeUnit reads a machine's status; nil when it has none or it is not ours.
func (d *Driver) observeUnit(machine string) (*observedUnit, error) {
	s, found, err := d.Status(machine)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", machine, err)
	}
	owner, ours := d.ours(s.Mark)
	// What we stopped is gone, even when the stop was cut short after the end:
	// the next start or the directory's removal clears what is left of it.
	if !found || !ours || (s.Stopped && !s.Running) {
		return nil, nil
	}
	v := resource.Unit{
		Name: machine, Running: s.Running, Generation: s.Generation,
		Boot: s.Boot, Leader: s.Leader, StartedAt: s.StartedAt, ExitedAt: s.ExitedAt, ExitCode: s.ExitCode,
		Failures: failures(s, time.Now()),
	}
	if nixos.Has(d.dir(machine)) {
		v.Fingerprint = nixos.FingerprintOf(s)
	}
	if !s.Running {
		v.Leader = 0
		v.LastLog = d.tails.get(d.dir(machine), s, d.runnerOf(machine))
		why := s.Err
		if full := host.Full(d.dir(machine)); why == "" && full != nil {
			why = full.Error() // what it said of that may not have found room either
		}
		if why != "" {
			v.LastLog = append(slices.Clone(v.LastLog), why)
		}
	}
	return &observedUnit{resource.New(owner, machine, machine, v), v, s}, nil
}

// failures counts the ends since the last run that was stable.
func failures(s supervise.Status, now time.Time) int {
	end := s.ExitedAt
	if s.Running {
		end = now
	}
	switch {
	case !s.StartedAt.IsZero() && end.Sub(s.StartedAt) >= resource.StableAfter:
		return 0
	case s.Running:
		return s.Failures
	}
	return s.Failures + 1
}

func (d *Driver) putUnit(ctx context.Context, s resource.Step, v resource.Unit) error {
	name := s.Resource.Name
	rec, found, err := d.ownRecord(name, s.Resource.Owner)
	if err != nil {
		return err
	}
	if !found {
		return resource.ErrStale // the directory went after the plan was made
	}
	have, err := d.observeUnit(name)
	if err != nil {
		return err
	}
	if have != nil && have.value.Running {
		if err := d.putRunningUnit(have, s, v); err != nil || have.value.Fingerprint == v.Fingerprint {
			return err
		}
	}
	if s.Seen == nil && have != nil {
		return resource.ErrStale // ended since: its link has to be made again
	}
	if rec.Instance.Container != "" {
		return d.putContainerUnit(ctx, name, rec, v, have)
	}
	spec := d.unitSpec(s.Resource, rec, v)
	if have != nil {
		spec.Failures = have.value.Failures
	}
	if err := d.prepareRoot(ctx, name, rec); err != nil {
		return err
	}
	status, err := d.opts.Supervisor.Start(ctx, d.dir(name), spec)
	if err != nil {
		return startError(status, err)
	}
	return nil
}

// prepareRoot does to the writable root what has to be done at every start.
func (d *Driver) prepareRoot(ctx context.Context, machine string, rec recordFile) error {
	if rec.Instance.Ephemeral {
		if err := resetRoot(ctx, d.dir(machine)); err != nil {
			return err
		}
	}
	if rec.Instance.Limits.DiskMax == 0 {
		return nil
	}
	unenforced, err := d.limitDisk(rec.Instance)
	if err != nil || unenforced == rec.DiskUnenforced {
		return err
	}
	rec.DiskUnenforced = unenforced
	return d.writeRecord(machine, rec)
}

// putRunningUnit deals with a unit that runs already: done, still on its way to
// its leader, or other than the plan saw.
func (d *Driver) putRunningUnit(have *observedUnit, s resource.Step, v resource.Unit) error {
	if have.Owner != s.Resource.Owner {
		return conflict("unit "+s.Resource.Name, have.status.Mark)
	}
	if have.value.Generation < v.Generation {
		return resource.ErrStale // a restart is a Delete first
	}
	if have.value.Leader == 0 {
		return resource.Waiting("Starting", time.Second, fmt.Errorf("machine %s is starting", s.Resource.Name))
	}
	return nil
}

// startError gives the error of a launch that failed a reason.
func startError(s supervise.Status, err error) error {
	if s.Leader == 0 && !s.ExitedAt.IsZero() {
		return resource.Because(launch.Reason(s.ExitCode), err)
	}
	return resource.Because("StartFailed", err)
}

func (d *Driver) unitSpec(r resource.Resource, rec recordFile, v resource.Unit) supervise.Spec {
	stop := time.Duration(v.StopTimeout)
	if stop == 0 {
		stop = time.Duration(rec.Instance.StopTimeout)
	}
	return supervise.Spec{
		Name: r.Name, Unit: d.opts.Naming.Unit(r.Name), Mark: d.mark(r.Owner),
		Argv: []string{
			d.opts.Launch, "--init=" + d.opts.Init, "--volumes=" + d.opts.Layout.Volumes(),
			"--nspawn=" + d.opts.Nspawn, "--seccomp=" + strconv.FormatBool(d.opts.Seccomp), d.dir(r.Name),
		},
		Env:    []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"},
		Leader: true,
		LogMax: d.opts.LogMax,
		// nspawn turns its SIGTERM into what the machine's first process understands.
		StopTimeout: stop,
		Limits:      supervise.LimitsOf(rec.Instance.Limits),
		Generation:  v.Generation,
	}
}

// deleteUnit stops the machine and waits until all of it is dead.
func (d *Driver) deleteUnit(ctx context.Context, r resource.Resource) error {
	s, found, err := d.Status(r.Name)
	if err != nil {
		return err
	}
	if found && s.Mark != d.mark(r.Owner) {
		return conflict("unit "+r.Name, s.Mark)
	}
	v, _ := r.Value.(resource.Unit)
	// The record knows what has been asked for since the start. Without a
	// readable one the supervisor's own time holds.
	rec, _, _ := d.record(r.Name)
	timeout := cmp.Or(time.Duration(v.StopTimeout), time.Duration(rec.Instance.StopTimeout))
	if found && s.Running && s.Leader != 0 {
		awaitHearing(ctx, s.Leader)
	}
	return d.runnerOf(r.Name).Stop(ctx, d.dir(r.Name), timeout)
}
