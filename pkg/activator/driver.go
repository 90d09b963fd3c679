package activator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	serviceName = "activator"
	stopTimeout = 5 * time.Second
	logMax      = 1 << 20
	retrySoon   = 200 * time.Millisecond
	// adoptWait bounds the wait for the process to go by a new table.
	adoptWait = 5 * time.Second
	pollPause = 5 * time.Millisecond
)

// validName is that of an object: a DNS label.
var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Options of New.
type Options struct {
	Layout       host.Layout        // required
	Naming       resource.Naming    // required
	Installation string             // required
	Supervisor   *supervise.Manager // required
	Program      string             // required: absolute path of tektond
	User         string             // required: the unprivileged user that it serves as
	Log          logr.Logger        // optional
}

// Driver manages the kinds activator and gate, in batches.
type Driver struct {
	opts    Options
	dir     string
	mu      sync.Mutex    // held over each change of the table, until the process goes by it
	started chan struct{} // there may be a state to watch
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	if o.Supervisor == nil || o.Installation == "" || o.Layout.State == "" || o.User == "" || !filepath.IsAbs(o.Program) {
		return nil, errors.New("activator driver: Layout, Installation, Supervisor, User and an absolute Program are required")
	}
	return &Driver{opts: o, dir: o.Layout.Service(serviceName), started: make(chan struct{}, 1)}, nil
}

// Name is "activator".
func (d *Driver) Name() string { return serviceName }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind {
	return []resource.Kind{resource.KindActivator, resource.KindGate}
}

func (d *Driver) tablePath() string { return filepath.Join(d.dir, tableFile) }

// readTable returns the table and its digest; an empty one when there is none.
func (d *Driver) readTable() (t table, sum string, err error) {
	b, err := os.ReadFile(d.tablePath())
	if errors.Is(err, fs.ErrNotExist) {
		return table{}, "", nil
	}
	if err != nil {
		return table{}, "", err
	}
	t, err = decodeTable(b)
	if err == nil && t.Installation != d.opts.Installation {
		err = fmt.Errorf("%s belongs to installation %s; remove it if that is gone", d.tablePath(), t.Installation)
	}
	return t, digest(b), err
}

// Observe reads the table, what the process says, and the supervisor's word on
// whether it runs. What the process does not go by yet differs from all that is
// wanted; while it cannot be read who sleeps, the gates are unreadable.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	unknown := func(err error) map[resource.Kind]resource.Domain {
		return map[resource.Kind]resource.Domain{resource.KindActivator: resource.Unknown(err), resource.KindGate: resource.Unknown(err)}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t, sum, err := d.readTable()
	if err != nil {
		return unknown(err)
	}
	process, found, err := d.opts.Supervisor.Status(d.dir)
	if err != nil {
		return unknown(err)
	}
	up := process.Running && process.Ready
	activators, gates := resource.Known(), resource.Known()
	if t.Listen.IsValid() || found {
		v := resource.Activator{Listen: t.Listen}
		if !up {
			v = resource.Activator{}
		}
		activators = resource.Known(resource.New(resource.HostOwner, "", serviceName, v))
	}
	said, err := readState(d.dir)
	for _, e := range t.Gates {
		if err != nil {
			gates.Unread(e.Name, err)
			continue
		}
		v := e.Value
		if up && said.Table != sum {
			v.Label = ""
		}
		if s, asleep := said.Asleep[e.Name]; asleep && s.Owner == e.Owner {
			v.Asleep, v.Since = true, s.Since
		}
		r := resource.New(e.Owner, "", e.Name, v)
		gates.Items[r.ID] = r
	}
	return map[resource.Kind]resource.Domain{resource.KindActivator: activators, resource.KindGate: gates}
}

// Apply writes all steps in one table, and returns when the process goes by it.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := make([]error, len(steps))
	t, _, err := d.readTable()
	if err != nil {
		return all(errs, err)
	}
	start, puts := false, false
	for i, s := range steps {
		puts = puts || s.Verb == resource.Put
		switch v := s.Resource.Value.(type) {
		case resource.Gate:
			errs[i] = t.change(s, v, time.Now())
		case resource.Activator:
			t.Listen = netip.AddrPort{}
			if start = s.Verb == resource.Put; start {
				t.Listen = v.Listen
			}
		default:
			errs[i] = resource.Terminal("UnknownKind", fmt.Errorf("%s is not a step of the activator's driver", s))
		}
	}
	sum, err := d.commit(ctx, t)
	if err == nil && start {
		err = d.start(ctx, t.Listen)
	}
	if err == nil && puts {
		err = d.adopted(ctx, sum)
	}
	return all(errs, err)
}

