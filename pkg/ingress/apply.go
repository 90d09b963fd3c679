package ingress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tekton.host/pkg/resource"
)

// retryDown is when to look again for a Caddy that is yet to be started.
const retryDown = time.Second

// batch is one Apply: what is there, what is to be, and an error a step.
type batch struct {
	*Driver
	steps []resource.Step
	errs  []error
	now   sight
	next  *generation
	proxy int            // index of the Put of the proxy, -1: none
	puts  map[string]int // route name -> index of its Put, while it is not refused
	// unimported says that the host's own Caddy would not read any route.
	unimported error
}

// Apply commits all steps in one load of Caddy's configuration.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	b := &batch{Driver: d, steps: steps, errs: make([]error, len(steps)), proxy: -1, puts: map[string]int{}}
	release, err := d.acquire(ctx)
	if err == nil {
		defer release()
		err = b.run(ctx)
	}
	for i := range b.errs {
		switch {
		case b.errs[i] == nil:
			b.errs[i] = err
		case err != nil && i == b.proxy:
			// What keeps all from being served says more than a certificate of one host.
			b.errs[i] = fmt.Errorf("%w; and %w", err, b.errs[i])
		}
	}
	return b.errs
}

func (b *batch) run(ctx context.Context) (err error) {
	if b.now, err = b.look(ctx, 0); err != nil {
		return err
	}
	b.next = &generation{Version: manifestVersion, Installation: b.opts.Installation, Routes: map[string]entry{}}
	if b.now.current != nil {
		b.next = b.now.current.clone()
	}
	for i, s := range b.steps {
		if s.Resource.Kind != resource.KindProxy {
			continue
		}
		if s.Verb == resource.Delete {
			return b.deleteProxy(ctx)
		}
		b.proxy = i
	}
	if b.proxy >= 0 {
		if err := b.putProxy(ctx); err != nil {
			return err
		}
	}
	b.putRoutes()
	if !b.now.up || b.now.current == nil {
		return b.whileDown()
	}
	if b.unimported != nil {
		for name := range b.puts {
			b.refuse(name, b.unimported)
		}
		if b.next.equal(b.now.current) {
			return nil
		}
	}
	if err := b.yield(ctx); err != nil {
		return err
	}
	b.settleTLS()
	if err := b.adaptEach(ctx); err != nil {
		return err
	}
	return b.commit(ctx)
}

// deleteProxy ends Caddy and with it all routes.
func (b *batch) deleteProxy(ctx context.Context) error {
	for i, s := range b.steps {
		if s.Resource.Kind == resource.KindRoute && s.Verb == resource.Put {
			b.errs[i] = resource.Waiting(reasonDown, retryDown, errors.New("the ingress is being removed"))
		}
	}
	if b.opts.System != nil {
		if err := b.leaveSystem(ctx); err != nil {
			return err
		}
	}
	return b.remove(ctx)
}

// putProxy takes over the wanted proxy and makes Caddy run.
func (b *batch) putProxy(ctx context.Context) error {
	r := b.steps[b.proxy].Resource
	v, ok := r.Value.(resource.Proxy)
	if !ok {
		return fmt.Errorf("value of %s is a %T, not a proxy", r.ID, r.Value)
	}
	g := b.next
	g.ProxyName, g.ProxyOwner, g.Proxy = r.Name, r.Owner, v
	if len(v.Certificates) == 0 {
		g.Proxy.Certificates = nil
	}
	if g.Importer = ""; b.opts.System != nil {
		g.Importer = b.opts.System.Caddyfile
	}
	g.AdminSocket, g.Storage = b.admin.socket, b.storage()
	as, err := account(b.opts.User)
	if err != nil {
		return err
	}
	if err := g.importCertificates(b.certificates(), as.Gid); err != nil {
		// The step fails and all goes on: who needs the certificate is told as well.
		b.errs[b.proxy] = resource.Because(reasonNoCertificate, err)
	}
	for _, e := range g.sorted() {
		if err := g.checkTLS(e.Route); err != nil {
			b.opts.Log.Info("route left out", "name", e.Name, "reason", err.Error())
			delete(g.Routes, e.Name)
		}
	}
	if b.opts.System != nil {
		return b.adoptSystem(ctx)
	}
	if b.now.up && b.now.current != nil {
		b.checkNewPorts(g, b.now.current)
		return nil
	}
	return b.restart(ctx)
}

// checkNewPorts keeps the old proxy when a port of the new one is taken.
func (b *batch) checkNewPorts(next, current *generation) {
	fresh := slices.DeleteFunc(next.ports(), func(p int) bool { return slices.Contains(current.ports(), p) })
	if err := checkPorts(procDir, b.now.status.PID, fresh...); err != nil {
		b.errs[b.proxy] = err
		next.Proxy = current.Proxy
	}
}

