package reconcile

import (
	"maps"
	"slices"

	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
)

// unreadable replaces each thing of a machine, one at a time, by one that cannot
// be read: nothing goes, and what is done for other objects stays the same (I7).
func (s *sim) unreadable() {
	s.t.Helper()
	known, err := s.core.clone().Pass(s.facts())
	if err != nil {
		s.t.Fatalf("pass: %v", err)
	}
	for _, r := range s.world.Things.Sorted() {
		switch r.Kind {
		case resource.KindVolume, resource.KindInstance, resource.KindUnit, resource.KindAnswer:
		default:
			continue
		}
		if r.Owner == resource.RetainedOwner {
			continue // whose it was, the mark does not say
		}
		i := ignorance{name: r.ID.String() + " alone", owner: r.Owner, of: func(f *Facts) {
			d := resource.Domain{Items: maps.Clone(f.Observed[r.Kind].Items)}
			delete(d.Items, r.ID)
			d.Unread(r.Name, errUnknown)
			f.Observed[r.Kind] = d
		}}
		s.ignorant(i)
		f := s.facts().clone()
		i.of(&f)
		now, err := s.core.clone().Pass(f)
		if err != nil {
			s.t.Fatalf("pass: %v", err)
		}
		if before, after := stepsOfOthers(known.Plan, r.Owner), stepsOfOthers(now.Plan, r.Owner); !slices.Equal(before, after) {
			s.t.Fatalf("with %s the steps of others are %q, were %q; history:\n%s", i.name, after, before, s.history())
		}
	}
}

// stepsOfOthers are those of all objects but one. The host's own are everybody's;
// a way to the one opens when it is known again, and so it takes over a route.
func stepsOfOthers(p plan.Plan, owner string) (out []string) {
	for _, s := range p.Steps {
		if s.Resource.Owner != owner && s.Resource.Owner != resource.HostOwner && s.Resource.Kind != resource.KindException && s.Resource.Kind != resource.KindRoute {
			out = append(out, s.String())
		}
	}
	return out
}
