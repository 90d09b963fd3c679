package reconcile

import (
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
)

const (
	one = "path:/srv/a#one"
	two = "path:/srv/a#two"
)

// building settles with builds that do not come to an end.
func (s *sim) building() {
	s.t.Helper()
	s.endless = true
	s.settle()
	s.endless = false
}

func (s *sim) wantCondition(name, typ string, status v1alpha1.ConditionStatus, reason string) v1alpha1.Condition {
	s.t.Helper()
	for _, i := range s.last.Items {
		for _, c := range i.Status.Conditions {
			if i.Metadata.Name == name && c.Type == typ {
				if c.Status != status || c.Reason != reason {
					s.t.Errorf("%s: %s is %s %s: %s; want %s %s", name, typ, c.Status, c.Reason, c.Message, status, reason)
				}
				return c
			}
		}
	}
	s.t.Fatalf("%s has no condition %s", name, typ)
	return v1alpha1.Condition{}
}

// systems are the store paths that machines run from, by machine.
func (s *sim) systems() map[string]string {
	out := map[string]string{}
	for id, r := range s.world.Things {
		if i, ok := r.Value.(resource.Instance); ok {
			out[id.Name] = i.System.StorePath
		}
	}
	return out
}

func (s *sim) wantSystems(want map[string]string) {
	s.t.Helper()
	got := s.systems()
	for machine, path := range want {
		if got[machine] != path {
			s.t.Errorf("%s runs %q, want %q", machine, got[machine], path)
		}
	}
	if len(got) != len(want) {
		s.t.Errorf("machines %v, want %v", got, want)
	}
}

// TestFlakeIsBuiltOnce: objects of the same flake wait for one build.
func TestFlakeIsBuiltOnce(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", flaky(web("a"), one))
	s.put("b.yaml", flaky(web("b"), one))
	s.building()
	s.wantPhase("a", v1alpha1.PhaseBuilding)
	s.wantPhase("b", v1alpha1.PhaseBuilding)
	s.wantCondition("a", v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "Building")
	s.wantSystems(map[string]string{})
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantPhase("b", v1alpha1.PhaseReady)
	s.wantSystems(map[string]string{"a-1": simworld.StorePath(one), "b-1": simworld.StorePath(one)})
	if s.world.Builds[one] != 1 {
		t.Errorf("%d builds", s.world.Builds[one])
	}
	s.quiet()
	for _, i := range s.last.Items {
		if spec := i.Spec.(*v1alpha1.ContainerSpec); spec.System.StorePath != "" || i.Status.Build.StorePath == "" {
			t.Errorf("%s: system %+v, build %+v", i.Metadata.Name, spec.System, i.Status.Build)
		}
	}
}

// TestOldServesWhileBuilding, and is brought up again when it crashes; a failed
// build says why and is tried again.
func TestOldServesWhileBuilding(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", flaky(web("a"), one))
	s.settle()
	s.world.Flakes[two] = ""
	s.put("a.yaml", flaky(routed(web("a"), "late.example.org"), two))
	s.building()
	s.wantPhase("a", v1alpha1.PhaseDegraded)
	s.wantCondition("a", v1alpha1.ConditionBuilt, v1alpha1.ConditionFalse, "Building")
	s.wantSystems(map[string]string{"a-1": simworld.StorePath(one)})
	s.world.Kill("a-1", 1)
	s.building()
	if u := s.world.Things[resource.ID{Kind: resource.KindUnit, Name: "a-1"}].Value.(resource.Unit); !u.Running {
		t.Error("the old machine was not started again while the new one is built")
	}
	s.world.EndJobs()
	s.pass()
	c := s.wantCondition("a", v1alpha1.ConditionBuilt, v1alpha1.ConditionFalse, "BuildFailed")
	if !strings.Contains(c.Message, "exit code 1") || c.NextRetry.Sub(s.world.Now) > rebuildSoon || c.NextRetry.IsZero() {
		t.Errorf("condition %+v at %s", c, s.world.Now)
	}
	s.wantSystems(map[string]string{"a-1": simworld.StorePath(one)})
	s.world.Now = s.world.Now.Add(rebuildSoon)
	s.building()
	if s.world.Builds[two] < 2 {
		t.Error("the failed build was not tried again")
	}
	delete(s.world.Flakes, two)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantSystems(map[string]string{"a-2": simworld.StorePath(two)})
	s.quiet()
	if _, left := s.world.Things[resource.ID{Kind: resource.KindClosure, Name: resource.ClosureName(one, false)}]; left {
		t.Error("the former closure is kept")
	}
}

