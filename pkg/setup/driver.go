package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/job"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// jobVersion of a setup's description.
const jobVersion = 1

// Options of New.
type Options struct {
	Layout       host.Layout        // required
	Naming       resource.Naming    // required
	Installation string             // required
	Supervisor   *supervise.Manager // required
	Program      string             // required: absolute path of tektond
	// Machine reads the status of a machine.
	Machine func(name string) (s supervise.Status, found bool, err error) // required
	// GitUser owns the repositories that checkouts come from.
	GitUser string // required
}

// Driver manages the kind setup.
type Driver struct {
	opts Options
	jobs job.Jobs
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	if o.Supervisor == nil || o.Machine == nil || o.Installation == "" || o.Layout.State == "" || o.GitUser == "" || !filepath.IsAbs(o.Program) {
		return nil, errors.New("setup driver: Layout, Installation, Supervisor, Machine, GitUser and an absolute Program are required")
	}
	return &Driver{opts: o, jobs: job.Jobs{
		Verb: "setup", Version: jobVersion, Parent: o.Layout.Setups(), Naming: o.Naming, Installation: o.Installation,
		Supervisor: o.Supervisor, Program: o.Program,
	}}, nil
}

// Name is "setup".
func (d *Driver) Name() string { return "setup" }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind { return []resource.Kind{resource.KindSetup} }

// Dir is the directory of a machine's setups; a supervisor keeps their log in it.
func (d *Driver) Dir(machine string) string { return d.jobs.Dir(machine) }

// Watch tells of setups that begin, end or get on.
func (d *Driver) Watch(ctx context.Context, notify func()) error { return d.jobs.Watch(ctx, notify) }

// description of one attempt.
type description struct {
	job.Header
	Owner string         `json:"owner"`
	Setup resource.Setup `json:"setup"`
	// Leader is the machine's first process, and when it was started.
	Leader      int    `json:"leader"`
	LeaderStart string `json:"leaderStart"`
	GitUser     string `json:"gitUser"`
	RunDir      string `json:"runDir"` // of git
}

// progress of a running attempt.
type progress struct {
	Phase string `json:"phase"`
}

// Observe reads the directories of setups.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	return d.jobs.Observe(resource.KindSetup, func(name string) (r resource.Resource, running bool, err error) {
		have, found, err := d.read(name)
		if found {
			r = resource.New(have.Owner, name, name, have.Setup)
		}
		return r, have.Setup.Run.Running, err
	})
}

// read puts together what the directory of a machine's setups says.
func (d *Driver) read(name string) (description, bool, error) {
	var have description
	var p progress
	var s state
	j, found, err := d.jobs.Read(name, &have, &p, &s)
	run := resource.SetupRun{Job: j, Phase: p.Phase}
	if s.Done != nil {
		run.Done, run.DoneAt = s.Done.Revision, s.DoneAt
		if db := s.Done.Database; db != nil {
			run.With = db.OID
		}
	}
	if s.Started != nil {
		run.Boot, run.Started = s.Started.Boot, s.Starts
	}
	run.Seeded = s.Seeded
	have.Setup.Run = run
	return have, found, err
}

// Apply begins an attempt, or forgets what a machine was set up for.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	return job.Apply(ctx, steps, d.begin, d.remove)
}

// begin starts the wanted attempt, unless it was begun already.
func (d *Driver) begin(ctx context.Context, s resource.Step, v resource.Setup) error {
	name := s.Resource.Name
	have, found, err := d.read(name)
	switch {
	case err != nil:
		return err
	case found && have.Owner != s.Resource.Owner:
		return resource.Taken("Conflict", fmt.Errorf("the setup of %s is another object's", name))
	case found && have.Setup.Equal(v):
		return nil
	case found != (s.Seen != nil), found && !s.Seen.Value.Equal(have.Setup):
		return resource.ErrStale
	}
	leader, start, err := d.leader(name, v.Boot)
	if err != nil {
		return err
	}
	failures := have.Setup.Run.Failures
	if !have.Setup.SameWork(v) {
		failures = 0
	}
	v.Run = resource.SetupRun{}
	err = d.jobs.Begin(ctx, name, &description{
		Header: job.Header{Attempt: have.Attempt + 1, Failures: failures, Deadline: v.Deadline},
		Owner:  s.Resource.Owner, Setup: v, Leader: leader, LeaderStart: start,
		GitUser: d.opts.GitUser, RunDir: d.opts.Layout.RunService("setup-" + name),
	}, supervise.LimitsOf(v.Limits))
	if err != nil {
		return resource.Because("SetupStart", fmt.Errorf("start the setup of %s: %w", name, err))
	}
	return nil
}

// leader is the first process of a machine's start.
func (d *Driver) leader(machine, boot string) (pid int, start string, err error) {
	runs := func() (supervise.Status, error) {
		s, found, err := d.opts.Machine(machine)
		if err == nil && (!found || !s.Running || s.Boot != boot) {
			err = resource.ErrStale
		}
		return s, err
	}
	s, err := runs()
	if err != nil {
		return 0, "", err
	}
	if s.Leader == 0 {
		return 0, "", resource.Waiting("Starting", time.Second, fmt.Errorf("machine %s is starting", machine))
	}
	if start, err = host.ProcessStart(s.Leader); err != nil {
		return 0, "", resource.ErrStale // it has just ended
	}
	// It ran before and after, so the start is its own.
	_, err = runs()
	return s.Leader, start, err
}

// remove ends an attempt and removes the directory, that by which its owner is
// known last.
func (d *Driver) remove(ctx context.Context, s resource.Step, _ resource.Setup) error {
	r := s.Resource
	have, found, err := d.read(r.Name)
	if err == nil && found && have.Owner != r.Owner {
		return resource.Taken("Conflict", fmt.Errorf("the setup of %s is another object's", r.Name))
	}
	if err := d.jobs.Stop(ctx, r.Name); err != nil {
		return err
	}
	os.RemoveAll(d.opts.Layout.RunService("setup-" + r.Name)) // of an attempt that was killed
	dir := d.Dir(r.Name)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if e.Name() != job.DescriptionFile {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
