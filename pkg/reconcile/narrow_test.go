package reconcile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
)

// narrow has the next daemon admit something else from the source.
func (s *sim) narrow(allow *v1alpha1.Admission) {
	s.conf.Host.Sources[0].Allow = allow
	s.restart()
}

func (s *sim) runs(name string) bool {
	for _, r := range s.world.Things {
		if u, ok := r.Value.(resource.Unit); ok && u.Running && strings.HasPrefix(r.Name, name+"-") {
			return true
		}
	}
	return false
}

// TestNarrowedSource: what a source was allowed to have and may not have any
// more is stopped, says why, keeps its data and its claims, and runs again when
// it is admitted again. What asks for less than before is not touched.
func TestNarrowedSource(t *testing.T) {
	wide, narrow := &v1alpha1.Admission{Domains: []string{"*.example.org"}}, &v1alpha1.Admission{Domains: []string{"b.example.org"}}
	s := newSim(t)
	s.narrow(wide)
	paused := withData(web("a"), "Delete")
	s.put("a.yaml", paused)
	s.put("b.yaml", web("b"))
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	paused.Spec.Paused = true // is no way to stay
	s.put("a.yaml", paused)
	s.settle()
	uid, slot := s.item("a").Metadata.UID, s.item("a").Status.Slot
	b, _, _ := s.world.Observe().Get(resource.ID{Kind: resource.KindUnit, Name: "b-1"})

	s.narrow(narrow)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseRejected)
	why := s.item("a").Status.Conditions[0]
	if why.Type != v1alpha1.ConditionReady || why.Reason != "SourcePolicy" || !strings.Contains(why.Message, "a.yaml:1") || !strings.Contains(why.Message, "widen allow") {
		t.Errorf("it says %+v", why)
	}
	if s.runs("a") || !s.runs("b") {
		t.Errorf("a runs: %v, b runs: %v", s.runs("a"), s.runs("b"))
	}
	s.wantPhase("b", v1alpha1.PhaseReady)
	now, _, _ := s.world.Observe().Get(b.ID)
	if diff := cmp.Diff(b, now); diff != "" {
		t.Errorf("the unit of b has changed (-before +after):\n%s", diff)
	}
	if volumes := s.world.Observe()[resource.KindVolume].Items; len(volumes) != 1 {
		t.Errorf("volumes: %v", volumes)
	}
	s.quiet()
	s.sourceErr = errCrashed // what cannot be read now was refused all the same
	s.narrow(narrow)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseRejected)
	s.sourceErr = nil

	paused.Spec.Paused = false
	s.put("a.yaml", paused)
	s.narrow(wide)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	if i := s.item("a"); i.Metadata.UID != uid || i.Status.Slot != slot {
		t.Errorf("it was %s in slot %d and is %s in slot %d", uid, slot, i.Metadata.UID, i.Status.Slot)
	}
}

// TestNoWayBackToTheRefused: a change that fails, or one that pauses, does not
// bring back what the source may not have any more.
func TestNoWayBackToTheRefused(t *testing.T) {
	narrow := &v1alpha1.Admission{Domains: []string{"b.example.org"}}
	admitted := command(web("b"), "2")
	admitted.Metadata.Name = "a"
	for name, change := range map[string]func(*sim){
		"a change that crashes":       func(s *sim) { s.world.Images["2"] = simworld.Crashes },
		"a change that never answers": func(s *sim) { s.world.Images["2"] = simworld.Mute },
		"a pause": func(s *sim) {
			admitted := admitted
			admitted.Spec.Paused = true
			s.put("a.yaml", admitted)
		},
	} {
		for _, before := range []bool{true, false} { // the narrowing is
			t.Run(fmt.Sprintf("%s, narrowed before: %v", name, before), func(t *testing.T) {
				s := newSim(t)
				s.put("a.yaml", web("a"))
				s.settle()
				if before {
					s.narrow(narrow)
					s.settle()
				}
				s.put("a.yaml", admitted)
				change(s)
				s.settle()
				if !before {
					s.narrow(narrow)
					s.settle()
				}
				if u, present, _ := s.world.Observe().Get(resource.ID{Kind: resource.KindUnit, Name: "a-1"}); present {
					t.Errorf("what is not admitted runs: %+v; history:\n%s", u, s.history())
				}
				if name == "a pause" {
					return
				}
				if ready := s.item("a").Status.Conditions[0]; ready.Reason != "SourcePolicy" || s.item("a").Status.Phase == v1alpha1.PhaseReady {
					t.Errorf("it is %s and says %+v", s.item("a").Status.Phase, ready)
				}
				s.quiet()
			})
		}
	}
}
