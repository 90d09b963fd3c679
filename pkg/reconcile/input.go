package reconcile

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// input is one thing that the engine looks at: a driver, a source, the ledger,
// the secrets. Each has an observer goroutine of its own, so that one that is
// slow delays only what needs it.
type input struct {
	name    string
	watch   func(ctx context.Context, notify func()) error
	read    func(ctx context.Context) (adopt func())
	report  func(func())
	landed  func(*input, uint64)
	onWatch func(name string, err error)
	meter   Meter

	asked   atomic.Uint64 // looks asked for
	trigger chan struct{}
	seen    uint64 // the newest look that was adopted; of the owning goroutine
}

func (e *Engine) addInput(name string, watch func(context.Context, func()) error, read func(context.Context) func()) *input {
	in := &input{
		name: name, watch: watch, read: read, trigger: make(chan struct{}, 1),
		report: func(f func()) { e.reports <- f }, landed: e.observedAnew, meter: e.Meter,
		onWatch: func(name string, err error) { e.Log.V(1).Info("no events", "input", name, "error", err.Error()) },
	}
	e.inputs = append(e.inputs, in)
	return in
}

// look asks for a new look and returns its number: a look with this or a higher
// number began after this call.
func (in *input) look() uint64 {
	n := in.asked.Add(1)
	select {
	case in.trigger <- struct{}{}:
	default:
	}
	return n
}

// start runs the observer and the watcher until ctx ends.
func (in *input) start(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(func() { in.observe(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := in.watch(ctx, func() { in.look() }); err != nil && ctx.Err() == nil {
				in.onWatch(in.name, err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(watchRetry):
				in.look() // what happened while nobody watched
			}
		}
	})
}

func (in *input) observe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-in.trigger:
		}
		n := in.asked.Load()
		began := time.Now()
		look, cancel := context.WithTimeout(ctx, observeTimeout)
		adopt := in.read(look)
		cancel()
		in.meter.Look(in.name, time.Since(began))
		if ctx.Err() != nil {
			return // cut short: what was read says nothing
		}
		done := make(chan struct{})
		in.report(func() {
			adopt()
			in.seen = n
			in.landed(in, n)
			close(done)
		})
		select {
		case <-done: // one report of an input at a time
		case <-ctx.Done():
			return
		}
	}
}
