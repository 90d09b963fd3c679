package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
)

const (
	// resyncEvery re-reads everything, should an event have been lost.
	resyncEvery = 5 * time.Minute
	// retryUnknown re-reads everything while something could not be observed.
	retryUnknown = 30 * time.Second
	// burst is how long a pass waits for other looks that are under way: what
	// happens together is one pass.
	burst = 20 * time.Millisecond
	// observeTimeout bounds one look at one system; then it counts as Unknown.
	observeTimeout = 10 * time.Second
	// sourceInput and the source's name make an input's name.
	sourceInput = "source "
	// watchRetry after a watch that could not be had.
	watchRetry = 15 * time.Second
)

// Engine runs a Core: one goroutine owns it, observers and workers report to it.
type Engine struct {
	Options
	core    *Core
	facts   Facts
	inputs  []*input
	byKind  map[resource.Kind]*input // of drivers
	workers *workers
	reports chan func() // run by the owning goroutine
	asked   chan chan<- struct{}
	waiting []landing // steps that ended and wait for an observation
	pacer   pacer
	synced  time.Time // everything was asked to be read anew
	// reread these sources at rereadAt.
	reread   []string
	rereadAt time.Time
	// remembered is what Remember has kept.
	remembered absence.State

	published
}

// landing is a step that ended; its object stays busy until its driver was
// observed after that.
type landing struct {
	step  resource.Step
	input *input
	after uint64
}

// New returns an engine that does nothing until Run.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Meter == nil {
		o.Meter = noMeter{}
	}
	e := &Engine{
		Options: o, core: NewCore(o.Config), byKind: map[resource.Kind]*input{}, reports: make(chan func(), 64), asked: make(chan chan<- struct{}),
		facts: Facts{Snapshots: map[string]source.Snapshot{}, Observed: resource.Observed{}, SecretsErr: errNotRead},
	}
	// Also a file of an older version has no clocks that could go on.
	e.remembered, e.core.missing = o.Missing, o.Missing.Durable()
	e.published.init()
	for _, d := range o.Drivers {
		in := e.addInput(d.Name(), d.Watch, func(ctx context.Context) func() {
			domains := d.Observe(ctx)
			return func() {
				for _, k := range d.Kinds() {
					e.facts.Observed[k] = domainOf(domains, k)
				}
				if claims, ledger := domains[resource.KindClaim]; ledger {
					e.facts.Claims = claimsOf(claims)
				}
			}
		})
		for _, k := range d.Kinds() {
			e.byKind[k] = in
		}
	}
	for _, s := range o.Sources {
		e.addInput(sourceInput+s.Name(), s.Watch, func(ctx context.Context) func() {
			snap := s.Snapshot(ctx)
			return func() { e.facts.Snapshots[s.Name()] = snap }
		})
	}
	e.addInput("secrets", o.Secrets.Watch, func(context.Context) func() {
		digests, err := o.Secrets.Digests()
		return func() { e.facts.Secrets, e.facts.SecretsErr = digests, err }
	})
	e.workers = newWorkers(o.Drivers, o.ParallelStarts, o.Meter, e.landed)
	return e
}

var errNotRead = errors.New("not read yet")

func domainOf(domains map[resource.Kind]resource.Domain, k resource.Kind) resource.Domain {
	if d, ok := domains[k]; ok {
		return d
	}
	return resource.Unknown(fmt.Errorf("the driver did not report %s", k))
}

// claimsOf are the ledger's entries, from the same read as what the plan
// compares with: two reads could disagree, and a new claim look unwanted.
func claimsOf(d resource.Domain) []resource.Claim {
	claims := make([]resource.Claim, 0, len(d.Items))
	for _, r := range d.Items {
		claims = append(claims, r.Value.(resource.Claim))
	}
	slices.SortFunc(claims, func(a, b resource.Claim) int { return cmp.Compare(a.Key, b.Key) })
	return claims
}

// Run works until ctx ends, then lets steps in flight come to an end.
func (e *Engine) Run(ctx context.Context) error {
	var observers sync.WaitGroup
	for _, in := range e.inputs {
		in.start(ctx, &observers)
		in.look()
	}
	timer := time.NewTimer(resyncEvery)
	defer timer.Stop()
	e.synced = e.Now()
	for {
		select {
		case <-ctx.Done():
			e.drain(&observers)
			return nil
		case report := <-e.reports:
			report()
			e.takeReports()
			e.pacer.note(e.Now())
		case answer := <-e.asked:
			close(answer)
			continue
		case <-timer.C:
		}
		if wait := e.pacer.wait(e.Now(), e.looking()); wait > 0 {
			timer.Reset(wait)
			continue
		}
		began := e.Now()
		next := e.pass()
		e.pacer.passed(began, e.Now())
		e.Meter.Pass(e.Now().Sub(began), e.err)
		timer.Reset(next)
	}
}

// Alive returns once the owning goroutine has answered: that it lives does not
// show on anything else of the process. It causes no pass.
func (e *Engine) Alive(ctx context.Context) error {
	answer := make(chan struct{})
	select {
	case e.asked <- answer:
		<-answer
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the planner does not answer: %w", ctx.Err())
	}
}

