package absence_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

var start = time.Unix(1_000_000, 0)

// files of a snapshot: the names that each declares, in order.
type files map[string][]string

// snapshot of source "local", read at a time after start.
func snapshot(at time.Duration, f files, change ...func(*source.Snapshot)) source.Snapshot {
	s := source.Snapshot{Source: "local", Complete: true, Marked: true, ReadAt: start.Add(at)}
	for _, file := range slices.Sorted(maps.Keys(f)) {
		s.Files = append(s.Files, file)
		for i, name := range f[file] {
			s.Objects = append(s.Objects, object(file, i+1, name))
		}
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func object(file string, line int, name string) spec.Object {
	c := &v1alpha1.Container{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}, Metadata: v1alpha1.ObjectMeta{Name: name}}
	return spec.Object{Object: c, Position: spec.Position{File: file, Line: line}}
}

func unmarked(s *source.Snapshot)   { s.Marked = false }
func incomplete(s *source.Snapshot) { s.Complete = false }

// broken adds a problem of a file, or of a document in it.
func broken(file, name string) func(*source.Snapshot) {
	return func(s *source.Snapshot) {
		kind := ""
		if name != "" {
			kind = "Container"
		}
		s.Problems = append(s.Problems, spec.Problem{Position: spec.Position{File: file, Line: 1}, Reason: "ParseError", Message: "bad", Kind: kind, Name: name})
	}
}

func unsettled(file string) func(*source.Snapshot) {
	return func(s *source.Snapshot) { s.Unsettled = append(s.Unsettled, file) }
}

func failed(s *source.Snapshot) {
	*s = source.Snapshot{Source: s.Source, ReadAt: s.ReadAt, Err: fmt.Errorf("not there")}
}

// known objects of source "local"; the UID is the name, the file NAME.yaml.
func known(names ...string) []absence.Known {
	var out []absence.Known
	for _, n := range names {
		out = append(out, absence.Known{UID: n, Kind: "Container", Name: n, Source: "local", File: n + ".yaml"})
	}
	return out
}

// each is a directory in which each name has a file.
func each(names ...string) files {
	f := files{}
	for _, n := range names {
		f[n+".yaml"] = []string{n}
	}
	return f
}

func numbered(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("o%02d", i))
	}
	return out
}

func verdicts(o absence.Output) map[string]string {
	out := map[string]string{}
	for uid, v := range o.Verdicts {
		out[uid] = string(v.Decision)
		if v.Reason != "" {
			out[uid] += " " + v.Reason
		}
	}
	return out
}

// world is a directory whose judgements follow each other, as in the engine:
// what is Absent is forgotten after the judgement.
type world struct {
	known    []absence.Known
	state    absence.State
	requests map[string]bool
	releases map[string]map[string]bool
}

func (w *world) judge(s source.Snapshot) absence.Output {
	o := absence.Judge(absence.Input{
		Now: s.ReadAt, Sources: []absence.Source{{Name: "local"}}, Snapshots: map[string]source.Snapshot{"local": s},
		Known: w.known, Requests: w.requests, Releases: w.releases, State: w.state,
	})
	w.state = o.State
	w.known = slices.DeleteFunc(slices.Clone(w.known), func(k absence.Known) bool { return o.Verdicts[k.UID].Decision == absence.Absent })
	return o
}
