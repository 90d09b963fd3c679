package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server"
)

// purgeEvery is how often the trash is looked at. Data is kept for days.
const purgeEvery = time.Hour

// Run converges and serves the API until ctx ends. reload asks for a new look
// at everything.
func (d *Daemon) Run(ctx context.Context, reload <-chan struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	if err := d.serveAPI(ctx, g); err != nil {
		return err
	}
	g.Go(func() error { return d.engine.Run(ctx) })
	g.Go(func() error { d.purge(ctx); return nil })
	g.Go(func() error { d.recordEvents(ctx); return nil })
	g.Go(func() error { d.removeExpired(ctx); return nil })
	g.Go(func() error { d.tellSystemd(ctx); return nil })
	g.Go(func() error { d.serveMetrics(ctx); return nil })
	g.Go(func() error { return d.notify(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-reload:
				d.engine.Kick()
			}
		}
	})
	d.opts.Log.Info("running", "state", d.layout.State, "socket", d.layout.Socket(), "installation", d.id, "supervisor", d.form())
	return g.Wait()
}

// serveAPI makes the sockets and answers on them.
func (d *Daemon) serveAPI(ctx context.Context, g *errgroup.Group) error {
	api, err := server.New(server.Options{Backend: d, Metrics: d.metrics.Handler(), Log: d.opts.Log.WithName("api")})
	if err != nil {
		return err
	}
	all, err := d.listen(d.layout.Socket(), d.opts.Host.SocketGroup)
	if err != nil {
		return err
	}
	open := []net.Listener{all}
	for _, narrow := range []struct {
		socket, group string
		serve         func(context.Context, net.Listener) error
	}{
		{d.layout.ReadSocket(), d.opts.Host.ReadSocketGroup, api.ServeReaders},
		{d.layout.OperateSocket(), d.opts.Host.OperateSocketGroup, api.ServeOperators},
	} {
		if narrow.group == "" {
			continue
		}
		l, err := d.listen(narrow.socket, narrow.group)
		if err != nil {
			for _, o := range open {
				err = errors.Join(err, o.Close())
			}
			return err
		}
		open = append(open, l)
		g.Go(func() error { return narrow.serve(ctx, l) })
	}
	g.Go(func() error { return api.Serve(ctx, all) })
	return nil
}

func (d *Daemon) listen(socket, group string) (net.Listener, error) {
	return server.Listen(server.ListenOptions{Path: socket, Group: d.socketGroup(socket, group)})
}

// Once converges until every object is Ready, or nothing more happens by
// itself, or ctx ends. The error says what is not as it should be.
func (d *Daemon) Once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.engine.Run(ctx) }()
	err := d.awaitEnd(ctx)
	cancel()
	return errors.Join(err, <-done)
}

// stuckAfter is how far ahead the next retry may be for the end to count as reached.
const stuckAfter = 10 * time.Second

func (d *Daemon) awaitEnd(ctx context.Context) error {
	for {
		changed := d.engine.Changed()
		v := d.engine.View()
		if v.Read && v.Settled(time.Now().Add(stuckAfter)) {
			return errors.Join(notReady(v.Result.Items), notRead(d.withGit(v.Result.Sources)))
		}
		select {
		case <-changed:
		case <-time.After(time.Second): // timers of the engine change nothing that is published
		case <-ctx.Done():
			return errors.Join(ctx.Err(), notReady(v.Result.Items))
		}
	}
}

// notRead says which sources are not known as they are now.
func notRead(sources []v1alpha1.SourceStatus) error {
	var errs []error
	for _, s := range sources {
		switch {
		case !s.Complete:
			errs = append(errs, fmt.Errorf("source %s: %s", s.Name, s.Message))
		case s.Git != nil && s.Git.Error != "":
			errs = append(errs, fmt.Errorf("source %s: %s", s.Name, s.Git.Error))
		}
	}
	return errors.Join(errs...)
}

func notReady(items []v1alpha1.Item) error {
	var errs []error
	for _, i := range items {
		if p := i.Status.Phase; p == v1alpha1.PhaseReady || p.Resting() {
			continue
		}
		for _, c := range i.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Status != v1alpha1.ConditionTrue {
				errs = append(errs, fmt.Errorf("%s/%s: %s: %s", i.Kind, i.Metadata.Name, c.Reason, c.Message))
			}
		}
	}
	return errors.Join(errs...)
}

// purge empties the trash of what has been in it for long enough.
func (d *Daemon) purge(ctx context.Context) {
	for {
		keep := 72 * time.Hour
		if t := d.opts.Host.TrashFor; t != nil {
			keep = t.Duration
		}
		if n, err := d.machines.PurgeTrash(ctx, keep); err != nil {
			d.opts.Log.Error(err, "empty the trash of volumes")
		} else if n > 0 {
			d.opts.Log.Info("trash emptied", "volumes", n)
		}
		if err := d.databases.PurgeTrash(time.Now().Add(-keep)); err != nil {
			d.opts.Log.Error(err, "empty the trash of databases")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(purgeEvery):
		}
	}
}
