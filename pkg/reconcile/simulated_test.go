package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fault is what befalls one step.
type fault string

const (
	noFault          fault = ""
	crashBefore      fault = "crash before the step"
	crashAfter       fault = "crash after the step, before its record"
	failedStep       fault = "the step fails"
	timeoutEffect    fault = "the step times out and had its effect"
	timeoutNoEffect  fault = "the step times out without effect"
	daemonRestarts   fault = "the daemon restarts after the step"
	machineDies      fault = "the object's machine dies after the step"
	everythingReboot fault = "the host reboots after the step"
)

var faults = []fault{crashBefore, crashAfter, failedStep, timeoutEffect, timeoutNoEffect, daemonRestarts, machineDies, everythingReboot}

// sim is a whole daemon's logic over a simulated host: the Core of the engine,
// driven step by step.
type sim struct {
	t     tester
	world *simworld.World
	core  *Core
	files map[string][]v1alpha1.Container // file → its documents
	// marked directories carry .tekton-source.
	sourceErr error
	secrets   map[string]string
	steps     int
	faultAt   int
	fault     fault
	log       []string
	last      Result
}

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func newSim(t tester) *sim {
	s := &sim{t: t, world: simworld.New(epoch), files: map[string][]v1alpha1.Container{}, secrets: map[string]string{}, faultAt: -1}
	s.restart()
	return s
}

func simConfig() Config {
	h := &v1alpha1.Host{Spec: v1alpha1.HostSpec{Subnet: "10.99.0.0/24"}}
	h.Default()
	return Config{
		Host: h.Spec, Layout: host.Layout{State: "/state", Run: "/run/tekton", Secrets: "/state/secrets"},
		Naming:       resource.Naming{Subnet: netip.MustParsePrefix("10.99.0.0/24")},
		Installation: "0123456789ab", Decode: spec.FromJSON,
	}
}

// restart begins a new life of the daemon: all that it remembered is gone.
func (s *sim) restart() { s.core = NewCore(simConfig()) }

func (s *sim) put(file string, cs ...v1alpha1.Container) { s.files[file] = cs }
func (s *sim) delete(file string)                        { delete(s.files, file) }

func (s *sim) facts() Facts {
	snap := source.Snapshot{Source: "local", Complete: s.sourceErr == nil, Marked: true, ReadAt: s.world.Now, Err: s.sourceErr}
	for file, cs := range s.files {
		snap.Files = append(snap.Files, file)
		for i, c := range cs {
			snap.Objects = append(snap.Objects, object(file, i, c))
		}
	}
	return Facts{
		Now: s.world.Now, Snapshots: map[string]source.Snapshot{"local": snap}, Claims: s.world.Entries(),
		Observed: s.world.Observe(), Secrets: s.secrets,
	}
}

func object(file string, index int, c v1alpha1.Container) spec.Object {
	h := simConfig().Host
	c.Default(&h)
	raw, _ := json.Marshal(c)
	return spec.Object{Object: &c, Position: spec.Position{File: file, Line: 1 + 10*index, Column: 1}, Digest: fmt.Sprintf("%x", raw)}
}

// settle passes until nothing is left to do and no timer is near.
func (s *sim) settle() {
	s.t.Helper()
	for range 2000 {
		r, err := s.core.Pass(s.facts())
		if err != nil {
			s.t.Fatalf("pass: %v", err)
		}
		s.last = r
		if len(r.Plan.Steps) == 0 {
			if r.NextWake.IsZero() || r.NextWake.Sub(s.world.Now) > 10*time.Minute {
				return
			}
			s.world.Now = r.NextWake.Add(time.Millisecond)
			continue
		}
		s.take(r.Plan.Steps[0])
		s.world.Now = s.world.Now.Add(time.Millisecond)
	}
	s.t.Fatalf("no end state after 2000 steps; the last ones:\n%s\nblocked: %v", strings.Join(s.log[max(0, len(s.log)-30):], "\n"), s.last.Plan.Blocked)
}

