package absence

import (
	"cmp"
	"fmt"
	"slices"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// Winner is the object that has its name, with the name of its source.
type Winner struct {
	Source string
	spec.Object
}

// Duplicate is a document whose name belongs to another, as a problem with the
// reason DuplicateName.
type Duplicate struct {
	Source string
	spec.Problem
}

// Resolve gives each name to one object; all kinds that run a machine share one
// name space. A name that the ledger knows belongs to that object, wherever its document is
// in its source, until the object is gone: a half-written file must not hand
// it to a copy. Other names go to the first by source, file and line. A name
// that is held with nothing to show for it has no winner. Winners are sorted by
// name and kind, duplicates by source and position.
func Resolve(sources []Source, snapshots map[string]source.Snapshot, known []Known) (winners []Winner, duplicates []Duplicate) {
	holders := make(map[string]Known, len(known))
	for _, k := range known {
		holders[v1alpha1.UniqueName(k.Kind, k.Name)] = k
	}
	views, rank := map[string]*view{}, map[string]int{}
	byName := make(map[string][]Winner, len(known))
	for i, s := range sources {
		snap, read := snapshots[s.Name]
		if !read {
			continue
		}
		views[s.Name], rank[s.Name] = newView(snap, known), i
		for _, o := range snap.Objects {
			name := o.UniqueName()
			byName[name] = append(byName[name], Winner{s.Name, o})
		}
	}
	for name, candidates := range byName {
		slices.SortFunc(candidates, func(a, b Winner) int {
			return cmp.Or(cmp.Compare(rank[a.Source], rank[b.Source]), comparePositions(a.Position, b.Position))
		})
		k, held := holders[name]
		winner := 0
		if held {
			winner = choose(k, candidates, views[k.Source])
		}
		for i, c := range candidates {
			switch {
			case i == winner:
				winners = append(winners, c)
			case winner < 0:
				duplicates = append(duplicates, Duplicate{c.Source, duplicate(c, describeHolder(k))})
			default:
				duplicates = append(duplicates, Duplicate{c.Source, duplicate(c, describe(candidates[winner]))})
			}
		}
	}
	slices.SortFunc(winners, func(a, b Winner) int {
		return cmp.Or(cmp.Compare(a.Meta().Name, b.Meta().Name), cmp.Compare(a.Type().Kind, b.Type().Kind))
	})
	slices.SortFunc(duplicates, func(a, b Duplicate) int {
		return cmp.Or(cmp.Compare(rank[a.Source], rank[b.Source]), comparePositions(a.Position, b.Position))
	})
	return winners, duplicates
}

// choose returns the candidate that is the known object, -1 if none is.
func choose(k Known, candidates []Winner, v *view) int {
	if v == nil {
		return -1
	}
	found, _ := v.find(k)
	if found == nil {
		return -1
	}
	return slices.IndexFunc(candidates, func(c Winner) bool {
		return c.Source == k.Source && c.Type().Kind == k.Kind && c.Position == found.Position
	})
}

func describeHolder(k Known) string {
	return fmt.Sprintf("%s %s of source %s, last read from %s, until that is gone", k.Kind, k.Name, k.Source, k.File)
}

func describe(s Winner) string {
	return fmt.Sprintf("%s %s of source %s at %s", s.Type().Kind, s.Meta().Name, s.Source, s.Position)
}

func duplicate(c Winner, owner string) spec.Problem {
	return spec.Problem{
		Position: c.Position, Field: "metadata.name", Reason: spec.ReasonDuplicateName, Kind: c.Type().Kind, Name: c.Meta().Name,
		Message: fmt.Sprintf("the name %s at %s is taken by %s; next step: rename or remove one of them", c.Meta().Name, c.Position, owner),
	}
}
