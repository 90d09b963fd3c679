package reconcile

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// everyCombination (TEKTON_TEST_MATRIX=all, a quarter of an hour) runs every fault
// at every boundary also with a second object; else there one, in turn. A
// scenario alone always has all of them.
var everyCombination = os.Getenv("TEKTON_TEST_MATRIX") == "all"

// TestCrashMatrix runs every scenario, alone and while a second object is
// created, updated, recreated or deleted, with every fault at every step
// boundary; where the step is the second object's, the first one's next step
// has a fault, too. I1 to I10 hold afterwards.
func TestCrashMatrix(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for _, with := range companions() {
				t.Run(with.name, func(t *testing.T) {
					for change := range sc.changes {
						matrix(t, sc, with, change)
					}
				})
			}
		})
	}
}

// seed makes the order in which steps land a function of the names.
func seed(names ...string) *rand.PCG {
	h := fnv.New64a()
	for _, n := range names {
		h.Write([]byte(n + "\x00"))
	}
	return rand.NewPCG(h.Sum64(), 0)
}

// begun is a run at the moment of a change: everything before is settled.
func (sc scenario) begun(t tester, with companion, change int) *sim {
	s := newSim(t)
	s.rand = seed(sc.name, with.name, fmt.Sprint(change))
	with.before(s)
	for i, do := range sc.changes[:change] {
		do(s)
		s.settle()
		if i < change-1 {
			s.pause()
		}
	}
	s.pause()
	s.events, s.landed = nil, 0
	sc.changes[change](s)
	with.while(s)
	return s
}

// pause lets slots cool down: that must not hide in comparisons of end states.
func (s *sim) pause() {
	s.settle()
	s.world.Now = s.world.Now.Add(time.Hour)
	s.settle()
}

// finishRun settles the change that is under way and makes those that follow.
func (sc scenario) finishRun(s *sim, change int) {
	for i := change; i < len(sc.changes); i++ {
		if i > change {
			sc.changes[i](s)
		}
		s.pause()
	}
}

func matrix(t *testing.T, sc scenario, with companion, change int) {
	t.Helper()
	quiet := sc.begun(t, with, change)
	run := quiet.clone()
	sc.finishRun(quiet, change)
	want := quiet.outcome()
	for boundary := 0; ; {
		run.pass()
		if len(run.flying) == 0 {
			if !run.wait() {
				return
			}
			continue
		}
		next := run.choose(len(run.flying))
		for n, f := range faults {
			turn := boundary + change + len(sc.name) + len(with.name)
			if with.name != alone && !everyCombination && turn%len(faults) != n {
				continue
			}
			s := run.clone()
			s.fault, s.faultAt = f, s.landed
			hit := run.flying[next].Resource
			if hit.Owner == ownerOf(run, "z") {
				s.second = faults[(n+boundary)%len(faults)]
			}
			second := s.second
			s.land(next)
			sc.finishRun(s, change)
			s.judge(sc, want, f, second)
		}
		run.land(next)
		boundary++
	}
}

// ownerOf is the UID of an object in the last pass.
func ownerOf(s *sim, name string) string {
	for _, i := range s.last.Items {
		if i.Metadata.Name == name && i.Metadata.UID != "" {
			return i.Metadata.UID
		}
	}
	return "nobody"
}

// judge asserts the invariants after a run with faults.
func (s *sim) judge(sc scenario, want outcome, f, second fault) {
	s.t.Helper()
	s.converged(want, sc.racy)
	s.keptData()
	s.unique()
	s.quiet()
	s.secretFree()
	if second == noFault && f.local() {
		s.independent(want)
	}
	if f.invisible() && second.invisible() && !sc.racy {
		s.undisturbed(want)
	}
}
