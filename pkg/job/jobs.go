package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	stopTimeout = 5 * time.Second
	// beginTimeout of a supervisor that is started; on a busy host it takes seconds.
	beginTimeout = time.Minute
	logMax       = 2 << 20
	// watchProgress is how often a running job is looked at.
	watchProgress = 500 * time.Millisecond
	// defaultPath finds programs on Debian and NixOS.
	defaultPath = "/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

const reasonInterrupted = "Interrupted"

// Jobs are the jobs of one sort.
type Jobs struct {
	// Verb of the program that makes an attempt: PROGRAM VERB DIR.
	Verb string
	// Version of the description.
	Version int
	// Parent holds one directory a job.
	Parent       string
	Naming       resource.Naming
	Installation string
	Supervisor   *supervise.Manager
	Program      string
	// Environment of the daemon that attempts get, beside PATH.
	Environment []string

	// running jobs as observed last: while there are some, their progress is watched.
	running atomic.Int64
	// beginning holds the names of jobs that are described, and of which the
	// supervisor is being started.
	beginning sync.Map
}

// Dir is the directory of a job; a supervisor keeps the log of its attempts in it.
func (j *Jobs) Dir(name string) string { return filepath.Join(j.Parent, name) }

// Each calls f with the name of every job, and counts those that it says run.
func (j *Jobs) Each(f func(name string) (running bool)) error {
	entries, err := os.ReadDir(j.Parent)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var n int64
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if f(e.Name()) {
			n++
		}
	}
	j.running.Store(n)
	return nil
}

// Read puts together what the directory of a job says. One without a
// description was left by a crash: found is false.
func (j *Jobs) Read(name string, d Description, progress, result any) (v resource.Job, found bool, err error) {
	dir := j.Dir(name)
	if found, err := load(dir, j.Version, d); err != nil || !found {
		return v, false, err
	}
	h := d.Head()
	v.StartedAt, v.Failures = h.AskedAt, h.Failures
	// The status first: who ends writes the outcome before, and who begins has a status before that is over.
	_, begins := j.beginning.Load(name)
	s, _, err := j.Supervisor.Status(dir)
	if err != nil {
		return v, true, err
	}
	var o outcome
	if _, err := readJSON(dir, outcomeFile, &o); err != nil {
		return v, true, err
	}
	// The result after the outcome that says there is one.
	if _, err := readJSON(dir, resultFile, result); err != nil {
		return v, true, err
	}
	switch {
	case o.Attempt == h.Attempt && o.Reason == "":
		v.EndedAt, v.Failures = o.EndedAt, 0
	case o.Attempt == h.Attempt:
		v.EndedAt, v.Reason, v.Message, v.Log = o.EndedAt, o.Reason, o.Message, o.Log
		v.Failures++
	case s.Running || begins:
		v.Running = true
		_, err = readJSON(dir, progressFile, progress)
	default:
		v.Reason, v.Message = reasonInterrupted, fmt.Sprintf("the %s was killed, or the host was restarted, before it came to its end", j.Verb)
		v.EndedAt, v.Log = h.AskedAt, supervise.TailLog(dir, outcomeLines)
		if s.ExitedAt.After(h.AskedAt) {
			v.EndedAt = s.ExitedAt
		}
		v.Failures++
	}
	return v, true, err
}

// Observe is what a driver of jobs sees: each one as read says it is, without a
// value for none. Those that run are counted.
func (j *Jobs) Observe(kind resource.Kind, read func(name string) (r resource.Resource, running bool, err error)) map[resource.Kind]resource.Domain {
	domain := resource.Known()
	err := j.Each(func(name string) bool {
		r, running, err := read(name)
		switch {
		case err != nil:
			domain.Unread(name, fmt.Errorf("%w; next step: mend it, or remove %s, and the %s begins anew", err, j.Dir(name), j.Verb))
		case r.Value != nil:
			domain.Items[r.ID] = r
		}
		return running
	})
	if err != nil {
		domain = resource.Unknown(err)
	}
	return map[resource.Kind]resource.Domain{kind: domain}
}

// Apply takes the steps of a driver of jobs, one after the other: it begins the
// wanted attempt, or removes all there is of a job.
func Apply[V resource.Value](ctx context.Context, steps []resource.Step, begin, remove func(context.Context, resource.Step, V) error) []error {
	errs := make([]error, len(steps))
	for i, s := range steps {
		v, ok := s.Resource.Value.(V)
		switch {
		case !ok:
			errs[i] = resource.Terminal("UnknownKind", fmt.Errorf("%s is not a step of the driver of the kind %s", s, v.Kind()))
		case s.Verb == resource.Delete:
			errs[i] = remove(ctx, s, v)
		default:
			errs[i] = begin(ctx, s, v)
		}
	}
	return errs
}

// Begin has an attempt made by a process that outlives this one. Of the
// description's header Attempt, Failures and Deadline are set already.
func (j *Jobs) Begin(ctx context.Context, name string, d Description, l supervise.Limits) error {
	dir, h := j.Dir(name), d.Head()
	if err := j.Stop(ctx, name); err != nil {
		return err
	}
	// The attempt may have a directory in there for somebody who is not root.
	for _, path := range []string{j.Parent, dir} {
		if err := os.MkdirAll(path, 0o711); err != nil {
			return err
		}
	}
	h.Version, h.Installation, h.Name, h.AskedAt = j.Version, j.Installation, name, time.Now()
	// Once it is described it is observed, and this step no longer wanted. Who is
	// cancelled then would leave an attempt that nobody makes.
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beginTimeout)
	defer cancel()
	j.beginning.Store(name, nil)
	defer j.beginning.Delete(name)
	if err := writeJSON(dir, DescriptionFile, d); err != nil {
		return err
	}
	_, err := j.Supervisor.Start(ctx, dir, supervise.Spec{
		Name: j.Verb + "." + name,
		Unit: j.Naming.Unit(j.Verb + "." + name),
		Mark: resource.Mark{Installation: j.Installation, Owner: resource.HostOwner}.String(),
		Argv: []string{j.Program, j.Verb, dir},
		Env:  j.environment(), Limits: l, LogMax: logMax, StopTimeout: stopTimeout,
	})
	var o outcome
	if found, _ := readJSON(dir, outcomeFile, &o); found && o.Attempt == h.Attempt {
		return nil // it was quick
	}
	return err
}

func (j *Jobs) environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH") + ":" + defaultPath}
	for _, name := range j.Environment {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Stop ends the attempt that may be under way.
func (j *Jobs) Stop(ctx context.Context, name string) error {
	return j.Supervisor.Stop(ctx, j.Dir(name), stopTimeout)
}

// Watch tells of jobs that begin, end or get on.
func (j *Jobs) Watch(ctx context.Context, notify func()) error {
	if err := os.MkdirAll(j.Parent, 0o711); err != nil {
		return err
	}
	return j.Supervisor.WatchProgress(ctx, j.Parent, watchProgress, func() bool { return j.running.Load() > 0 }, notify)
}
