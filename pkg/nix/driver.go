package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	stopTimeout = 5 * time.Second
	logMax      = 2 << 20
	// watchProgress is how often a running build is looked at.
	watchProgress = 500 * time.Millisecond
	// defaultPath finds Nix and Git on Debian and NixOS.
	defaultPath = "/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Supervisor keeps the builds; *supervise.Manager is one.
type Supervisor interface {
	Start(ctx context.Context, dir string, s supervise.Spec) (supervise.Status, error)
	Status(dir string) (s supervise.Status, found bool, err error)
	Stop(ctx context.Context, dir string, timeout time.Duration) error
	Watch(ctx context.Context, parent string, notify func()) error
}

// Options of New.
type Options struct {
	Layout       host.Layout     // required
	Naming       resource.Naming // required
	Installation string          // required
	Supervisor   Supervisor      // required
	Program      string          // required: absolute path of tektond
	// UID and GID that Nix code is evaluated as; not root.
	UID, GID uint32 // required
	Log      logr.Logger
}

// Driver manages the kind closure, one step a call.
type Driver struct {
	opts  Options
	roots Roots
	// running builds as observed last: while there are some, their progress is watched.
	running atomic.Int64
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
	return &Driver{opts: o, roots: NewRoots(o.Installation)}, nil
}

// Name is "nix".
func (d *Driver) Name() string { return "nix" }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind { return []resource.Kind{resource.KindClosure} }

func (d *Driver) dir(name string) string { return filepath.Join(d.opts.Layout.Builds(), name) }

// Observe reads the directories of builds.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	domain, running := d.observe()
	d.running.Store(running)
	return map[resource.Kind]resource.Domain{resource.KindClosure: domain}
}

func (d *Driver) observe() (domain resource.Domain, running int64) {
	roots, err := d.roots.List()
	if err != nil {
		return resource.Unknown(err), 0
	}
	entries, err := os.ReadDir(d.opts.Layout.Builds())
	if errors.Is(err, fs.ErrNotExist) {
		return resource.Known(), 0
	}
	if err != nil {
		return resource.Unknown(err), 0
	}
	domain = resource.Known()
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		v, err := d.read(e.Name(), roots)
		if err != nil {
			return resource.Unknown(fmt.Errorf("look at build %s: %w", e.Name(), err)), 0
		}
		if v.Build.Running {
			running++
		}
		r := resource.New(resource.HostOwner, "", e.Name(), v)
		domain.Items[r.ID] = r
	}
	return domain, running
}

// read puts together what the directory of a closure says. One without a job
// was left by a crash: it differs from every wanted one.
func (d *Driver) read(name string, roots map[string]string) (resource.Closure, error) {
	dir := d.dir(name)
	var j job
	if found, err := readJSON(dir, jobFile, &j); err != nil || !found {
		return resource.Closure{}, err
	}
	if j.Version != jobVersion {
		return resource.Closure{}, fmt.Errorf("%s has version %d, this tekton reads %d", jobFile, j.Version, jobVersion)
	}
	v := resource.Closure{Flake: j.Flake, Trusted: j.Trusted, Attempt: j.Attempt}
	b := &v.Build
	b.StartedAt, b.Failures = j.AskedAt, j.Failures
	if _, err := readJSON(dir, resultFile, &b.Result); err != nil {
		return v, err
	}
	if path := b.Result.StorePath; path != "" {
		v.Unrooted = roots[name] != path || !exists(path)
	}
	// The status first: who ends writes the outcome before.
	s, _, err := d.opts.Supervisor.Status(dir)
	if err != nil {
		return v, err
	}
	var o outcome
	if _, err := readJSON(dir, outcomeFile, &o); err != nil {
		return v, err
	}
	switch {
	case o.Attempt == j.Attempt && o.Reason == "":
		b.EndedAt, b.Failures = o.EndedAt, 0
	case o.Attempt == j.Attempt:
		b.EndedAt, b.Reason, b.Message, b.Log = o.EndedAt, o.Reason, o.Message, o.Log
		b.Failures++
	case s.Running:
		b.Running = true
		if _, err := readJSON(dir, progressFile, &b.Progress); err != nil {
			return v, err
		}
	default:
		b.Reason, b.Message = reasonInterrupted, "the build was killed, or the host was restarted, before it came to its end"
		b.EndedAt, b.Log = j.AskedAt, supervise.TailLog(dir, outcomeLines)
		if s.ExitedAt.After(j.AskedAt) {
			b.EndedAt = s.ExitedAt
		}
		b.Failures++
	}
	return v, nil
}
