package reconcile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
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
