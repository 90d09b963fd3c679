package daemon

import (
	"context"
	"fmt"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/spec"
)

// expireRetry is how long after a removal that failed it is tried again.
const expireRetry = 30 * time.Second

// removeExpired deletes objects whose ttl is over, until ctx ends: a ttl is a
// request, as `tekton delete` is one. What the engine says is over it has
// stopped already.
func (d *Daemon) removeExpired(ctx context.Context) {
	for {
		changed := d.Changed()
		for _, o := range d.engine.View().Result.Compiled.Objects {
			if !o.Expired {
				continue
			}
			if err := d.removeOne(ctx, o); err != nil {
				d.opts.Log.Error(err, "remove what has expired", "kind", o.Record.Kind, "name", o.Record.Name)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(expireRetry):
		}
	}
}

// removeOne removes an object as it was judged: one whose document says
// something else by now is judged anew first.
func (d *Daemon) removeOne(ctx context.Context, o compile.Compiled) error {
	if _, mine := d.sources[o.Record.Source]; !mine {
		return nil // only a commit removes it
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	r, _, err := d.record(ctx, v1alpha1.Ref{Kind: o.Record.Kind, Name: o.Record.Name})
	if err != nil || r.UID != o.Record.UID || r.Digest != o.Record.Digest {
		return err
	}
	data, _, err := readPlain(r.File)
	if err != nil {
		return err
	}
	objects, _ := spec.Decode(r.File, data, spec.Options{Host: &d.opts.Host})
	for _, x := range objects {
		if x.Type().Kind == r.Kind && x.Meta().Name == r.Name && x.Digest == r.Written() {
			return d.remove(ctx, r, fmt.Sprintf("its ttl of %s is over", o.Spec.TTL))
		}
	}
	return nil
}
