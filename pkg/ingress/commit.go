package ingress

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"tekton.host/pkg/resource"
)

// commit makes Caddy run the next generation, or as much of it as it accepts.
func (b *batch) commit(ctx context.Context) error {
	if b.now.serving && b.next.equal(b.now.current) {
		return nil
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
	if err := b.save(final); err != nil {
		return fmt.Errorf("write the configuration that Caddy runs: %w", err)
	}
	b.seen = sighting{final.name, sha256.Sum256(running)}
	b.opts.Log.Info("loaded routes", "routes", len(final.Routes))
	return nil
}

func (g *generation) with(routes []entry) *generation {
	c := g.clone()
	clear(c.Routes)
	for _, e := range routes {
		c.Routes[e.Name] = e
	}
	return c
}

func (d *Driver) load(ctx context.Context, g *generation) error {
	text, err := g.text()
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
	return errors.Join(d.store.prune(), g.pruneCertificates(d.certificates()))
}