// drain lets steps in flight come to an end. Their reports are still taken:
// nobody may block on a loop that has ended.
func (e *Engine) drain(observers *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		e.workers.drain()
		observers.Wait()
		close(done)
	}()
	for {
		select {
		case report := <-e.reports:
			report()
		case <-done:
			return
		}
	}
}

// takeReports empties the queue: a burst is one pass.
func (e *Engine) takeReports() {
	for {
		select {
		case report := <-e.reports:
			report()
		default:
			return
		}
	}
}

// pass runs the Core and hands out its steps. It returns when to pass again.
func (e *Engine) pass() time.Duration {
	now := e.Now()
	resync := e.resyncAt()
	if !now.Before(resync) {
		e.lookAtAll()
		e.synced, resync = now, now.Add(resyncEvery)
	}
	if !e.rereadAt.IsZero() && !now.Before(e.rereadAt) {
		e.rereadAt = time.Time{}
		for _, name := range e.reread {
			e.lookAt(sourceInput + name)
		}
	}
	next := resync.Sub(now)
	if !e.allRead() {
		return next
	}
	if err := e.facts.Observed[resource.KindClaim].Err; err != nil {
		e.publish(nil, fmt.Errorf("the ledger cannot be read, so nothing is changed: %w", err))
		return next
	}
	e.facts.Now = now
	result, err := e.core.Pass(e.facts)
	if err != nil {
		e.Log.Error(err, "pass; nothing is changed until this is repaired")
		e.publish(nil, err)
		return next
	}
	e.reread, e.rereadAt = result.Reread, result.RereadAt
	e.rememberHolds()
	e.workers.cancelUnwanted(result.Compiled.Desired)
	for _, s := range result.Plan.Steps {
		e.Log.V(1).Info("step", "action", s.Verb, "resource", s.Resource.ID.String(), "reason", s.Reason)
		e.core.Begin(s)
	}
	e.workers.submit(result.Plan.Steps)
	e.publish(&result, nil)
	if !result.NextWake.IsZero() {
		next = min(next, max(result.NextWake.Sub(now), time.Millisecond))
	}
	return next
}

// rememberHolds keeps what the next daemon must know of missing objects, before
// anything is done about them.
func (e *Engine) rememberHolds() {
	state := e.core.missing.Durable()
	if e.Remember == nil || maps.Equal(state.Missing, e.remembered.Missing) {
		return
	}
	if err := e.Remember(state); err != nil {
		e.Log.Error(err, "remember what is held; a restart of the daemon would forget it")
		return
	}
	e.remembered = state
}

// landed is called by workers when steps have ended.
func (e *Engine) landed(steps []resource.Step, errs []error) {
	e.reports <- func() {
		now := e.Now()
		for i, s := range steps {
			e.logStep(s, errs[i])
			e.core.Finish(s, errs[i], now)
			if e.OnStep != nil {
				e.OnStep(s, errs[i])
			}
			in := e.byKind[s.Resource.Kind]
			e.waiting = append(e.waiting, landing{step: s, input: in, after: in.look()})
		}
	}
}

func (e *Engine) logStep(s resource.Step, err error) {
	kv := []any{"action", string(s.Verb), "resource", s.Resource.ID.String(), "uid", s.Resource.Owner}
	switch {
	case err == nil:
		e.Log.Info("done", kv...)
	case errors.Is(err, resource.ErrStale), errors.Is(err, context.Canceled):
		e.Log.V(1).Info("again", append(kv, "why", err.Error())...)
	default:
		e.Log.Info("failed", append(kv, "error", err.Error())...)
	}
}

// observedAnew releases objects whose steps ended before an observation began.
func (e *Engine) observedAnew(in *input, seq uint64) {
	kept := e.waiting[:0]
	for _, l := range e.waiting {
		if l.input == in && seq >= l.after {
			e.core.End(l.step)
			e.pacer.urgent = true // the object's next step waits for a pass
			continue
		}
		kept = append(kept, l)
	}
	e.waiting = kept
}

// Kick asks for a new look at everything (SIGHUP), and has what failed tried
// again: somebody may just have cured it.
func (e *Engine) Kick() {
	e.reports <- func() {
		e.core.Hurry(e.Now())
		e.lookAtAll()
	}
}

func (e *Engine) lookAtAll() {
	for _, s := range e.Sources {
		s.Resync()
	}
	for _, in := range e.inputs {
		in.look()
	}
}

func (e *Engine) lookAt(name string) {
	for _, in := range e.inputs {
		if in.name == name {
			in.look()
		}
	}
}

// resyncAt is when to read everything anew: soon while something could not be read.
func (e *Engine) resyncAt() time.Time {
	for _, d := range e.facts.Observed {
		if d.Err != nil || len(d.Unreadable) > 0 {
			return e.synced.Add(retryUnknown)
		}
	}
	return e.synced.Add(resyncEvery)
}

// looking reports whether a look is under way that was not adopted yet.
func (e *Engine) looking() bool {
	return slices.ContainsFunc(e.inputs, func(in *input) bool { return in.asked.Load() > in.seen })
}

func (e *Engine) allRead() bool {
	for _, in := range e.inputs {
		if in.seen == 0 {
			return false
		}
	}
	return true
}
