package ingress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	serviceName = "caddy"
	// maxSocketPath is what fits into a unix socket's address.
	maxSocketPath = 107
	// observeWait is how long Observe waits for a change that is under way.
	observeWait = time.Second
	// trustFor is how long Observe takes Caddy, while it is the same process, to
	// run what it was seen to run. No event tells of a foreign change, so that
	// only a resync can find one, and those are further apart.
	trustFor = 10 * time.Second
	// askTimeout bounds the question what Caddy runs.
	askTimeout = 5 * time.Second
)

// Options of a Driver.
type Options struct {
	Layout       host.Layout        // required
	Naming       resource.Naming    // required
	Installation string             // required
	Supervisor   *supervise.Manager // required
	User         string             // required: the unprivileged user that Caddy runs as
	Caddy        string             // optional: the program; "caddy"
	System       *System            // optional: a Caddy of the host's own instead of one of ours
	Log          logr.Logger        // optional
}

// Driver manages Caddy, the kinds proxy and route. It is a batch driver: all
// steps of both kinds of a pass belong into one Apply, or first those of the proxy.
type Driver struct {
	opts  Options
	store store
	admin *admin
	// busy is held by one Observe or Apply at a time.
	busy chan struct{}
	// cached is the current generation as it was read last; a generation never changes.
	cached *generation
	seen   sighting
	read   reading
	issued issued
	// missing certificates as observed last: while there are some, they are looked for.
	missing atomic.Int64
}

// sighting remembers which bytes of Caddy's own account of its running
// configuration were found to be a generation.
type sighting struct {
	generation string
	sum        [sha256.Size]byte
	boot       string    // of the process that was asked
	at         time.Time // when it was asked last
}

var _ resource.Driver = (*Driver)(nil)

// New returns a Driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	if o.Layout.State == "" || o.Layout.Run == "" || o.Installation == "" || o.Supervisor == nil || o.User == "" {
		return nil, errors.New("ingress: Layout, Installation, Supervisor and User are required")
	}
	if o.Caddy == "" {
		o.Caddy = "caddy"
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	d := &Driver{opts: o, store: store{o.Layout.Service(serviceName)}, busy: make(chan struct{}, 1)}
	if o.System != nil {
		d.admin = o.System.dial()
		return d, nil
	}
	socket := filepath.Join(o.Layout.RunService(serviceName), "admin.sock")
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("ingress: %s is longer than the %d bytes of a socket's address: choose a shorter Host.spec.runDir", socket, maxSocketPath)
	}
	d.admin = newAdmin("unix", socket, adminHost)
	return d, nil
}

// Name returns "ingress".
func (d *Driver) Name() string { return "ingress" }

// Kinds returns proxy and route.
func (d *Driver) Kinds() []resource.Kind {
	return []resource.Kind{resource.KindProxy, resource.KindRoute}
}

// Watch reports starts and ends of Caddy; of the host's own, changes of its Caddyfile.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	if d.opts.System != nil {
		return d.opts.System.watch(ctx, notify)
	}
	return d.opts.Supervisor.WatchProgress(ctx, filepath.Dir(d.store.dir), watchMissing, func() bool { return d.missing.Load() > 0 }, notify)
}

func (d *Driver) storage() string      { return filepath.Join(d.store.dir, "storage") }
func (d *Driver) certificates() string { return filepath.Join(d.store.dir, "certificates") }

func (d *Driver) acquire(ctx context.Context) (release func(), err error) {
	select {
	case d.busy <- struct{}{}:
		return func() { <-d.busy }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a change of Caddy's configuration that is under way: %w", ctx.Err())
	}
}

// Observe reads the current generation and compares it with what Caddy runs.
func (d *Driver) Observe(ctx context.Context) map[resource.Kind]resource.Domain {
	waiting, cancel := context.WithTimeout(ctx, observeWait)
	defer cancel()
	unknown := func(err error) map[resource.Kind]resource.Domain {
		return map[resource.Kind]resource.Domain{resource.KindProxy: resource.Unknown(err), resource.KindRoute: resource.Unknown(err)}
	}
	release, err := d.acquire(waiting)
	if err != nil {
		return unknown(err)
	}
	defer release()
	s, err := d.look(ctx, trustFor)
	if err != nil {
		return unknown(err)
	}
	return d.domains(s)
}

