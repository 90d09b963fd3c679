package daemon

import (
	"context"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/event"
)

// eventPause gathers a burst of changes: what comes and goes in between is no event.
const eventPause = 50 * time.Millisecond

// Events implements server.Backend.
func (d *Daemon) Events(_ context.Context, after int64) ([]v1alpha1.Event, error) {
	return d.events.After(after)
}

// EventsChanged implements server.Backend.
func (d *Daemon) EventsChanged() <-chan struct{} { return d.events.Changed() }

// recordEvents tells what changes in what is published, until ctx ends. What was
// there at the daemon's first look is no news.
func (d *Daemon) recordEvents(ctx context.Context) {
	var last event.Snapshot
	for known := false; ; {
		changed := d.Changed()
		if v, err := d.view(); err == nil {
			next := event.Snapshot{Items: v.Result.Items, Sources: d.withGit(v.Result.Sources)}
			if known {
				if err := d.events.Append(event.Between(last, next, time.Now().UTC().Truncate(time.Millisecond))); err != nil {
					d.opts.Log.Error(err, "an event is lost")
				}
			}
			last, known = next, true
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(eventPause):
		}
	}
}
