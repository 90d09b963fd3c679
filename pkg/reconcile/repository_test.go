package reconcile

import (
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
)

const forge = "https://forge.example.org/team/app.git"

func (s *sim) checkouts() int { return s.count(resource.KindCheckout) }

func (s *sim) count(k resource.Kind) int {
	n := 0
	for id := range s.world.Things {
		if id.Kind == k {
			n++
		}
	}
	return n
}

// wantClone wants an object's volume to be made of a commit; "": not to be there.
func (s *sim) wantClone(name, commit string) {
	s.t.Helper()
	id := resource.ID{Kind: resource.KindVolume, Name: resource.VolumeName(v1alpha1.KindContainer, name, "src")}
	_, there := s.world.Things[id]
	if there != (commit != "") || there && s.world.Clones[id] != commit {
		s.t.Errorf("volume of %s: there %v, made of %q, want %q", name, there, s.world.Clones[id], commit)
	}
}

// TestVolumeOfRepository: nothing is made before the commit is known, one fetch
// serves all, and what was made is the user's: nobody fetches for it again.
func TestVolumeOfRepository(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", cloning(web("a"), forge))
	s.put("b.yaml", cloning(web("b"), forge))
	s.building()
	s.wantPhase("a", v1alpha1.PhaseFetching)
	s.wantCondition("a", v1alpha1.ConditionFetched, v1alpha1.ConditionFalse, "Fetching")
	s.wantClone("a", "")
	if s.count(resource.KindUnit) > 0 {
		t.Error("a machine runs without its volume")
	}
	s.settle()
	for _, name := range []string{"a", "b"} {
		s.wantPhase(name, v1alpha1.PhaseReady)
		s.wantClone(name, simworld.Commit(forge))
	}
	if s.world.Fetches[forge] != 1 || s.checkouts() > 0 {
		t.Errorf("%d fetches, %d checkouts are left", s.world.Fetches[forge], s.checkouts())
	}
	s.quiet()
	s.world.Repositories[forge] = "moved"
	s.put("a.yaml", command(cloning(web("a"), forge), "2"))
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantClone("a", simworld.Commit(forge))
	c := cloning(web("a"), "https://forge.example.org/other.git")
	s.put("a.yaml", c)
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantClone("a", simworld.Commit(forge))
	if s.world.Fetches[forge] != 1 || s.world.Fetches["https://forge.example.org/other.git"] != 0 {
		t.Errorf("fetches %v", s.world.Fetches)
	}
}

// TestRepositoryFails: the reason is told, what runs serves on, and it is tried
// again, at once where the secret was mended.
func TestRepositoryFails(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", web("a"))
	s.settle()
	s.world.Repositories[forge] = ""
	c := cloning(web("a"), forge)
	c.Spec.Volumes[0].Repository.Secret = "token"
	s.put("a.yaml", c)
	s.building()
	s.wantPhase("a", v1alpha1.PhaseDegraded)
	s.wantCondition("a", v1alpha1.ConditionSecretsReady, v1alpha1.ConditionFalse, "SecretMissing")
	if s.world.Fetches[forge] > 0 {
		t.Error("fetched without its secret")
	}
	s.secrets["token"] = "canary-1"
	s.building()
	s.world.EndJobs()
	s.pass()
	if c := s.wantCondition("a", v1alpha1.ConditionFetched, v1alpha1.ConditionFalse, "RefNotFound"); c.NextRetry.IsZero() || !strings.Contains(c.Message, "no such branch") {
		t.Errorf("%+v", c)
	}
	s.world.Kill("a-1", 1)
	s.building()
	if u := s.world.Things[resource.ID{Kind: resource.KindUnit, Name: "a-1"}].Value.(resource.Unit); !u.Running {
		t.Error("the old machine was not started again while the repository cannot be fetched")
	}
	s.world.EndJobs()
	s.pass()
	n := s.world.Fetches[forge]
	now := s.world.Now
	s.secrets["token"] = "canary-2"
	delete(s.world.Repositories, forge)
	s.pass()
	for s.tick() {
	}
	if s.world.Fetches[forge] != n+1 || s.world.Now.Sub(now) > rebuildSoon {
		t.Errorf("%d fetches after %d, %s later", s.world.Fetches[forge], n, s.world.Now.Sub(now))
	}
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.wantClone("a", simworld.Commit(forge))
}

// TestRepositoryLost: a mirror that is lost before the volume was made is
// fetched anew, and while that fails nothing goes round.
func TestRepositoryLost(t *testing.T) {
	s := newSim(t)
	s.put("b.yaml", cloning(web("b"), forge))
	s.world.Unknown[resource.KindVolume] = errUnknown
	s.settle()
	s.world.Unknown = map[resource.Kind]error{}
	s.building()
	s.world.EndJobs()
	s.world.LoseCheckouts()
	s.world.Repositories[forge] = ""
	s.building()
	s.world.EndJobs()
	before := s.world.Mutations
	for range 5 {
		s.pass()
		for s.tick() {
		}
	}
	if n := s.world.Mutations - before; n > 1 {
		t.Errorf("%d steps while it waits for the next attempt", n)
	}
	delete(s.world.Repositories, forge)
	s.settle()
	s.wantPhase("b", v1alpha1.PhaseReady)
	s.wantClone("b", simworld.Commit(forge))
}

// TestDisabledRepository: disabled objects have nothing fetched, and
// what was fetched goes with the last object.
func TestDisabledRepository(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", disabled(cloning(web("a"), forge)))
	s.settle()
	if s.world.Fetches[forge] > 0 {
		t.Error("fetched for a disabled object")
	}
	s.put("a.yaml", cloning(web("a"), forge))
	s.settle()
	s.wantPhase("a", v1alpha1.PhaseReady)
	s.delete("a.yaml")
	s.settle()
	if s.checkouts() > 0 {
		t.Error("a checkout is left")
	}
}