// all gives err to each step that has none of its own.
func all(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

func (t *table) change(s resource.Step, v resource.Gate, now time.Time) error {
	name := s.Resource.Name
	i := slices.IndexFunc(t.Gates, func(e entry) bool { return e.Name == name })
	if s.Verb == resource.Delete {
		if i >= 0 {
			t.Gates = slices.Delete(t.Gates, i, i+1)
		}
		return nil
	}
	if !validName.MatchString(name) || v.SleepAfter < 0 || v.Backend.IsValid() && !v.Backend.Is4() {
		return resource.Terminal("InvalidGate", fmt.Errorf("gate %q must be named by a DNS label, lead to an IPv4 address, and sleep after no negative time", name))
	}
	v.Asleep, v.Since, v.MovedAt = false, time.Time{}, time.Time{}
	if v.Backend.IsValid() {
		v.MovedAt = now.UTC().Round(0)
	}
	next := entry{Name: name, Owner: s.Resource.Owner, Value: v}
	if i < 0 {
		t.Gates = append(t.Gates, next)
		return nil
	}
	have := t.Gates[i]
	if have.Owner != next.Owner && (s.Seen == nil || s.Seen.Owner != have.Owner) {
		return resource.ErrStale
	}
	if have.Value.Backend == v.Backend {
		next.Value.MovedAt = have.Value.MovedAt
	}
	t.Gates[i] = next
	return nil
}

// commit brings the table to disk. Without an address there is no process, and
// without anything in it no directory.
func (d *Driver) commit(ctx context.Context, t table) (sum string, err error) {
	if !t.Listen.IsValid() {
		if err := d.opts.Supervisor.Stop(ctx, d.dir, stopTimeout); err != nil {
			return "", fmt.Errorf("stop the activator: %w", err)
		}
		if len(t.Gates) == 0 {
			return "", os.RemoveAll(d.dir)
		}
	}
	as, err := d.account()
	if err != nil {
		return "", err
	}
	t.UID, t.GID, t.Installation = as.Uid, as.Gid, d.opts.Installation
	b, err := t.encode()
	if err != nil {
		return "", err
	}
	if now, err := os.ReadFile(d.tablePath()); err == nil && string(now) == string(b) {
		return digest(b), nil
	}
	// The process reads it after it has given root's rights up; nothing in it is secret.
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return "", err
	}
	return digest(b), host.WriteFile(d.tablePath(), b, 0o644)
}

func (d *Driver) account() (*syscall.Credential, error) {
	as, err := host.LookupUser(d.opts.User)
	if err != nil {
		err = resource.Because("UserMissing", fmt.Errorf("user of the activator: %w; create it or set Host.spec.ingress.user", err))
	}
	return as, err
}

// start makes the process run.
func (d *Driver) start(ctx context.Context, listen netip.AddrPort) error {
	process, _, err := d.opts.Supervisor.Status(d.dir)
	if err != nil || process.Running && process.Ready {
		return err
	}
	present, err := host.HasAddress(listen.Addr())
	if err != nil {
		return err
	}
	if !present {
		return resource.Waiting("ServiceAddressMissing", retrySoon, fmt.Errorf("the activator is to listen on %s, which no interface of the host has yet", listen.Addr()))
	}
	if err := d.prepare(); err != nil {
		return err
	}
	_, err = d.opts.Supervisor.Start(ctx, d.dir, supervise.Spec{
		Name:        serviceName,
		Unit:        d.opts.Naming.Unit(serviceName),
		Mark:        resource.Mark{Installation: d.opts.Installation, Owner: resource.HostOwner}.String(),
		Argv:        []string{d.opts.Program, serviceName, d.dir},
		Env:         []string{"PATH=/usr/bin:/bin"},
		Notify:      true,
		LogMax:      logMax,
		StopTimeout: stopTimeout,
	})
	if err != nil {
		return resource.Because("ActivatorStart", fmt.Errorf("start the activator: %w", err))
	}
	return nil
}

// prepare makes the directory that is the process's own.
func (d *Driver) prepare() error {
	as, err := d.account()
	if err != nil {
		return err
	}
	dir := filepath.Join(d.dir, stateDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	select {
	case d.started <- struct{}{}:
	default:
	}
	return os.Chown(dir, int(as.Uid), int(as.Gid))
}

// adopted returns when the process goes by a table.
func (d *Driver) adopted(ctx context.Context, sum string) error {
	deadline := time.Now().Add(adoptWait)
	for {
		said, err := readState(d.dir)
		if err == nil && said.Table == sum {
			return nil
		}
		process, _, errStatus := d.opts.Supervisor.Status(d.dir)
		if errStatus != nil || !process.Running {
			return resource.Waiting("ActivatorDown", retrySoon, errors.Join(errors.New("the activator does not run; it is started first"), errStatus))
		}
		if time.Now().After(deadline) {
			return resource.Because("ActivatorStuck", errors.Join(errors.New("the activator has not taken up what it was told"), err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollPause):
		}
	}
}

// Watch tells of the process's start and end, and of who falls asleep and wakes.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	parent := filepath.Dir(d.dir)
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", d.dir, err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.opts.Supervisor.Watch(ctx, parent, notify) }()
	state := filepath.Join(d.dir, stateDir)
	for {
		// It comes with the first gate, and goes with the last.
		known := slices.Contains(w.WatchList(), state)
		if err := w.Add(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch %s: %w", state, err)
		} else if err == nil && !known {
			notify() // somebody may have woken before anybody watched
		}
		select {
		case err := <-ended:
			return err
		case <-d.started:
		case e := <-w.Events:
			if filepath.Base(e.Name) == stateFile {
				notify()
			}
		case <-w.Errors: // events were lost
			notify()
		}
	}
}
