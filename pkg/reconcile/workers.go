package reconcile

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"tekton.host/pkg/resource"
)

// group says how steps of a kind are run.
type group struct {
	// batch kinds of one driver are collected and applied together, chunk at a
	// time, one batch after the other; others run one by one, parallel at once.
	batch    bool
	chunk    int
	parallel int
	timeout  time.Duration
}

const (
	stepTimeout = 30 * time.Second
	// setupTimeout of what runs a program for long: initdb, CREATE DATABASE on a busy disk.
	setupTimeout = 2 * time.Minute
	// dumpTimeout of the dump before a database goes.
	dumpTimeout = time.Hour
	// cloneTimeout of a volume that is made of a repository.
	cloneTimeout = 15 * time.Minute
	// linkChunk keeps one batch of links (2-3 ms each, one kernel lock) short, so
	// that the first machines start while the last links are made.
	linkChunk = 8
	unbounded = 1 << 20
	// drainPatience is how long a daemon that is asked to stop lets steps go on
	// that have begun: half a step is what restarts have to repair.
	drainPatience = 15 * time.Second
)

func groupOf(k resource.Kind, parallelStarts int) group {
	switch k {
	case resource.KindClaim, resource.KindAccess, resource.KindRecord, resource.KindRoute,
		resource.KindGate, resource.KindEndpoint, resource.KindException:
		return group{batch: true, chunk: unbounded, timeout: stepTimeout}
	case resource.KindSysctl, resource.KindAddress, resource.KindTable, resource.KindPolicy,
		resource.KindLink, resource.KindAttachment:
		return group{batch: true, chunk: linkChunk, timeout: stepTimeout}
	case resource.KindUnit:
		return group{parallel: parallelStarts, timeout: setupTimeout}
	case resource.KindAnswer:
		return group{parallel: unbounded, timeout: dumpTimeout} // its own deadline is in the step
	case resource.KindDatabase, resource.KindDump:
		return group{parallel: 4, timeout: dumpTimeout}
	case resource.KindVolume:
		return group{parallel: 8, timeout: cloneTimeout}
	case resource.KindCluster, resource.KindProxy, resource.KindResolver, resource.KindActivator, resource.KindClosure, resource.KindCheckout:
		return group{parallel: 1, timeout: setupTimeout}
	}
	return group{parallel: 8, timeout: stepTimeout}
}

// workers run steps. Reports go to landed; it may block.
type workers struct {
	landed   func([]resource.Step, []error)
	meter    Meter
	drivers  map[resource.Kind]resource.Driver
	groups   map[resource.Kind]group
	slots    map[resource.Kind]chan struct{}
	queues   map[resource.Driver]*batchQueue
	running  sync.WaitGroup
	ctx      context.Context // of all steps
	stop     context.CancelFunc
	mu       sync.Mutex
	inFlight map[resource.ID]flight
}

type flight struct {
	step   resource.Step
	cancel context.CancelFunc
}

