package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
)

// fakeDriver manages some kinds of a shared simulated host.
type fakeDriver struct {
	name  string
	kinds []resource.Kind
	rig   *rig
	// before is called before each step, outside of the host's lock.
	before func(ctx context.Context, s resource.Step) error
	// observing is called before each observation.
	observing func(ctx context.Context)
}

func (d *fakeDriver) Name() string           { return d.name }
func (d *fakeDriver) Kinds() []resource.Kind { return d.kinds }

func (d *fakeDriver) Observe(ctx context.Context) map[resource.Kind]resource.Domain {
	if d.observing != nil {
		d.observing(ctx)
	}
	d.rig.mu.Lock()
	defer d.rig.mu.Unlock()
	all := d.rig.world.Observe()
	out := map[resource.Kind]resource.Domain{}
	for _, k := range d.kinds {
		out[k] = all[k]
	}
	return out
}

func (d *fakeDriver) Apply(ctx context.Context, steps []resource.Step) []error {
	errs := make([]error, len(steps))
	for i, s := range steps {
		if d.before != nil {
			if errs[i] = d.before(ctx, s); errs[i] != nil {
				continue
			}
		}
		d.rig.mu.Lock()
		d.rig.world.Now = time.Now()
		errs[i] = d.rig.world.Apply(s)
		if v := (*simworld.Violation)(nil); errors.As(errs[i], &v) {
			d.rig.t.Error(v)
		}
		d.rig.mu.Unlock()
	}
	return errs
}

func (d *fakeDriver) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }

type fakeSource struct {
	mu     sync.Mutex
	snap   source.Snapshot
	notify func()
}

func (s *fakeSource) Name() string { return "local" }
func (s *fakeSource) Resync()      {}
func (s *fakeSource) Snapshot(context.Context) source.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snap
	snap.ReadAt = time.Now()
	return snap
}

func (s *fakeSource) Watch(ctx context.Context, notify func()) error {
	s.mu.Lock()
	s.notify = notify
	s.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (s *fakeSource) put(cs ...v1alpha1.Container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snap = source.Snapshot{Source: "local", Complete: true, Marked: true}
	for _, c := range cs {
		file := c.Metadata.Name + ".yaml"
		s.snap.Files = append(s.snap.Files, file)
		s.snap.Objects = append(s.snap.Objects, object(file, 0, c))
	}
	if s.notify != nil {
		s.notify()
	}
}

type noSecrets struct{}

func (noSecrets) Digests() (map[string]string, error)            { return nil, nil }
func (noSecrets) Watch(ctx context.Context, notify func()) error { <-ctx.Done(); return nil }

// rig is an engine over a simulated host, with one driver for machines and one
// for everything else.
type rig struct {
	t        *testing.T
	mu       sync.Mutex
	world    *simworld.World
	source   *fakeSource
	machines *fakeDriver
	others   *fakeDriver
	engine   *Engine
	stop     context.CancelFunc
	ended    chan error
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, world: simworld.New(time.Now()), source: &fakeSource{}, ended: make(chan error, 1)}
	r.source.put()
	r.machines = &fakeDriver{name: "machines", kinds: []resource.Kind{resource.KindUnit, resource.KindInstance, resource.KindAnswer, resource.KindVolume}, rig: r}
	r.others = &fakeDriver{name: "others", rig: r}
	mine := map[resource.Kind]bool{}
	for _, k := range r.machines.kinds {
		mine[k] = true
	}
	for _, k := range simworld.AllKinds {
		if !mine[k] {
			r.others.kinds = append(r.others.kinds, k)
		}
	}
	r.engine = New(Options{
		Config: simConfig(), Drivers: []resource.Driver{r.machines, r.others}, Sources: []Source{r.source}, Secrets: noSecrets{}, ParallelStarts: 2,
	})
	return r
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop = cancel
	go func() { r.ended <- r.engine.Run(ctx) }()
}

func (r *rig) end() {
	r.t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
}

func (r *rig) phase(name string) v1alpha1.Phase {
	i, _ := r.engine.View().Item(v1alpha1.KindContainer, name)
	return i.Status.Phase
}

func (r *rig) wantPhases(want map[string]v1alpha1.Phase) {
	r.t.Helper()
	for name, phase := range want {
		if got := r.phase(name); got != phase {
			i, _ := r.engine.View().Item(v1alpha1.KindContainer, name)
			r.t.Errorf("%s is %q, want %q: %+v", name, got, phase, i.Status.Conditions)
		}
	}
}

