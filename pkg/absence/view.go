package absence

import (
	"cmp"
	"slices"
	"strings"

	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// identity of an object within a source.
type identity struct{ kind, name string }

// view is a snapshot, indexed.
type view struct {
	snap      source.Snapshot
	objects   map[identity][]spec.Object // by file, then line
	files     map[string]bool
	unsettled map[string]bool
	problems  []spec.Problem // by position
	// expected are the names that the ledger knows in each file; only filled
	// where there are problems.
	expected map[place]bool
}

// place of a document.
type place struct{ file, name string }

func newView(s source.Snapshot, known []Known) *view {
	v := &view{
		snap: s, objects: make(map[identity][]spec.Object, len(s.Objects)), files: set(s.Files), unsettled: set(s.Unsettled),
		problems: slices.Clone(s.Problems), expected: map[place]bool{},
	}
	for _, o := range s.Objects {
		id := identity{o.Type().Kind, o.Meta().Name}
		v.objects[id] = append(v.objects[id], o)
	}
	for _, objects := range v.objects {
		slices.SortFunc(objects, func(a, b spec.Object) int { return comparePositions(a.Position, b.Position) })
	}
	slices.SortFunc(v.problems, func(a, b spec.Problem) int {
		return cmp.Or(comparePositions(a.Position, b.Position), strings.Compare(a.Error(), b.Error()))
	})
	if len(v.problems) > 0 {
		for _, k := range known {
			if k.Source == s.Source {
				v.expected[place{k.File, k.Name}] = true
			}
		}
	}
	return v
}

func set(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, s := range list {
		out[s] = true
	}
	return out
}

func comparePositions(a, b spec.Position) int {
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// find returns the object of a known one: in its file, else, when that can be
// trusted to say no more, anywhere in the source. A doubt is why the object's
// last good spec stays instead.
func (v *view) find(k Known) (found *spec.Object, doubt *Verdict) {
	candidates := v.objects[identity{k.Kind, k.Name}]
	for i := range candidates {
		if candidates[i].Position.File == k.File {
			return &candidates[i], nil
		}
	}
	switch {
	case v.unsettled[k.File]:
		return nil, &Verdict{Hold, ReasonFilePending, k.File + " is being written; the last good spec stays"}
	case !v.whole():
		return nil, &Verdict{Hold, ReasonSourceUnreadable, unreadable(v.snap)}
	}
	if p := v.problemOf(k); p != nil {
		return nil, &Verdict{Hold, ReasonFileProblem, p.Error() + "; the last good spec stays"}
	}
	if len(candidates) > 0 {
		return &candidates[0], nil // its file was renamed, or the document moved
	}
	return nil, nil
}

// problemOf returns the first problem that may be about the object: one that
// names it, or one of its file that names nothing, or nothing that we know
// there: a document whose name was just misspelt is still this object.
func (v *view) problemOf(k Known) *spec.Problem {
	for i, p := range v.problems {
		named := p.Name == k.Name && (p.Kind == "" || p.Kind == k.Kind)
		inFile := p.File == k.File && !v.expected[place{k.File, p.Name}]
		if named || inFile {
			return &v.problems[i]
		}
	}
	return nil
}

// whole reports whether all of the source was read.
func (v *view) whole() bool { return v.snap.Complete && v.snap.Err == nil }

func unreadable(s source.Snapshot) string {
	if s.Err != nil {
		return s.Err.Error()
	}
	return "the source " + s.Source + " could not be read whole, see its problems; nothing of it is deleted meanwhile"
}