// sight is what is there now.
type sight struct {
	current *generation // nil: none
	status  supervise.Status
	found   bool // the supervisor knows of Caddy
	serving bool // Caddy runs current
	up      bool // Caddy runs and can be asked
	wrong   bool // the host's own Caddy: something about its file, or a Caddy of ours beside it
}

func (d *Driver) domains(s sight) map[resource.Kind]resource.Domain {
	proxies, routes := resource.Known(), resource.Known()
	missing := 0
	defer func() { d.missing.Store(int64(missing)) }()
	g := s.current
	if g == nil {
		if s.found { // without a generation, yet to be deleted or repaired
			proxies = resource.Known(resource.New(resource.HostOwner, "", serviceName, resource.Proxy{}))
		}
		return map[resource.Kind]resource.Domain{resource.KindProxy: proxies, resource.KindRoute: routes}
	}
	v := g.usableProxy()
	if !s.serving || s.wrong {
		v.HTTPPort = 0
	}
	proxies = resource.Known(resource.New(g.ProxyOwner, "", g.ProxyName, v))
	in := &authorities{storage: d.storage()}
	defer in.close()
	for _, e := range g.Routes {
		e.Route.Certificate = d.served(g, e.Route, in)
		if e.Route.Certificate.Missing {
			missing++
		}
		if !s.serving {
			e.Route.Backend = netip.AddrPort{}
		}
		r := resource.New(e.Owner, e.Instance, e.Name, e.Route)
		routes.Items[r.ID] = r
	}
	return map[resource.Kind]resource.Domain{resource.KindProxy: proxies, resource.KindRoute: routes}
}

// usableProxy is the proxy with those certificates only whose copies are what
// their files are now.
func (g *generation) usableProxy() resource.Proxy {
	v := g.Proxy
	v.Certificates = nil
	for _, want := range g.Proxy.Certificates {
		if c, ok := g.imported(want); ok && c.fresh() {
			v.Certificates = append(v.Certificates, want)
		}
	}
	return v
}

// look reads what is there; Caddy is asked what it runs when it was not asked
// within trust. It is called with busy held.
func (d *Driver) look(ctx context.Context, trust time.Duration) (s sight, err error) {
	if s.status, s.found, err = d.opts.Supervisor.Status(d.store.dir); err != nil {
		return s, fmt.Errorf("read the state of Caddy: %w", err)
	}
	if s.current, err = d.store.current(d.cached); err != nil {
		return s, fmt.Errorf("read the current configuration of Caddy: %w", err)
	}
	if s.current != nil && s.current.Installation != d.opts.Installation {
		return s, fmt.Errorf("%s belongs to the installation %s, not to %s: remove it or use another stateDir", d.store.dir, s.current.Installation, d.opts.Installation)
	}
	d.cached = s.current
	if d.opts.System != nil {
		return s, d.lookAtSystem(ctx, &s)
	}
	s.up = s.status.Running
	if !s.status.Running || s.current == nil {
		return s, nil
	}
	if d.seen.generation == s.current.name && d.seen.boot == s.status.Boot && time.Since(d.seen.at) < trust {
		s.serving = true
		return s, nil
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	running, err := d.admin.config(asking)
	if unreachable(err) {
		s.up = false
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.serving, err = d.runs(asking, running, s.current)
	d.seen.boot, d.seen.at = s.status.Boot, time.Now()
	if !s.serving {
		d.seen = sighting{}
	}
	return s, err
}

// runs reports whether the running configuration is that of g. Caddy is asked
// to adapt g's text only when these bytes were not seen before.
func (d *Driver) runs(ctx context.Context, running []byte, g *generation) (bool, error) {
	now := sighting{generation: g.name, sum: sha256.Sum256(running)}
	if d.seen.generation == now.generation && d.seen.sum == now.sum {
		return true, nil
	}
	text, err := g.text()
	if err != nil {
		return false, nil // not written by this version of ours; a Put writes it anew
	}
	want, err := d.admin.adapt(ctx, text)
	if err != nil {
		if isRefusal(err) {
			return false, nil
		}
		return false, err
	}
	if !sameJSON(running, want) {
		return false, nil
	}
	d.seen = now
	return true, nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.NewDecoder(bytes.NewReader(a)).Decode(&x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
