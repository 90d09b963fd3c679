package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
)

// removals are the deletes of a plan: what stops, restarts or takes away.
func removals(p plan.Plan) map[string]bool {
	out := map[string]bool{}
	for _, s := range p.Steps {
		if s.Verb == resource.Delete {
			out[s.Resource.ID.String()] = true
		}
	}
	return out
}

// TestUnknownNeverRemoves replaces every domain by Unknown, one at a time, at
// every step of every scenario: that never adds a delete, a stop or a restart.
func TestUnknownNeverRemoves(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := newSim(t)
			for _, change := range sc.changes {
				change(s)
				for range 400 {
					f := s.facts()
					r, err := NewCore(simConfig()).Pass(f)
					if err != nil {
						t.Fatal(err)
					}
					checkUnknown(t, s, f, r)
					r, err = s.core.Pass(f)
					if err != nil {
						t.Fatal(err)
					}
					if len(r.Plan.Steps) > 0 {
						s.take(r.Plan.Steps[0])
						s.world.Now = s.world.Now.Add(time.Millisecond)
						continue
					}
					if r.NextWake.IsZero() || r.NextWake.Sub(s.world.Now) > 30*time.Second {
						break
					}
					s.world.Now = r.NextWake.Add(time.Millisecond)
				}
			}
		})
	}
}

func checkUnknown(t *testing.T, s *sim, f Facts, known Result) {
	t.Helper()
	allowed := removals(known.Plan)
	for _, k := range simworld.AllKinds {
		if k == resource.KindClaim {
			continue // without its ledger the engine makes no pass at all
		}
		g := f.clone()
		g.Observed[k] = resource.Unknown(errors.New("injected"))
		r, err := NewCore(simConfig()).Pass(g)
		if err != nil {
			t.Fatal(err)
		}
		for id := range removals(r.Plan) {
			if !allowed[id] {
				t.Fatalf("with %s unknown the plan deletes %s; history:\n%s", k, id, strings.Join(s.log, "\n"))
			}
		}
	}
	g := f.clone()
	g.SecretsErr = errors.New("injected")
	r, err := NewCore(simConfig()).Pass(g)
	if err != nil {
		t.Fatal(err)
	}
	for id := range removals(r.Plan) {
		if !allowed[id] {
			t.Fatalf("with the secrets unknown the plan deletes %s", id)
		}
	}
}

// TestRandomHistories lets anything happen in any order, then lets the faults
// end: every wanted object is Ready, nothing else is left, and it is quiet.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{sim: newSim(rt), rt: rt}
		for range rapid.IntRange(3, 12).Draw(rt, "events") {
			h.event()
			h.steps(rapid.IntRange(0, 25).Draw(rt, "steps"))
		}
		h.end()
	})
}

type history struct {
	*sim
	rt *rapid.T
}

var names = []string{"a", "b", "c"}

func (h *history) event() {
	name := rapid.SampledFrom(names).Draw(h.rt, "name")
	file := name + ".yaml"
	switch rapid.IntRange(0, 10).Draw(h.rt, "event") {
	case 0, 1, 2, 3:
		h.put(file, h.variant(name))
	case 4:
		h.delete(file)
	case 5: // a renamed file
		if docs, found := h.files[file]; found {
			h.delete(file)
			h.put(name+"-renamed.yaml", docs...)
		} else {
			h.delete(name + "-renamed.yaml")
		}
	case 6:
		h.restart()
	case 7:
		h.world.Reboot()
		h.restart()
	case 8:
		kind := rapid.SampledFrom([]resource.Kind{resource.KindDatabase, resource.KindRole, resource.KindRoute, resource.KindUnit, resource.KindLink}).Draw(h.rt, "kind")
		h.world.Unknown[kind] = errors.New("injected")
	case 9:
		h.world.Unknown = map[resource.Kind]error{}
		h.world.Now = h.world.Now.Add(time.Duration(rapid.IntRange(0, 3600).Draw(h.rt, "seconds")) * time.Second)
	case 10:
		for _, r := range h.world.Things.Sorted() {
			if r.Kind == resource.KindUnit && strings.HasPrefix(r.Name, name) {
				h.world.Kill(r.Name, 1)
			}
		}
	}
	h.log = append(h.log, fmt.Sprintf("--- files %v, unknown %v", slices.Sorted(maps.Keys(h.files)), slices.Collect(maps.Keys(h.world.Unknown))))
}

