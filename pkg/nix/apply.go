package nix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// Apply begins an attempt to build, or removes all there is of a closure.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	errs := make([]error, len(steps))
	for i, s := range steps {
		v, ok := s.Resource.Value.(resource.Closure)
		switch {
		case !ok:
			errs[i] = resource.Terminal("UnknownKind", fmt.Errorf("%s is not a step of the nix driver", s))
		case s.Verb == resource.Delete:
			errs[i] = d.remove(ctx, s.Resource.Name)
		default:
			errs[i] = d.begin(ctx, s, v)
		}
	}
	return errs
}

// begin starts the wanted attempt, unless it was begun already.
func (d *Driver) begin(ctx context.Context, s resource.Step, v resource.Closure) error {
	name := s.Resource.Name
	if name != resource.ClosureName(v.Flake, v.Trusted) {
		return resource.Terminal("InvalidName", fmt.Errorf("closure %q is not named after its flake %q", name, v.Flake))
	}
	now, err := d.read(name, nil)
	if err != nil {
		return err
	}
	if now.Attempt >= v.Attempt {
		return nil
	}
	if s.Seen != nil && s.Seen.Value.(resource.Closure).Attempt != now.Attempt {
		return resource.ErrStale
	}
	dir := d.dir(name)
	if err := d.opts.Supervisor.Stop(ctx, dir, stopTimeout); err != nil {
		return err
	}
	// The evaluator has a directory of its own in there, and is not root.
	for _, path := range []string{d.opts.Layout.Builds(), dir} {
		if err := os.MkdirAll(path, 0o711); err != nil {
			return err
		}
	}
	err = writeJSON(dir, jobFile, job{
		Version: jobVersion, Installation: d.opts.Installation, Name: name, Flake: v.Flake, Trusted: v.Trusted,
		Attempt: v.Attempt, Failures: now.Build.Failures, AskedAt: time.Now(), Deadline: v.Deadline, UID: d.opts.UID, GID: d.opts.GID,
	})
	if err != nil {
		return err
	}
	return d.start(ctx, dir, name, v)
}

// start has the attempt of dir made by a process that outlives this one.
func (d *Driver) start(ctx context.Context, dir, name string, v resource.Closure) error {
	l := v.Limits
	env := []string{"PATH=" + os.Getenv("PATH") + ":" + defaultPath}
	for _, name := range passedOn {
		if value, set := os.LookupEnv(name); set && name != "PATH" {
			env = append(env, name+"="+value)
		}
	}
	_, err := d.opts.Supervisor.Start(ctx, dir, supervise.Spec{
		Name: "build." + name,
		Unit: d.opts.Naming.Unit("build." + name),
		Mark: resource.Mark{Installation: d.opts.Installation, Owner: resource.HostOwner}.String(),
		Argv: []string{d.opts.Program, "build", dir},
		Env:  env,
		Limits: supervise.Limits{
			MemoryMax: l.MemoryMax, MemoryHigh: l.MemoryHigh, CPUQuota: l.CPUQuota, CPUWeight: l.CPUWeight, IOWeight: l.IOWeight, TasksMax: l.TasksMax,
		},
		LogMax: logMax, StopTimeout: stopTimeout,
	})
	var o outcome
	if found, _ := readJSON(dir, outcomeFile, &o); found && o.Attempt == v.Attempt {
		return nil // it was quick
	}
	if err != nil {
		return resource.Because("BuildStart", fmt.Errorf("start the build of %s: %w", v.Flake, err))
	}
	return nil
}

// remove ends a build and lets go of all that it has made.
func (d *Driver) remove(ctx context.Context, name string) error {
	dir := d.dir(name)
	if err := d.opts.Supervisor.Stop(ctx, dir, stopTimeout); err != nil {
		return err
	}
	err := errors.Join(d.roots.Remove(derivationRoot(name)), d.roots.Remove(nextRoot(name)), d.roots.Remove(name))
	return errors.Join(err, os.RemoveAll(dir))
}

// Watch tells of builds that begin, end or get on.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	if err := os.MkdirAll(d.opts.Layout.Builds(), 0o711); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-time.After(watchProgress):
				if d.running.Load() > 0 {
					notify()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return d.opts.Supervisor.Watch(ctx, d.opts.Layout.Builds(), notify)
}

// Dir is the directory of a closure's builds; a supervisor keeps their log in it.
func (d *Driver) Dir(name string) string { return d.dir(name) }
