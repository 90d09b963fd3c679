package nix

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/go-logr/logr"

	"tekton.host/pkg/host"
	"tekton.host/pkg/job"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// Options of New.
type Options struct {
	Layout       host.Layout        // required
	Naming       resource.Naming    // required
	Installation string             // required
	Supervisor   *supervise.Manager // required
	Program      string             // required: absolute path of tektond
	// UID and GID that Nix code is evaluated as; not root.
	UID, GID uint32 // required
	Log      logr.Logger
}

// Driver manages the kind closure, one step a call.
type Driver struct {
	opts  Options
	roots Roots
	jobs  job.Jobs
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	switch {
	case o.Supervisor == nil || o.Installation == "" || o.Layout.State == "" || !filepath.IsAbs(o.Program):
		return nil, errors.New("nix driver: Layout, Installation, Supervisor and an absolute Program are required")
	case o.UID == 0 || o.GID == 0:
		return nil, errors.New("nix driver: Nix code is not evaluated as root; set Host.spec.nix.user to another user")
	}
	return &Driver{opts: o, roots: NewRoots(o.Installation), jobs: job.Jobs{
		Verb: "build", Version: jobVersion, Parent: o.Layout.Builds(), Naming: o.Naming, Installation: o.Installation,
		Supervisor: o.Supervisor, Program: o.Program, Environment: passedOn,
	}}, nil
}

// Name is "nix".
func (d *Driver) Name() string { return "nix" }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind { return []resource.Kind{resource.KindClosure} }

// Observe reads the directories of builds.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	roots, err := d.roots.List()
	if err != nil {
		return map[resource.Kind]resource.Domain{resource.KindClosure: resource.Unknown(err)}
	}
	return d.jobs.Observe(resource.KindClosure, func(name string) (resource.Resource, bool, error) {
		v, err := d.read(name, roots)
		return resource.New(resource.HostOwner, "", name, v), v.Build.Running, err
	})
}

// read puts together what the directory of a closure says. One without a
// description was left by a crash: it differs from every wanted one.
func (d *Driver) read(name string, roots map[string]string) (v resource.Closure, err error) {
	var x description
	var found bool
	if v.Build.Job, found, err = d.jobs.Read(name, &x, &v.Build.Progress, &v.Build.Result); err != nil || !found {
		return resource.Closure{}, err
	}
	v.Flake, v.Trusted, v.Config, v.Fetch, v.Attempt = x.Flake, x.Trusted, x.Config, x.Fetch, x.Attempt
	if path := v.Build.Result.StorePath; path != "" {
		v.Unrooted = roots[name] != path || !exists(path)
	}
	return v, nil
}