func newWorkers(drivers []resource.Driver, parallelStarts int, meter Meter, landed func([]resource.Step, []error)) *workers {
	w := &workers{
		landed: landed, meter: meter, drivers: map[resource.Kind]resource.Driver{}, groups: map[resource.Kind]group{},
		slots: map[resource.Kind]chan struct{}{}, queues: map[resource.Driver]*batchQueue{}, inFlight: map[resource.ID]flight{},
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	for _, d := range drivers {
		w.queues[d] = &batchQueue{}
		for _, k := range d.Kinds() {
			g := groupOf(k, parallelStarts)
			w.drivers[k], w.groups[k] = d, g
			if !g.batch && g.parallel < unbounded {
				w.slots[k] = make(chan struct{}, g.parallel)
			}
		}
	}
	return w
}

// submit starts steps and returns at once. Steps of one batch driver go
// together: the ledger writes what one pass claims at once or not at all.
func (w *workers) submit(steps []resource.Step) {
	batches := map[resource.Driver][]resource.Step{}
	for _, s := range steps {
		k := s.Resource.Kind
		if w.groups[k].batch {
			batches[w.drivers[k]] = append(batches[w.drivers[k]], s)
			continue
		}
		w.running.Go(func() { w.single(s) })
	}
	for d, batch := range batches {
		w.enqueue(w.queues[d], batch)
	}
}

func (w *workers) single(s resource.Step) {
	k := s.Resource.Kind
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	w.track(s, cancel)
	defer w.untrack(s)
	if slot := w.slots[k]; slot != nil {
		select {
		case slot <- struct{}{}:
			defer func() { <-slot }()
		case <-ctx.Done():
			w.landed([]resource.Step{s}, []error{ctx.Err()})
			return
		}
	}
	ctx, done := context.WithTimeout(ctx, w.groups[k].timeout)
	defer done()
	w.landed([]resource.Step{s}, w.apply(ctx, w.drivers[k], []resource.Step{s}))
}

// apply runs steps and tells how long they took.
func (w *workers) apply(ctx context.Context, d resource.Driver, steps []resource.Step) []error {
	began := time.Now()
	errs := guarded(ctx, d, steps)
	took := time.Since(began)
	for i, s := range steps {
		w.meter.Step(s, took, errs[i])
	}
	return errs
}

// guarded runs steps and turns a panic of a driver into the failure of its steps:
// one object must not take the others down.
func guarded(ctx context.Context, d resource.Driver, steps []resource.Step) (errs []error) {
	defer func() {
		if p := recover(); p != nil {
			errs = make([]error, len(steps))
			for i := range errs {
				errs[i] = fmt.Errorf("driver %s panicked: %v\n%s", d.Name(), p, debug.Stack())
			}
		}
	}()
	errs = d.Apply(ctx, steps)
	if len(errs) != len(steps) {
		panic(fmt.Sprintf("%d results for %d steps", len(errs), len(steps)))
	}
	return errs
}

func (w *workers) track(s resource.Step, cancel context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight[s.Resource.ID] = flight{s, cancel}
}

func (w *workers) untrack(s resource.Step) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.inFlight, s.Resource.ID)
}

// cancelUnwanted ends puts that are not asked for any more, so that a probe of
// a minute does not delay the change that makes it pointless.
func (w *workers) cancelUnwanted(d resource.Desired) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, f := range w.inFlight {
		if f.step.Verb != resource.Put || d.Held[id] {
			continue
		}
		want, wanted := d.Present[id]
		unwanted := !wanted && d.Complete[f.step.Resource.Owner]
		if unwanted || (wanted && !want.Value.Equal(f.step.Resource.Value)) {
			f.cancel()
		}
	}
}

// drain waits for the steps in flight. Long waits are cut short: probes, machines
// that take their time to stop, which their supervisors see to, and after
// drainPatience everything: a database's dump may take an hour.
func (w *workers) drain() {
	w.mu.Lock()
	for _, f := range w.inFlight {
		stops := f.step.Resource.Kind == resource.KindUnit && f.step.Verb == resource.Delete
		if stops || f.step.Resource.Kind == resource.KindAnswer {
			f.cancel()
		}
	}
	w.mu.Unlock()
	defer time.AfterFunc(drainPatience, w.stop).Stop()
	w.running.Wait()
}

// batchQueue collects the steps of one batch driver.
type batchQueue struct {
	mu      sync.Mutex
	steps   []resource.Step
	working bool
}

func (w *workers) enqueue(q *batchQueue, steps []resource.Step) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.steps = append(q.steps, steps...)
	if !q.working {
		q.working = true
		w.running.Go(func() { w.batches(q) })
	}
}

// batches applies what has been collected until nothing is left.
func (w *workers) batches(q *batchQueue) {
	for {
		q.mu.Lock()
		if len(q.steps) == 0 {
			q.working = false
			q.mu.Unlock()
			return
		}
		k := q.steps[0].Resource.Kind
		n := w.batchSize(q.steps)
		batch := q.steps[:n:n]
		q.steps = q.steps[n:]
		q.mu.Unlock()
		step, cancel := context.WithTimeout(w.ctx, w.groups[k].timeout)
		errs := w.apply(step, w.drivers[k], batch)
		cancel()
		w.landed(batch, errs)
	}
}

// batchSize is how many of the first steps go together: those of kinds with the
// same limit, as many as it allows.
func (w *workers) batchSize(steps []resource.Step) int {
	chunk := w.groups[steps[0].Resource.Kind].chunk
	n := 1
	for n < min(len(steps), chunk) && w.groups[steps[n].Resource.Kind].chunk == chunk {
		n++
	}
	return n
}
