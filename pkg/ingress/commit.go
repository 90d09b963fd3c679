package ingress

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/resource"
)

// certificateWait bounds the wait for the certificates of new hosts.
const certificateWait = 3 * time.Second

// commit makes Caddy run the next generation, or as much of it as it accepts.
func (b *batch) commit(ctx context.Context) error {
	if b.now.serving && b.next.equal(b.now.current) {
		return nil
	}
	if err := b.faithful(ctx); err != nil {
		return err
	}
	var trusted, doubtful []entry
	changed := b.changed()
	for _, e := range b.next.sorted() {
		if slices.Contains(changed, e.Name) {
			doubtful = append(doubtful, e)
		} else {
			trusted = append(trusted, e)
		}
	}
	good, refused, err := quarantine(trusted, doubtful, func(routes []entry) error {
		return b.load(ctx, b.next.with(routes))
	})
	if isRefusal(err) && b.opts.System != nil {
		return b.opts.System.broken(err)
	}
	if isRefusal(err) && b.proxy >= 0 && !b.next.Proxy.Equal(b.now.current.Proxy) {
		// Not even without routes: the proxy's own values. The old ones go on serving.
		b.errs[b.proxy] = resource.Terminal(reasonProxy, err)
		b.next.Proxy = b.now.current.Proxy
		return b.commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("load the configuration of Caddy: %w", err)
	}
	for _, r := range refused {
		b.refuse(r.item.Name, resource.Terminal(reasonRefused, fmt.Errorf("route %s: %w", r.item.Name, r.err)))
		if b.next.Routes[r.item.Name] == r.item { // accepted once, not any more
			delete(b.next.Routes, r.item.Name)
		}
	}
	return b.finish(ctx, good, len(refused) > 0)
}

// finish writes what Caddy runs now. A changed route that was refused gets its
// old value back, which Caddy had accepted before.
func (b *batch) finish(ctx context.Context, good []entry, refused bool) error {
	final := b.next.with(good)
	if refused && !b.next.equal(final) && b.load(ctx, b.next) == nil {
		final = b.next
	}
	running, err := b.admin.config(ctx)
	if err != nil {
		return err
	}
	final.stamp(time.Now())
	if err := b.save(final); err != nil {
		return fmt.Errorf("write the configuration that Caddy runs: %w", err)
	}
	if b.opts.System == nil { // others load into the host's own Caddy too
		b.seen = sighting{final.name, sha256.Sum256(running), b.now.status.Boot, time.Now()}
	}
	b.awaitCertificates(ctx)
	b.opts.Log.Info("loaded routes", "routes", len(final.Routes))
	return nil
}

// awaitCertificates returns once Caddy has made the certificates of new hosts,
// which it does after a load has returned. One that does not come is no reason
// to take the route back: Caddy goes on trying, and what has the wrong name or
// a broken file was refused before.
func (b *batch) awaitCertificates(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, certificateWait)
	defer cancel()
	before := b.now.current.secureHosts()
	for name, routes := range b.cached.hosts() {
		// An authority takes its time, and may never come to it: the route's status tells.
		if tls := routes[0].Route.TLS; tls == resource.TLSOff || tls == resource.TLSACME || slices.Contains(before, name) {
			continue
		}
		if err := handshake(ctx, b.cached.Proxy.HTTPSPort, strings.Replace(name, "*", "any", 1)); err != nil {
			b.opts.Log.Info("no certificate yet", "host", name, "reason", err.Error())
		}
	}
}

// handshake repeats a TLS handshake until it succeeds.
func handshake(ctx context.Context, port int, name string) error {
	// Whose certificate it is, is not the question here.
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}
	for {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollPause):
		}
	}
}

func (g *generation) with(routes []entry) *generation {
	c := g.clone()
	clear(c.Routes)
	for _, e := range routes {
		c.Routes[e.Name] = e
	}
	return c
}

// stamp notes of routes that have just moved when they did. It is stored as
// JSON and compared afterwards: without a monotonic reading, in UTC.
func (g *generation) stamp(now time.Time) {
	for name, e := range g.Routes {
		if e.Route.MovedAt.IsZero() {
			e.Route.MovedAt = now.UTC().Round(0)
			g.Routes[name] = e
		}
	}
}

// text is the whole configuration with g.
func (d *Driver) text(g *generation) (string, error) {
	text, err := g.text()
	if err != nil || d.opts.System == nil {
		return text, err
	}
	return d.opts.System.with(d.importLine(), text)
}

func (d *Driver) load(ctx context.Context, g *generation) error {
	text, err := d.text(g)
	if err != nil {
		return err
	}
	return d.admin.load(ctx, text)
}

// save makes g the current generation.
func (d *Driver) save(g *generation) error {
	if err := d.store.save(g); err != nil {
		return err
	}
	d.cached = g
	return errors.Join(d.store.prune(d.opts.Installation), g.pruneCertificates(d.certificates()))
}
