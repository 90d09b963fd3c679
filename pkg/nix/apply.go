package nix

import (
	"context"
	"errors"
	"fmt"
	"os"

	"tekton.host/pkg/job"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// Apply begins an attempt to build, or removes all there is of a closure.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	return job.Apply(ctx, steps, d.begin, d.remove)
}

// begin starts the wanted attempt, unless it was begun already.
func (d *Driver) begin(ctx context.Context, s resource.Step, v resource.Closure) error {
	name := s.Resource.Name
	if name != v.Name() {
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
	err = d.jobs.Begin(ctx, name, &description{
		Header: job.Header{Attempt: v.Attempt, Failures: now.Build.Failures, Deadline: v.Deadline},
		Flake:  v.Flake, Trusted: v.Trusted, Config: v.Config, Fetch: v.Fetch, Memory: v.Limits.MemoryMax, UID: d.opts.UID, GID: d.opts.GID,
	}, supervise.LimitsOf(v.Limits))
	if err != nil {
		return resource.Because("BuildStart", fmt.Errorf("start the build of %s: %w", v.Flake, err))
	}
	return nil
}

// remove ends a build and lets go of all that it has made.
func (d *Driver) remove(ctx context.Context, s resource.Step, _ resource.Closure) error {
	name := s.Resource.Name
	if err := d.jobs.Stop(ctx, name); err != nil {
		return err
	}
	err := errors.Join(removeNext(d.roots, name), removeNext(d.roots, metaRoot(name)), d.roots.Remove(name))
	return errors.Join(err, os.RemoveAll(d.Dir(name)))
}

// Watch tells of builds that begin, end or get on.
func (d *Driver) Watch(ctx context.Context, notify func()) error { return d.jobs.Watch(ctx, notify) }

// Dir is the directory of a closure's builds; a supervisor keeps their log in it.
func (d *Driver) Dir(name string) string { return d.jobs.Dir(name) }
