package daemon

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

// traced is a driver that writes down what was applied.
type traced struct {
	resource.Driver
	trace *[]string
}

func (d traced) Apply(_ context.Context, steps []resource.Step) []error {
	for _, s := range steps {
		*d.trace = append(*d.trace, s.String())
	}
	return make([]error, len(steps))
}

func TestFailpoint(t *testing.T) {
	step := func(v resource.Verb, k resource.Kind, name string) resource.Step {
		return resource.Step{Verb: v, Resource: resource.Resource{ID: resource.ID{Kind: k, Name: name}}}
	}
	batches := [][]resource.Step{
		{step(resource.Put, resource.KindLink, "a"), step(resource.Put, resource.KindLink, "b")},
		{step(resource.Delete, resource.KindLink, "a")},
	}
	tests := map[string][]string{
		"before:link.put":    {"DEAD", "put link/a", "put link/b", "delete link/a"},
		"after:link.put:2":   {"put link/a", "put link/b", "DEAD", "delete link/a"},
		"before:link.delete": {"put link/a", "put link/b", "DEAD", "delete link/a"},
		"after:link.delete":  {"put link/a", "put link/b", "delete link/a", "DEAD"},
		"after:unit.put":     {"put link/a", "put link/b", "delete link/a"},
		"":                   {"put link/a", "put link/b", "delete link/a"},
	}
	for setting, want := range tests {
		t.Run(setting, func(t *testing.T) {
			var trace []string
			drivers, _, err := guard([]resource.Driver{traced{trace: &trace}}, nil, setting)
			if err != nil {
				t.Fatal(err)
			}
			if g, wrapped := drivers[0].(*guarded); wrapped {
				g.point.die = func() { trace = append(trace, "DEAD") }
			}
			for _, b := range batches {
				drivers[0].Apply(t.Context(), slices.Clone(b))
			}
			if diff := cmp.Diff(want, trace); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestFailpointRefused(t *testing.T) {
	for _, setting := range []string{"link.put", "after:link", "at:link.put", "after:.put", "after:link.make", "after:link.put:0", "after:link.put:x"} {
		if _, _, err := guard(nil, nil, setting); err == nil {
			t.Errorf("%q is accepted", setting)
		}
	}
}
