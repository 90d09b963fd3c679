package reconcile

import (
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
)

// TestCrashLoopBacksOff: a machine that ends at once is started again after 1 s,
// then after twice as long each time, up to 5 min, and its status says when.
// Once it has run for long enough, it begins anew.
func TestCrashLoopBacksOff(t *testing.T) {
	s := newSim(t)
	s.world.Images["broken"] = simworld.Crashes
	s.put("a.yaml", command(web("a"), "broken"))
	s.crashes(1*time.Second, 2*time.Second, 4*time.Second, 8*time.Second, 16*time.Second, 32*time.Second, 64*time.Second, 128*time.Second,
		256*time.Second, 300*time.Second, 300*time.Second)
	s.world.Images["broken"] = simworld.Works
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.world.Now = s.world.Now.Add(resource.StableAfter)
	s.world.Images["broken"] = simworld.Crashes
	s.world.Kill("a-1", 1)
	s.crashes(1*time.Second, 1*time.Second, 2*time.Second)
}

// crashes demands these pauses between the recorded end of a run and the
// recorded beginning of the next.
func (s *sim) crashes(pauses ...time.Duration) {
	s.t.Helper()
	id := resource.ID{Kind: resource.KindUnit, Name: "a-1"}
	unit := func() resource.Unit { u, _ := s.world.Things[id].Value.(resource.Unit); return u }
	goOn := func() {
		if !s.tick() && !s.wait() {
			s.t.Fatalf("it is not started again: %+v", s.last.Items)
		}
	}
	for n, want := range pauses {
		for unit().ExitedAt.IsZero() {
			goOn()
		}
		ended, told := unit(), false
		for unit().Boot == ended.Boot {
			goOn()
			if at := s.last.Items[0].Status.Conditions[0].NextRetry; !at.IsZero() {
				told = true
				if !at.Equal(ended.ExitedAt.Add(want)) {
					s.t.Errorf("end %d, at %s, is said to be followed by a start at %s, want %s later", n, ended.ExitedAt, at, want)
				}
			}
		}
		if got := unit().StartedAt.Sub(ended.ExitedAt); !told || got < want || got > want+time.Second/2 {
			s.t.Errorf("after end %d it is started again %s later (said before: %v), want %s", n, got, told, want)
		}
	}
}
