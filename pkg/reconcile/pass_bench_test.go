package reconcile

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkPass measures a whole pass (resolve, compile, plan, status, the
// comparison that publishes) over converged objects with a route each.
func BenchmarkPass(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) {
			s := converged(b, n)
			b.ReportAllocs()
			e := &Engine{core: s.core}
			e.published.init()
			for b.Loop() {
				s.world.Now = s.world.Now.Add(time.Second)
				e.facts = s.observed
				e.facts.Now = s.world.Now
				r, err := e.core.Pass(e.facts)
				if err != nil || len(r.Plan.Steps) > 0 {
					b.Fatalf("not converged: %v %v", r.Plan.Steps, err)
				}
				e.publish(&r, nil)
			}
		})
	}
}

// convergedSim is a simulated host on which nothing is to be done any more,
// and its facts: like the daemon, passes get the same ones until an event.
type convergedSim struct {
	*sim
	observed Facts
}

func converged(b *testing.B, n int) convergedSim {
	b.Helper()
	s := newSimIn(b, "10.96.0.0/14")
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		s.put(name+".yaml", web(name))
	}
	for {
		r, err := s.core.Pass(s.facts())
		if err != nil {
			b.Fatal(err)
		}
		if len(r.Plan.Steps) == 0 {
			return convergedSim{s, s.facts()}
		}
		for _, step := range r.Plan.Steps {
			s.core.Finish(step, s.world.Apply(step), s.world.Now)
		}
		s.world.Now = s.world.Now.Add(time.Millisecond)
	}
}