// take applies one step, with the fault if it is its turn.
func (s *sim) take(step resource.Step) {
	s.t.Helper()
	f := noFault
	if s.steps == s.faultAt {
		f = s.fault
	}
	s.steps++
	s.log = append(s.log, fmt.Sprintf("%3d %s (%s) %s", s.steps, step, step.Reason, f))
	switch f {
	case crashBefore:
		s.restart()
		return
	case failedStep:
		s.core.Finish(step, errors.New("injected"), s.world.Now)
		return
	case timeoutNoEffect:
		s.core.Finish(step, fmt.Errorf("injected: %w", errTimeout), s.world.Now)
		return
	}
	err := s.world.Apply(step)
	if v := (*simworld.Violation)(nil); errors.As(err, &v) {
		s.t.Fatalf("%v\nhistory:\n%s", v, strings.Join(s.log, "\n"))
	}
	switch f {
	case crashAfter:
		s.restart()
		return
	case timeoutEffect:
		err = fmt.Errorf("injected: %w", errTimeout)
	case daemonRestarts:
		defer s.restart()
	case machineDies:
		defer s.world.Kill(step.Resource.Instance, 137)
	case everythingReboot:
		defer func() { s.world.Reboot(); s.restart() }()
	}
	s.core.Finish(step, err, s.world.Now)
}

var errTimeout = errors.New("timeout")

// quiet asserts I2: a converged host gets no mutating call.
func (s *sim) quiet() {
	s.t.Helper()
	before := s.world.Mutations
	s.settle()
	if n := s.world.Mutations - before; n != 0 {
		s.t.Errorf("I2 quiet: %d mutating calls on a converged host; the last:\n%s", n, strings.Join(s.log[len(s.log)-n:], "\n"))
	}
}

func (s *sim) item(name string) v1alpha1.Item {
	s.t.Helper()
	for _, i := range s.last.Items {
		if i.Metadata.Name == name {
			return i
		}
	}
	s.t.Fatalf("no item %q in %v", name, s.last.Items)
	return v1alpha1.Item{}
}

func (s *sim) wantPhase(name string, phase v1alpha1.Phase) {
	s.t.Helper()
	if i := s.item(name); i.Status.Phase != phase {
		s.t.Errorf("%s is %s, want %s; conditions: %+v", name, i.Status.Phase, phase, i.Status.Conditions)
	}
}

func web(name string) v1alpha1.Container {
	return v1alpha1.Container{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindContainer},
		Metadata: v1alpha1.ObjectMeta{Name: name},
		Spec: v1alpha1.ContainerSpec{
			System: v1alpha1.System{Host: true}, Command: []string{"/usr/bin/serve", "1"},
			Routes: []v1alpha1.Route{{Host: name + ".example.org", Path: "/", Port: 8080, TLS: "off"}},
		},
	}
}

func withData(c v1alpha1.Container, policy string) v1alpha1.Container {
	c.Spec.Volumes = []v1alpha1.Volume{{Name: "data", Path: "/data", DeletionPolicy: policy}}
	c.Spec.Databases = []v1alpha1.Database{{Name: "main", DeletionPolicy: policy}}
	return c
}

func command(c v1alpha1.Container, args ...string) v1alpha1.Container {
	c.Spec.Command = append([]string{"/usr/bin/serve"}, args...)
	return c
}

func TestOneFileComesAndGoes(t *testing.T) {
	s := newSim(t)
	before := s.world.Snapshot()
	s.put("web.yaml", web("web"))
	s.settle()
	s.wantPhase("web", v1alpha1.PhaseReady)
	s.quiet()
	s.delete("web.yaml")
	s.settle()
	s.world.Now = s.world.Now.Add(time.Hour) // the slot has cooled down
	s.settle()
	if d := cmp.Diff(before, s.world.Snapshot()); d != "" {
		t.Errorf("the host is not as before (-want +got):\n%s", d)
	}
	if len(s.last.Items) != 0 {
		t.Errorf("items left: %v", s.last.Items)
	}
}

// scenario is a history of changes; each is followed by settling.
type scenario struct {
	name    string
	changes []func(*sim)
}