const rebuildSoon = 11 * time.Second

// TestHotChangeStaysWhileBuilding: what was changed without a new start does not
// come back when the next system is built.
func TestHotChangeStaysWhileBuilding(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", flaky(web("a"), one))
	s.settle()
	s.put("a.yaml", flaky(routed(web("a"), "second.example.org"), one))
	s.settle()
	s.put("a.yaml", flaky(routed(web("a"), "second.example.org"), two))
	s.building()
	served := false
	for id := range s.world.Things {
		served = served || id.Kind == resource.KindRoute && strings.HasPrefix(id.Name, "second.example.org")
	}
	if !served {
		t.Error("a route that was served before is gone while the next system is built")
	}
}

// TestParallelBuildsAreBounded: no more than the host allows, and all in the end.
func TestParallelBuildsAreBounded(t *testing.T) {
	s := newSim(t)
	names := []string{"a", "b", "c", "d", "e"}
	for _, n := range names {
		s.put(n+".yaml", flaky(web(n), "path:/srv/"+n+"#x"))
	}
	s.building()
	running := 0
	for _, r := range s.world.Things {
		if v, ok := r.Value.(resource.Closure); ok && v.Build.Running {
			running++
		}
	}
	if running != s.conf.Host.Nix.ParallelBuilds {
		t.Errorf("%d builds run, want %d", running, s.conf.Host.Nix.ParallelBuilds)
	}
	s.wantCondition("e", v1alpha1.ConditionBuilt, v1alpha1.ConditionFalse, "BuildQueued")
	s.settle()
	for _, n := range names {
		s.wantPhase(n, v1alpha1.PhaseReady)
	}
}

// TestRefresh: a reference that can move is looked up again, what is built stays
// until the new one is, and a failure to look changes nothing.
func TestRefresh(t *testing.T) {
	s := newSim(t)
	c := flaky(web("a"), one)
	c.Spec.System.Refresh = &v1alpha1.Duration{Duration: time.Hour}
	s.put("a.yaml", c)
	s.settle()
	s.world.Flakes[one] = ""
	s.world.Now = s.world.Now.Add(time.Hour)
	s.building()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.world.EndJobs()
	s.pass()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantCondition("a", v1alpha1.ConditionBuilt, v1alpha1.ConditionTrue, "BuildFailed")
	s.wantSystems(map[string]string{"a-1": simworld.StorePath(one)})
	s.world.Flakes[one] = "/nix/store/moved"
	s.world.Now = s.world.Now.Add(rebuildSoon)
	s.building()
	s.wantCondition("a", v1alpha1.ConditionBuilt, v1alpha1.ConditionTrue, "Retrying")
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantCondition("a", v1alpha1.ConditionBuilt, v1alpha1.ConditionTrue, "AsDesired")
	s.wantSystems(map[string]string{"a-2": "/nix/store/moved"})
	s.world.Now = s.world.Now.Add(time.Minute)
	before := s.world.Builds[one]
	s.settle()
	if s.world.Builds[one] != before {
		t.Error("looked up again before it was due")
	}
}

// TestChangedSpecCancelsBuild: what nobody asks for any more ends.
func TestChangedSpecCancelsBuild(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", flaky(web("a"), one))
	s.building()
	s.put("a.yaml", flaky(web("a"), two))
	s.building()
	if _, runs := s.world.Things[resource.ID{Kind: resource.KindClosure, Name: resource.ClosureName(one, false)}]; runs {
		t.Error("the build of the former spec goes on")
	}
	s.delete("a.yaml")
	s.settle()
	for id := range s.world.Things {
		if id.Kind == resource.KindClosure {
			t.Errorf("%s is left", id)
		}
	}
}
