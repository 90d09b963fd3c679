package reconcile

import (
	"reflect"
	"sync"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
)

// published is the last result, for readers in other goroutines.
type published struct {
	mu      sync.Mutex
	result  *Result
	facts   Facts
	err     error
	changed chan struct{}
}

func (p *published) init() { p.changed = make(chan struct{}) }

// publish makes a pass's result visible. Readers are woken only when what they
// can see has changed, so that an idle host wakes nobody.
func (e *Engine) publish(r *Result, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := e.err == nil && err == nil && e.result != nil && r != nil && sameView(e.result, r)
	if r != nil {
		e.result = r
		e.published.facts = e.facts.clone()
	}
	e.err = err
	if !same {
		close(e.changed)
		e.changed = make(chan struct{})
	}
}

func sameView(a, b *Result) bool {
	return len(a.Plan.Steps) == len(b.Plan.Steps) && reflect.DeepEqual(a.Items, b.Items) &&
		reflect.DeepEqual(a.Sources, b.Sources) && reflect.DeepEqual(a.Problems, b.Problems)
}

// clone copies the maps that the owning goroutine goes on to change. Their
// values are replaced, never changed in place.
func (f Facts) clone() Facts {
	out := f
	out.Snapshots = cloneMap(f.Snapshots)
	out.Observed = cloneMap(f.Observed)
	return out
}

func cloneMap[M ~map[K]V, K comparable, V any](m M) M {
	out := make(M, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// View is the state of the engine at one moment, for readers.
type View struct {
	Result Result
	Facts  Facts
	// Read is false until everything was read once.
	Read bool
	Err  error
}

// View returns the last result.
func (e *Engine) View() View {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := View{Facts: e.published.facts, Err: e.err}
	if e.result != nil {
		v.Result, v.Read = *e.result, true
	}
	return v
}

// Changed returns a channel that is closed when View may return something else.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// Settled reports whether nothing is under way and nothing is left to do
// before t: what is not as desired then waits for somebody else.
func (v View) Settled(t time.Time) bool {
	if !v.Read || v.Err != nil || v.Result.Busy || len(v.Result.Plan.Steps) > 0 {
		return false
	}
	if !v.Result.NextWake.IsZero() && v.Result.NextWake.Before(t) {
		return false
	}
	for _, b := range v.Result.Plan.Blocked {
		if b.Why == plan.UnderWay {
			return false
		}
	}
	return true
}

// Incarnations returns what runs, or is to run, for an object.
func (v View) Incarnations(kind, name string) (serving, target *compile.Incarnation, found bool) {
	for _, o := range v.Result.Compiled.Objects {
		if o.Record.Kind == kind && o.Record.Name == name {
			return o.Serving, o.Target, true
		}
	}
	return nil, nil, false
}

// Item returns an object's item.
func (v View) Item(kind, name string) (v1alpha1.Item, bool) {
	for _, i := range v.Result.Items {
		if i.Kind == kind && i.Metadata.Name == name {
			return i, true
		}
	}
	return v1alpha1.Item{}, false
}

// Unit returns the observed unit of a machine.
func (v View) Unit(machine string) (resource.Unit, bool) {
	r, present, _ := v.Facts.Observed.Get(resource.ID{Kind: resource.KindUnit, Name: machine})
	if !present {
		return resource.Unit{}, false
	}
	return r.Value.(resource.Unit), true
}