func scenarios() []scenario {
	create := func(file string, c v1alpha1.Container) func(*sim) { return func(s *sim) { s.put(file, c) } }
	remove := func(file string) func(*sim) { return func(s *sim) { s.delete(file) } }
	return []scenario{
		{"create", []func(*sim){create("a.yaml", web("a"))}},
		{"create with data", []func(*sim){create("a.yaml", withData(web("a"), "Delete"))}},
		{"hot update", []func(*sim){create("a.yaml", web("a")), func(s *sim) {
			c := web("a")
			c.Spec.Routes = append(c.Spec.Routes, v1alpha1.Route{Host: "b.example.org", Path: "/", Port: 8080, TLS: "off"})
			s.put("a.yaml", c)
		}}},
		{"overlap update", []func(*sim){create("a.yaml", web("a")), create("a.yaml", command(web("a"), "2"))}},
		{"recreate update", []func(*sim){create("a.yaml", withData(web("a"), "Retain")), create("a.yaml", command(withData(web("a"), "Retain"), "2"))}},
		{"delete", []func(*sim){create("a.yaml", web("a")), remove("a.yaml")}},
		{"delete with data", []func(*sim){create("a.yaml", withData(web("a"), "Delete")), remove("a.yaml")}},
		{"delete with retained data", []func(*sim){create("a.yaml", withData(web("a"), "Retain")), remove("a.yaml")}},
		{"retained data adopted", []func(*sim){create("a.yaml", withData(web("a"), "Retain")), remove("a.yaml"), create("a.yaml", withData(web("a"), "Retain"))}},
		{"two objects, one goes", []func(*sim){func(s *sim) { s.put("a.yaml", web("a")); s.put("b.yaml", withData(web("b"), "Delete")) }, remove("b.yaml")}},
		{"link between two", []func(*sim){func(s *sim) {
			c := web("a")
			c.Spec.Network.Links = []v1alpha1.NetworkLink{{To: "b", Port: 8080}}
			s.put("a.yaml", c)
			s.put("b.yaml", web("b"))
		}, create("b.yaml", command(web("b"), "2"))}},
		{"disabled and enabled", []func(*sim){create("a.yaml", web("a")), func(s *sim) {
			c := web("a")
			c.Spec.Enabled = new(false)
			s.put("a.yaml", c)
		}, create("a.yaml", web("a"))}},
	}
}

func (sc scenario) run(t testing.TB, faultIn int, f fault, at int) (*sim, int) {
	t.Helper()
	s := newSim(t)
	first := 0
	for i, change := range sc.changes {
		if i == faultIn {
			first = s.steps
			s.fault, s.faultAt = f, s.steps+at
		}
		change(s)
		s.settle()
		// No cool-down may hide in the comparison of end states.
		s.world.Now = s.world.Now.Add(time.Hour)
		s.settle()
	}
	return s, s.steps - first
}

// TestCrashMatrix runs every scenario with every fault at every step boundary
// of every change: the end state must be that of the quiet run (I1), reached
// without a violated invariant, and be quiet (I2).
func TestCrashMatrix(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			quietRun, _ := sc.run(t, -1, noFault, 0)
			want := normalize(quietRun)
			for change := range sc.changes {
				_, n := sc.run(t, change, noFault, 0)
				for at := range n {
					for _, f := range faults {
						s, _ := sc.run(t, change, f, at)
						if d := cmp.Diff(want, normalize(s)); d != "" {
							t.Fatalf("I1 converge: %s at step %d of change %d (-want +got):\n%s\nhistory:\n%s", f, at, change, d, strings.Join(s.log, "\n"))
						}
						s.quiet()
					}
				}
			}
		})
	}
}

// normalize is the end state without what may differ after a fault: UIDs hash
// the time of their making, so each is replaced by its object's name.
func normalize(s *sim) string {
	out := s.world.Snapshot()
	for _, c := range s.world.Claims {
		var r compile.ObjectRecord
		if json.Unmarshal(c.Value, &r) == nil && r.UID != "" {
			out = strings.ReplaceAll(out, r.UID, "UID-of-"+r.Name)
		}
	}
	lines := strings.Split(out, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
