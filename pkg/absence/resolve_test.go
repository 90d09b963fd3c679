package absence_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// other is a snapshot of the source "other".
func other(f files) source.Snapshot {
	s := snapshot(0, f)
	s.Source = "other"
	return s
}

func resolve(known []absence.Known, snapshots ...source.Snapshot) (winners, losers []string, duplicates []absence.Duplicate) {
	byName := map[string]source.Snapshot{}
	for _, s := range snapshots {
		byName[s.Source] = s
	}
	won, duplicates := absence.Resolve([]absence.Source{{Name: "local"}, {Name: "other"}}, byName, known)
	for _, w := range won {
		winners = append(winners, fmt.Sprintf("%s %s:%s", w.Meta().Name, w.Source, w.Position))
	}
	for _, d := range duplicates {
		losers = append(losers, fmt.Sprintf("%s %s:%s", d.Name, d.Source, d.Position))
	}
	return winners, losers, duplicates
}

func TestResolve(t *testing.T) {
	agent := func(s *source.Snapshot) { // another kind of the same name
		a := &v1alpha1.Container{TypeMeta: v1alpha1.TypeMeta{Kind: "Agent"}, Metadata: v1alpha1.ObjectMeta{Name: "a"}}
		s.Objects = append(s.Objects, spec.Object{Object: a, Position: spec.Position{File: "agent.yaml", Line: 1}})
	}
	tests := map[string]struct {
		known         []absence.Known
		snapshots     []source.Snapshot
		winners, lost []string
	}{
		"each its own": {nil, []source.Snapshot{snapshot(0, each("b", "a"))},
			[]string{"a local:a.yaml:1", "b local:b.yaml:1"}, nil},
		"new: first by file and line": {nil, []source.Snapshot{snapshot(0, files{"2.yaml": {"a"}, "1.yaml": {"x", "a", "a"}})},
			[]string{"a local:1.yaml:2", "x local:1.yaml:1"}, []string{"a local:1.yaml:3", "a local:2.yaml:1"}},
		"new: first by source": {nil, []source.Snapshot{other(files{"0.yaml": {"a"}}), snapshot(0, files{"1.yaml": {"a"}})},
			[]string{"a local:1.yaml:1"}, []string{"a other:0.yaml:1"}},
		"known: its file": {known("a"), []source.Snapshot{snapshot(0, files{"0.yaml": {"a"}, "a.yaml": {"x", "a"}})},
			[]string{"a local:a.yaml:2", "x local:a.yaml:1"}, []string{"a local:0.yaml:1"}},
		"known: renamed": {known("a"), []source.Snapshot{snapshot(0, files{"0.yaml": {"a"}, "1.yaml": {"a"}})},
			[]string{"a local:0.yaml:1"}, []string{"a local:1.yaml:1"}},
		"known: its file is being written": {known("a"), []source.Snapshot{snapshot(0, files{"0.yaml": {"a"}, "a.yaml": nil}, unsettled("a.yaml"))},
			nil, []string{"a local:0.yaml:1"}},
		"known: its file is broken": {known("a"), []source.Snapshot{snapshot(0, files{"0.yaml": {"a"}, "a.yaml": nil}, broken("a.yaml", ""))},
			nil, []string{"a local:0.yaml:1"}},
		"known: its source is incomplete": {known("a"), []source.Snapshot{snapshot(0, files{"0.yaml": {"a"}}, incomplete)},
			nil, []string{"a local:0.yaml:1"}},
		"known: another source wants the name": {known("a"), []source.Snapshot{snapshot(0, nil), other(each("a"))},
			nil, []string{"a other:a.yaml:1"}},
		"known: its source is not there": {known("a"), []source.Snapshot{other(each("a"))},
			nil, []string{"a other:a.yaml:1"}},
		"known: another kind wants the name": {known("a"), []source.Snapshot{snapshot(0, nil, agent)},
			nil, []string{"a local:agent.yaml:1"}},
		"another kind is the same name": {nil, []source.Snapshot{snapshot(0, each("a"), agent)},
			[]string{"a local:a.yaml:1"}, []string{"a local:agent.yaml:1"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			winners, lost, duplicates := resolve(tc.known, tc.snapshots...)
			if diff := cmp.Diff(tc.winners, winners); diff != "" {
				t.Errorf("winners (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.lost, lost); diff != "" {
				t.Errorf("duplicates (-want +got):\n%s", diff)
			}
			for _, d := range duplicates {
				if d.Reason != spec.ReasonDuplicateName || !strings.Contains(d.Message, d.Position.String()) {
					t.Errorf("duplicate %+v, want reason %s and its position in the message", d, spec.ReasonDuplicateName)
				}
			}
		})
	}
}

func TestDuplicateNamesBothPlaces(t *testing.T) {
	_, _, duplicates := resolve(nil, snapshot(0, files{"1.yaml": {"a"}, "2.yaml": {"a"}}))
	if m := duplicates[0].Message; !strings.Contains(m, "1.yaml:1") || !strings.Contains(m, "2.yaml:1") {
		t.Errorf("message %q, want both positions", m)
	}
}
