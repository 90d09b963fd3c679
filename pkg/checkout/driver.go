package checkout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tekton.host/pkg/host"
	"tekton.host/pkg/job"
	"tekton.host/pkg/repository"
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
	// User that git runs as; not root.
	User string // required
	// KnownHostsFile has the host keys of ssh servers.
	KnownHostsFile string // required
}

// Driver manages the kind checkout, one step a call.
type Driver struct {
	opts Options
	jobs job.Jobs
	// mu: whether a mirror is in use does not change while one is removed.
	mu sync.Mutex
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	if o.Supervisor == nil || o.Installation == "" || o.Layout.State == "" || o.Layout.Run == "" || o.User == "" || o.KnownHostsFile == "" || !filepath.IsAbs(o.Program) {
		return nil, errors.New("checkout driver: Layout, Installation, Supervisor, User, KnownHostsFile and an absolute Program are required")
	}
	return &Driver{opts: o, jobs: job.Jobs{
		Verb: verb, Version: jobVersion, Parent: o.Layout.Checkouts(), Naming: o.Naming, Installation: o.Installation,
		Supervisor: o.Supervisor, Program: o.Program,
	}}, nil
}

// Name is "checkout".
func (d *Driver) Name() string { return "checkout" }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind { return []resource.Kind{resource.KindCheckout} }

// Dir is the directory of a checkout's job; a supervisor keeps its log in it.
func (d *Driver) Dir(name string) string { return d.jobs.Dir(name) }

func (d *Driver) mirror(url, secret string) string {
	sum := sha256.Sum256([]byte(url + "\x00" + secret))
	return filepath.Join(d.opts.Layout.Mirrors(), hex.EncodeToString(sum[:8])+".git")
}

func (d *Driver) runDir(name string) string {
	return filepath.Join(d.opts.Layout.RunService("checkouts"), name)
}

// Observe reads the directories of checkouts.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	return d.jobs.Observe(resource.KindCheckout, func(name string) (resource.Resource, bool, error) {
		v, err := d.read(name)
		return resource.New(resource.HostOwner, "", name, v), v.Fetch.Running, err
	})
}

// read puts together what the directory of a checkout says. One without a
// description was left by a crash: it differs from every wanted one.
func (d *Driver) read(name string) (v resource.Checkout, err error) {
	var x description
	var found bool
	if v.Fetch.Job, found, err = d.jobs.Read(name, &x, &v.Fetch.Progress, &v.Fetch.Result); err != nil || !found {
		return resource.Checkout{}, err
	}
	v.URL, v.Ref, v.Secret, v.Digest, v.Files, v.Attempt = x.URL, x.Ref, x.Secret, x.Digest, x.Files, x.Attempt
	if r := v.Fetch.Result; r.Commit != "" {
		v.Lost = !keeps(r.Dir, name, r.Commit)
	}
	return v, nil
}

// keeps reports whether a mirror's reference of a checkout is at a commit. It
// starts no program; that an object is damaged is seen by who reads it.
func keeps(mirror, name, commit string) bool {
	root, err := os.OpenRoot(mirror)
	if err != nil {
		return false
	}
	defer root.Close()
	f, err := root.Open(keptRef(name))
	if err != nil {
		return false
	}
	defer f.Close()
	said, err := io.ReadAll(io.LimitReader(f, 2*int64(len(commit))))
	return err == nil && strings.TrimSpace(string(said)) == commit
}

// Apply begins an attempt to fetch, or removes all there is of a checkout.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	return job.Apply(ctx, steps, d.begin, d.remove)
}

// begin starts the wanted attempt, unless it was begun already.
func (d *Driver) begin(ctx context.Context, s resource.Step, v resource.Checkout) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := s.Resource.Name
	if name != resource.CheckoutName(v.URL, v.Ref, v.Secret) {
		return resource.Terminal("InvalidName", fmt.Errorf("checkout %q is not named after its repository %q and reference %q", name, v.URL, v.Ref))
	}
	now, err := d.read(name)
	if err != nil {
		return err
	}
	if now.Attempt >= v.Attempt {
		return nil
	}
	if s.Seen != nil && s.Seen.Value.(resource.Checkout).Attempt != now.Attempt {
		return resource.ErrStale
	}
	x := &description{
		Header: job.Header{Attempt: v.Attempt, Failures: now.Fetch.Failures, Deadline: v.Deadline},
		URL:    v.URL, Ref: v.Ref, Secret: v.Secret, Digest: v.Digest, Files: v.Files, MaxSize: v.MaxSize,
		Mirror: d.mirror(v.URL, v.Secret), RunDir: d.runDir(name), User: d.opts.User, KnownHostsFile: d.opts.KnownHostsFile,
	}
	if v.Secret != "" {
		x.SecretFile = filepath.Join(d.opts.Layout.Secrets, filepath.Base(v.Secret))
	}
	if err := d.jobs.Begin(ctx, name, x, supervise.Limits{}); err != nil {
		return resource.Because("FetchStart", fmt.Errorf("start fetching %s: %w", v.URL, err))
	}
	return nil
}

// remove ends a fetch and lets go of all that it has made. The directory goes
// last: until then it is seen, and the rest is removed again.
func (d *Driver) remove(ctx context.Context, s resource.Step, v resource.Checkout) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := s.Resource.Name
	if err := d.jobs.Stop(ctx, name); err != nil {
		return err
	}
	if err := os.RemoveAll(d.runDir(name)); err != nil {
		return err
	}
	if now, err := d.read(name); err == nil {
		v = now
	}
	if v.URL != "" {
		if err := d.letGo(name, d.mirror(v.URL, v.Secret)); err != nil {
			return err
		}
	}
	return os.RemoveAll(d.Dir(name))
}

// letGo removes a checkout's reference, with the last one the mirror.
func (d *Driver) letGo(name, mirror string) error {
	used, err := d.usedByAnother(name, mirror)
	if err != nil {
		return err
	}
	if !used {
		return errors.Join(os.RemoveAll(mirror), os.RemoveAll(repository.LockFile(mirror)))
	}
	root, err := os.OpenRoot(mirror)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	for _, ref := range []string{keptRef(name), fetchedRef(name)} {
		if err := root.RemoveAll(ref); err != nil {
			return err
		}
	}
	return nil
}

// usedByAnother reports whether another checkout has the mirror; one that cannot
// be read may.
func (d *Driver) usedByAnother(name, mirror string) (used bool, err error) {
	err = d.jobs.Each(func(other string) bool {
		v, err := d.read(other)
		used = used || other != name && (err != nil || v.URL != "" && d.mirror(v.URL, v.Secret) == mirror)
		return v.Fetch.Running
	})
	return used, err
}

// Watch tells of fetches that begin, end or get on.
func (d *Driver) Watch(ctx context.Context, notify func()) error { return d.jobs.Watch(ctx, notify) }