// variant is one of several specs of an object: with and without data, hot and
// cold differences, links, disabled, broken.
func (h *history) variant(name string) v1alpha1.Container {
	c := command(web(name), fmt.Sprint(rapid.IntRange(1, 3).Draw(h.rt, "command")))
	switch rapid.IntRange(0, 4).Draw(h.rt, "data") {
	case 0:
		c = withData(c, "Retain")
	case 1:
		c = withData(c, "Delete")
	}
	switch rapid.IntRange(0, 5).Draw(h.rt, "extra") {
	case 0:
		c.Spec.Enabled = new(false)
	case 1:
		c.Spec.Network.Links = []v1alpha1.NetworkLink{{To: rapid.SampledFrom(names).Draw(h.rt, "to"), Port: 8080}}
		c.Spec.Network.Links = slices.DeleteFunc(c.Spec.Network.Links, func(l v1alpha1.NetworkLink) bool { return l.To == name })
	case 2:
		c.Spec.Network.Egress.Mode = "none"
	case 3:
		c.Spec.Ephemeral = true
	}
	return c
}

// steps takes up to n steps of the plans, each with a fault now and then.
func (h *history) steps(n int) {
	for range n {
		r, err := h.core.Pass(h.facts())
		if err != nil {
			h.rt.Fatalf("pass: %v", err)
		}
		h.last = r
		h.world.Now = h.world.Now.Add(time.Millisecond)
		if len(r.Plan.Steps) == 0 {
			if !r.NextWake.IsZero() {
				h.world.Now = r.NextWake.Add(time.Millisecond)
			}
			continue
		}
		h.fault, h.faultAt = noFault, h.sim.steps
		if rapid.IntRange(0, 9).Draw(h.rt, "fault?") == 0 {
			h.fault = rapid.SampledFrom(faults).Draw(h.rt, "fault")
		}
		h.take(r.Plan.Steps[rapid.IntRange(0, len(r.Plan.Steps)-1).Draw(h.rt, "step")])
	}
}

func (h *history) end() {
	h.faultAt, h.world.Unknown = -1, map[resource.Kind]error{}
	h.world.Now = h.world.Now.Add(time.Hour)
	h.settle()
	// A name may stand in two files, and either document may have it.
	wanted := map[string]bool{} // → may be disabled
	for _, docs := range h.files {
		for _, c := range docs {
			wanted[c.Metadata.Name] = wanted[c.Metadata.Name] || (c.Spec.Enabled != nil && !*c.Spec.Enabled)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !wanted[name] || h.item(name).Status.Phase != v1alpha1.PhaseDisabled {
			h.wantReady(name)
		}
	}
	owners := map[string]bool{resource.HostOwner: true, resource.RetainedOwner: true}
	for _, i := range h.last.Items {
		owners[i.Metadata.UID] = true
		if _, asked := wanted[i.Metadata.Name]; !asked {
			h.rt.Fatalf("%s is %s, but no file asks for it", i.Metadata.Name, i.Status.Phase)
		}
	}
	for _, r := range h.world.Things.Sorted() {
		if !owners[r.Owner] {
			h.rt.Fatalf("%s of %s is left over; history:\n%s", r.ID, r.Owner, strings.Join(h.log, "\n"))
		}
	}
	h.quiet()
}

// wantReady wants an object Ready, or Degraded only for a link to nobody.
func (h *history) wantReady(name string) {
	i := h.item(name)
	if i.Status.Phase == v1alpha1.PhaseReady {
		return
	}
	for _, c := range i.Status.Conditions {
		if c.Reason == "LinkTargetMissing" {
			return
		}
	}
	h.rt.Fatalf("%s is %s: %+v\nhistory:\n%s", name, i.Status.Phase, i.Status.Conditions, strings.Join(h.log, "\n"))
}

// TestCompileIsDeterministic permutes the objects: same bytes out.
func TestCompileIsDeterministic(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", withData(web("a"), "Retain"), web("b"), web("c"))
	s.settle()
	want, err := s.core.Pass(s.facts())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := s.facts()
		snap := f.Snapshots["local"]
		snap.Objects = rapid.Permutation(snap.Objects).Draw(rt, "objects")
		f.Snapshots["local"] = snap
		got, err := NewCore(simConfig()).Pass(f)
		if err != nil {
			rt.Fatal(err)
		}
		if a, b := dump(want.Compiled), dump(got.Compiled); a != b {
			rt.Fatalf("order matters:\n%s\n---\n%s", a, b)
		}
	})
}

func dump(o compile.Output) string {
	var b strings.Builder
	for _, r := range o.Desired.Present.Sorted() {
		fmt.Fprintf(&b, "%s %s %s %+v\n", r.ID, r.Owner, r.Instance, r.Value)
	}
	return b.String()
}
