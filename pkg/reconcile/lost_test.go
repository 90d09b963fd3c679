package reconcile

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

// TestLostClaims takes entries out of the ledger, each alone, all of a sort, and
// all of them, at step boundaries of every scenario, as if an older ledger had
// been restored: on the host nothing goes, stops or starts anew that would not
// without that. Where nothing was under way all is as before when the entries
// are back.
func TestLostClaims(t *testing.T) {
	for _, sc := range scenarios() {
		if sc.racy {
			continue // what goes depends on how far things came
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for change := range sc.changes {
				lostAtEach(t, sc, change)
			}
		})
	}
}

func lostAtEach(t *testing.T, sc scenario, change int) {
	t.Helper()
	run := sc.begun(t, companions()[0], change)
	for boundary, more := 0, true; more; boundary++ {
		more = run.tick() || run.wait()
		known := run.clone()
		known.restart()
		losses := lossesOf(known)
		going := known.clone()
		sc.finishRun(going, change)
		for n, lost := range losses {
			if more && (boundary+n)%3 != 0 {
				continue // in turn
			}
			s := known.clone()
			s.lose(lost)
			for range 200 {
				if !s.tick() && !s.wait() {
					break
				}
			}
			s.noMoreGoes(lost, going, known)
			s.toldOfLoss()
			if !more {
				s.mended(known, lost)
			}
		}
	}
}

// lossesOf are sets of keys that the ledger may lose.
func lossesOf(s *sim) (losses [][]string) {
	keys := slices.Sorted(maps.Keys(s.world.Claims))
	for _, key := range keys {
		losses = append(losses, []string{key})
	}
	for _, prefix := range claimSorts {
		sort := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !strings.HasPrefix(key, prefix) })
		if len(sort) > 1 {
			losses = append(losses, sort)
		}
	}
	return append(losses, keys)
}

func (s *sim) lose(keys []string) {
	for _, key := range keys {
		delete(s.world.Claims, key)
	}
	s.note("--- the ledger loses "+strings.Join(keys, " "), resource.Step{}, nil)
}

// gone are the things on the host that steps took away so far; what stops counts.
func (s *sim) gone() map[resource.ID]bool {
	out := map[resource.ID]bool{}
	for _, e := range s.events {
		if e.step.Verb == resource.Delete && e.err == nil && e.step.Resource.Kind != resource.KindClaim {
			out[e.step.Resource.ID] = true
		}
	}
	return out
}

// noMoreGoes asserts that nothing went, and no machine was started, that did not
// without the loss. An object whose deletion is forgotten is wanted again: what is
// started for it then goes once more with it.
func (s *sim) noMoreGoes(lost []string, going, before *sim) {
	s.t.Helper()
	revived := slices.ContainsFunc(lost, func(key string) bool { return strings.HasPrefix(key, "tombstone/") })
	allowed := going.gone()
	for id := range s.gone() {
		_, there := before.world.Things[id]
		if !allowed[id] && (there || !revived) {
			s.t.Fatalf("without %v %s goes; history:\n%s", lost, id, s.history())
		}
	}
	for machine, n := range s.world.Starts {
		if !revived && n > going.world.Starts[machine] {
			s.t.Fatalf("without %v %s is started %d times, else %d; history:\n%s", lost, machine, n, going.world.Starts[machine], s.history())
		}
	}
}

// toldOfLoss asserts I9 for machines of which no object is known any more.
func (s *sim) toldOfLoss() {
	s.t.Helper()
	known := map[string]bool{}
	for _, i := range s.last.Items {
		known[i.Metadata.Name] = true
	}
	for id, r := range s.world.Things {
		i, isMachine := r.Value.(resource.Instance)
		if isMachine && !known[i.Hostname] && !slices.ContainsFunc(s.last.Problems, func(p Problem) bool { return strings.Contains(p.Message, id.Name) }) {
			s.t.Fatalf("nobody is told of %s; history:\n%s", id.Name, s.history())
		}
	}
}

// mended asserts that with the entries back the host is as before the loss.
func (s *sim) mended(known *sim, lost []string) {
	s.t.Helper()
	s.world.Claims = maps.Clone(known.world.Claims)
	s.restart()
	s.pause()
	want := known.clone()
	want.pause()
	if d := cmp.Diff(want.outcome().host, s.outcome().host); d != "" {
		s.t.Fatalf("%v were lost and restored (-want +got):\n%s\nhistory:\n%s", lost, d, s.history())
	}
}
