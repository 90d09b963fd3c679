package daemon

import (
	"context"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/event"
)

// eventPause gathers a burst of changes: what comes and goes in between is no event.
const eventPause = 50 * time.Millisecond

// gitPause is how long a git source that fails may go untold: it changes nothing
// that is published.
const gitPause = 10 * time.Second

// Events implements server.Backend.
func (d *Daemon) Events(_ context.Context, after int64) ([]v1alpha1.Event, error) {
	return d.events.After(after)
}

// EventsChanged implements server.Backend.
func (d *Daemon) EventsChanged() <-chan struct{} { return d.events.Changed() }

// History implements server.Objects.
func (d *Daemon) History(_ context.Context, ref v1alpha1.Ref) ([]v1alpha1.Generation, error) {
	v, err := d.view()
	if err != nil {
		return nil, err
	}
	item, found := v.Item(ref.Kind, ref.Name)
	if !found {
		return nil, notFound(ref)
	}
	return d.history.Of(item.Metadata.UID)
}

// recordEvents tells what changes in what is published, until ctx ends. At the
// daemon's first look only objects that the history does not know are news: they
// came while no daemon ran, or faster than this looked.
func (d *Daemon) recordEvents(ctx context.Context) {
	var last *event.Snapshot
	var git <-chan time.Time
	if len(d.repositories) > 0 {
		tick := time.NewTicker(gitPause)
		defer tick.Stop()
		git = tick.C
	}
	for {
		changed := d.Changed()
		if v, err := d.view(); err == nil {
			next := event.Snapshot{Items: v.Result.Items, Sources: d.withGit(v.Result.Sources)}
			now := time.Now().UTC().Truncate(time.Millisecond)
			if last == nil {
				knew, err := d.history.Knew(next.Items)
				if err != nil {
					d.opts.Log.Error(err, "what is new since the daemon ran before is not told")
				}
				last = &event.Snapshot{Items: knew, Sources: next.Sources}
			}
			if err := d.history.Keep(next.Items, now); err != nil {
				d.opts.Log.Error(err, "the history of a spec has a gap")
			}
			if err := d.events.Append(event.Between(*last, next, now)); err != nil {
				d.opts.Log.Error(err, "an event is lost")
			}
			last = &next
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-git:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(eventPause):
		}
	}
}
