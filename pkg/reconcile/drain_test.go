package reconcile

import (
	"net/netip"
	"testing"
	"time"

	"tekton.host/pkg/resource"
)

// TestFormerDrains replaces a machine twice in a row: none stops within two
// seconds of the moment when its last route has left it, or before.
func TestFormerDrains(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", web("a"))
	s.settle()
	left, stops := map[netip.Addr]time.Time{}, 0 // when the route left an address
	look := func(step resource.Step) {
		switch v := step.Resource.Value.(type) {
		case resource.Route:
			left[step.Seen.Value.(resource.Route).Backend.Addr()] = s.world.Now
		case resource.Unit:
			if step.Verb != resource.Delete {
				return
			}
			stops++
			instance := s.world.Things[resource.ID{Kind: resource.KindInstance, Name: v.Name}].Value.(resource.Instance)
			if at := left[instance.Addr]; at.IsZero() || s.world.Now.Sub(at) < 2*time.Second {
				t.Errorf("%s is stopped at %s; its route left at %s", v.Name, s.world.Now, at)
			}
		}
	}
	for _, generation := range []string{"2", "3"} {
		s.put("a.yaml", command(web("a"), generation))
		// The next change comes while the former machine still drains.
		for routed := false; !routed || (generation == "3" && stops < 2); {
			r, err := s.core.Pass(s.facts())
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Plan.Steps) == 0 {
				if r.NextWake.IsZero() {
					t.Fatal("nothing happens any more")
				}
				s.world.Now = r.NextWake
				continue
			}
			step := r.Plan.Steps[0]
			look(step)
			routed = routed || step.Resource.Kind == resource.KindRoute
			s.take(step)
			s.world.Now = s.world.Now.Add(time.Millisecond)
		}
	}
	s.settle()
}