func TestEngineConverges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		var cs []v1alpha1.Container
		want := map[string]v1alpha1.Phase{}
		for i := range 30 {
			name := fmt.Sprintf("w%02d", i)
			cs = append(cs, withData(web(name), "Delete"))
			want[name] = v1alpha1.PhaseReady
		}
		r.source.put(cs...)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		r.wantPhases(want)
		mutations := r.world.Mutations
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := r.world.Mutations - mutations; n != 0 {
			t.Errorf("I2 quiet: %d mutating calls in ten idle minutes", n)
		}
		r.end()
	})
}

// TestEngineIndependence: a start that hangs and a driver that panics delay
// only their own object (I7).
func TestEngineIndependence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.machines.before = func(ctx context.Context, s resource.Step) error {
			switch {
			case s.Resource.Kind == resource.KindUnit && s.Resource.Name == "hangs-1":
				<-ctx.Done()
				return ctx.Err()
			case s.Resource.Kind == resource.KindInstance && s.Resource.Name == "panics-1":
				panic("injected")
			}
			return nil
		}
		r.start()
		synctest.Wait()
		r.source.put(web("hangs"), web("panics"), web("works"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.wantPhases(map[string]v1alpha1.Phase{"works": v1alpha1.PhaseReady, "panics": v1alpha1.PhaseFailed, "hangs": v1alpha1.PhaseStarting})
		time.Sleep(setupTimeout)
		synctest.Wait()
		r.wantPhases(map[string]v1alpha1.Phase{"hangs": v1alpha1.PhaseFailed})
		r.source.put(web("works"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if items := r.engine.View().Result.Items; len(items) != 1 {
			t.Errorf("removed objects are still there: %+v", items)
		}
		r.end()
	})
}

// TestEngineCancelsWhatIsNotWanted: a probe that would go on for a minute does
// not delay the object's change.
func TestEngineCancelsWhatIsNotWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.machines.before = func(ctx context.Context, s resource.Step) error {
			if s.Resource.Kind == resource.KindAnswer && s.Resource.Name == "web-1" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		r.start()
		synctest.Wait()
		r.source.put(web("web"))
		time.Sleep(time.Second)
		synctest.Wait()
		r.wantPhases(map[string]v1alpha1.Phase{"web": v1alpha1.PhaseStarting})
		r.source.put(command(web("web"), "2"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		r.wantPhases(map[string]v1alpha1.Phase{"web": v1alpha1.PhaseReady})
		r.end()
	})
}

// TestEngineSlowObservation: a system that does not answer delays only those
// who need it.
func TestEngineSlowObservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		slow := &fakeDriver{name: "database", kinds: []resource.Kind{resource.KindRole, resource.KindDatabase, resource.KindAccess}, rig: r}
		first := true
		slow.observing = func(ctx context.Context) {
			if first { // the first look is answered: the daemon was there before the fault
				first = false
				return
			}
			<-ctx.Done()
		}
		var rest []resource.Kind
		for _, k := range r.others.kinds {
			if k != resource.KindRole && k != resource.KindDatabase && k != resource.KindAccess {
				rest = append(rest, k)
			}
		}
		r.others.kinds = rest
		r.engine = New(Options{
			Config: simConfig(), Drivers: []resource.Driver{r.machines, r.others, slow}, Sources: []Source{r.source}, Secrets: noSecrets{}, ParallelStarts: 2,
		})
		r.start()
		synctest.Wait()
		r.source.put(web("plain"), withData(web("data"), "Retain"))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		r.wantPhases(map[string]v1alpha1.Phase{"plain": v1alpha1.PhaseReady})
		if r.phase("data") == v1alpha1.PhaseReady {
			t.Error("the object with a database is Ready though nobody saw its database")
		}
		r.end()
	})
}

// TestEngineStopsSoon: a step that takes long does not keep the daemon from ending.
func TestEngineStopsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		hang := func(ctx context.Context, s resource.Step) error {
			if k := s.Resource.Kind; k == resource.KindUnit || k == resource.KindRecord { // one by one, and in a batch
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		r.machines.before, r.others.before = hang, hang
		r.start()
		synctest.Wait()
		r.source.put(web("web"))
		time.Sleep(time.Second)
		began := time.Now()
		r.end()
		if took := time.Since(began); took > drainPatience {
			t.Errorf("Run returned after %v", took)
		}
	})
}

// TestEngineStops lets a step in flight come to its end.
func TestEngineStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		finished := false
		r.machines.before = func(ctx context.Context, s resource.Step) error {
			if s.Resource.Kind == resource.KindUnit {
				time.Sleep(3 * time.Second)
				finished = ctx.Err() == nil
			}
			return nil
		}
		r.start()
		synctest.Wait()
		r.source.put(web("web"))
		time.Sleep(time.Second)
		r.end()
		if !finished {
			t.Error("Run returned while a step was under way, or cut it short")
		}
	})
}
