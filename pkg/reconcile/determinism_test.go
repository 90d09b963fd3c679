package reconcile

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tekton.host/pkg/compile"
)

// TestCompileIsDeterministic permutes the objects: same bytes out.
func TestCompileIsDeterministic(t *testing.T) {
	s := newSim(t)
	s.put("a.yaml", withData(web("a"), "Retain"), web("b"), web("c"))
	s.settle()
	want, err := s.core.Pass(s.facts())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := s.facts()
		snap := f.Snapshots["local"]
		snap.Objects = rapid.Permutation(snap.Objects).Draw(rt, "objects")
		f.Snapshots["local"] = snap
		got, err := NewCore(simConfig()).Pass(f)
		if err != nil {
			rt.Fatal(err)
		}
		if a, b := dump(want.Compiled), dump(got.Compiled); a != b {
			rt.Fatalf("order matters:\n%s\n---\n%s", a, b)
		}
	})
}

func dump(o compile.Output) string {
	var b strings.Builder
	for _, r := range o.Desired.Present.Sorted() {
		fmt.Fprintf(&b, "%s %s %s %+v\n", r.ID, r.Owner, r.Instance, r.Value)
	}
	return b.String()
}