// restart starts Caddy with the routes that it had.
func (b *batch) restart(ctx context.Context) (err error) {
	if b.now.found {
		if err := b.opts.Supervisor.Stop(ctx, b.store.dir, stopTimeout); err != nil {
			return fmt.Errorf("stop what is left of Caddy: %w", err)
		}
	}
	if b.next.Caddy, err = probeVersion(ctx, b.opts.Caddy); err != nil {
		return err
	}
	start := b.next.clone()
	if b.now.current != nil && start.equal(b.now.current) {
		start.name = b.now.current.name
	}
	if err := b.startSafely(ctx, start); err != nil {
		return err
	}
	b.opts.Log.Info("started Caddy", "version", b.next.Caddy)
	b.now, err = b.look(ctx, 0)
	return err
}

// putRoutes takes over the wanted routes; those that cannot be get their error.
func (b *batch) putRoutes() {
	for i, s := range b.steps {
		if s.Resource.Kind == resource.KindRoute {
			b.errs[i] = b.putRoute(i, s)
		}
	}
}

func (b *batch) putRoute(i int, s resource.Step) error {
	r := s.Resource
	have, there := b.next.Routes[r.Name]
	if s.Verb == resource.Delete {
		if there && have.Owner != r.Owner {
			return resource.ErrStale
		}
		delete(b.next.Routes, r.Name)
		return nil
	}
	v, ok := r.Value.(resource.Route)
	if !ok {
		return fmt.Errorf("value of %s is a %T, not a route", r.ID, r.Value)
	}
	if there && have.Owner != r.Owner && (s.Seen == nil || s.Seen.Owner != have.Owner) {
		return resource.ErrStale
	}
	if err := checkRoute(v); err != nil {
		return err
	}
	if b.next.ProxyName != "" {
		if err := b.next.checkTLS(v); err != nil {
			return err
		}
	}
	v.MovedAt = time.Time{} // finish knows when
	if there && have.Route.Backend == v.Backend {
		v.MovedAt = have.Route.MovedAt
	}
	b.next.Routes[r.Name] = entry{Name: r.Name, Owner: r.Owner, Instance: r.Instance, Route: v}
	b.puts[r.Name] = i
	return nil
}

// refuse gives a route's step its error and leaves the route as it was.
func (b *batch) refuse(name string, err error) {
	if i, ok := b.puts[name]; ok {
		b.errs[i] = err
		delete(b.puts, name)
	} else {
		b.opts.Log.Info("route left out", "name", name, "reason", err.Error())
	}
	delete(b.next.Routes, name)
	if old := b.before(name); old != nil && b.next.checkTLS(old.Route) == nil {
		b.next.Routes[name] = *old
	}
}

// before returns the accepted route of that name, nil when there is none.
func (b *batch) before(name string) *entry {
	if b.now.current == nil {
		return nil
	}
	if e, ok := b.now.current.Routes[name]; ok {
		return &e
	}
	return nil
}

// whileDown takes routes out, so that a later start does not serve them;
// others wait for that start.
func (b *batch) whileDown() error {
	for name := range b.puts {
		b.refuse(name, resource.Waiting(reasonDown, retryDown, b.down()))
	}
	if b.now.current == nil || b.next.equal(b.now.current) {
		return nil
	}
	return b.save(b.next)
}

// settleTLS refuses routes until every host has one TLS mode and a port for it.
func (b *batch) settleTLS() {
	for {
		var fresh []string
		for name := range b.puts {
			fresh = append(fresh, name)
		}
		refused := b.next.tlsConflicts(fresh)
		for name, err := range refused {
			b.refuse(name, err)
		}
		if len(refused) == 0 {
			break
		}
	}
	if b.opts.System != nil || len(b.next.secureHosts()) == 0 || slices.Contains(b.now.current.ports(), b.next.Proxy.HTTPSPort) {
		return
	}
	if err := checkPorts(procDir, b.now.status.PID, b.next.Proxy.HTTPSPort); err != nil {
		for _, e := range b.next.sorted() {
			if e.Route.TLS != resource.TLSOff {
				b.refuse(e.Name, err)
			}
		}
	}
}

// down says why routes wait.
func (d *Driver) down() error {
	if d.opts.System != nil {
		return d.opts.System.down()
	}
	return errors.New("the reverse proxy is not running; it is started first")
}

// changed returns the names of Puts whose route Caddy does not have yet, sorted.
func (b *batch) changed() []string {
	var names []string
	for name := range b.puts {
		if old := b.before(name); old == nil || *old != b.next.Routes[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// adaptEach asks Caddy about each new or changed route alone.
func (b *batch) adaptEach(ctx context.Context) error {
	for _, name := range b.changed() {
		text, err := b.next.site([]entry{b.next.Routes[name]})
		if err == nil {
			_, err = b.admin.adapt(ctx, text)
			if err != nil && !isRefusal(err) {
				return err
			}
		}
		if err != nil {
			b.refuse(name, resource.Terminal(reasonRefused, fmt.Errorf("route %s: %w", name, err)))
		}
	}
	return nil
}
