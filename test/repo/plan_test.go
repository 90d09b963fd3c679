package repo

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
	"tekton.host/pkg/reconcile"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// TestExamplesArePlanned takes each example for the only file of a host with
// the embedded defaults, and lets every planned step succeed, until there is
// nothing left to do: then all that can be Ready is.
func TestExamplesArePlanned(t *testing.T) {
	for _, pattern := range []string{"examples/*.yaml", "examples/quickstart/*.yaml"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if filepath.Base(path) == "host.yaml" {
				continue // configures the daemon; there is nothing to plan
			}
			t.Run(filepath.Base(path), func(t *testing.T) { planned(t, path) })
		}
	}
}

func planned(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	objects, problems := spec.Decode(path, data, spec.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w := newPaper(path, objects)
	var last reconcile.Result
	for range 50 {
		last, err = w.core.Pass(w.facts)
		if err != nil {
			t.Fatal(err)
		}
		if len(last.Plan.Steps) == 0 {
			break
		}
		for _, s := range last.Plan.Steps {
			w.take(t, s)
		}
	}
	if n := len(last.Plan.Steps); n > 0 {
		t.Errorf("the plan does not come to an end; next is %s", last.Plan.Steps[0])
	}
	if len(last.Items) != len(objects) {
		t.Errorf("%d of %d objects have a status", len(last.Items), len(objects))
	}
	for _, i := range last.Items {
		switch i.Status.Phase {
		case v1alpha1.PhaseReady, v1alpha1.PhaseDisabled:
		default:
			t.Errorf("%s is %s: %+v", i.Metadata.Name, i.Status.Phase, i.Status.Conditions[0])
		}
	}
}

// paper is a host on which every step succeeds at once.
type paper struct {
	core   *reconcile.Core
	facts  reconcile.Facts
	claims map[string]resource.Claim
}

var kinds = []resource.Kind{
	resource.KindClaim, resource.KindPassword, resource.KindCluster, resource.KindRole, resource.KindDatabase, resource.KindAccess,
	resource.KindTable, resource.KindPolicy, resource.KindAddress, resource.KindSysctl, resource.KindEndpoint, resource.KindException,
	resource.KindVolume, resource.KindInstance, resource.KindLink, resource.KindUnit, resource.KindAttachment, resource.KindAnswer,
	resource.KindResolver, resource.KindRecord, resource.KindProxy, resource.KindRoute,
}

func newPaper(path string, objects []spec.Object) *paper {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := v1alpha1.DefaultHost().Spec
	w := &paper{claims: map[string]resource.Claim{}}
	w.core = reconcile.NewCore(reconcile.Config{
		Host: h, Layout: host.Layout{State: h.StateDir, Run: h.RunDir, Secrets: h.SecretsDir},
		Naming: resource.Naming{Subnet: netip.MustParsePrefix(h.Subnet)}, Installation: "paper", Decode: spec.FromJSON,
	})
	w.facts = reconcile.Facts{Now: now, Observed: resource.Observed{}, Secrets: map[string]string{}}
	w.facts.Snapshots = map[string]source.Snapshot{h.Sources[0].Name: {
		Source: h.Sources[0].Name, Revision: "1", Complete: true, Marked: true, Objects: objects, Files: []string{path}, ReadAt: now,
	}}
	for _, k := range kinds {
		w.facts.Observed[k] = resource.Known()
	}
	for _, o := range objects {
		if c, ok := o.Object.(*v1alpha1.Container); ok {
			for _, k := range c.Spec.Credentials {
				w.facts.Secrets[k.Secret] = "digest"
			}
		}
	}
	return w
}

// take lets a step have its effect.
func (w *paper) take(t *testing.T, s resource.Step) {
	r := s.Resource
	if s.Verb != resource.Put {
		t.Fatalf("%s: nothing is there to delete", s)
	}
	switch v := r.Value.(type) {
	case resource.Claim:
		v.Value = compact(v.Value)
		r.Value, w.claims[v.Key] = v, v
		w.facts.Claims = slices.SortedFunc(maps.Values(w.claims), func(a, b resource.Claim) int { return strings.Compare(a.Key, b.Key) })
	case resource.Unit:
		v.Leader, v.Boot, v.StartedAt = 4711, "first", w.facts.Now
		r.Value = v
	}
	w.facts.Observed[r.Kind].Items[r.ID] = r
}

func compact(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	return raw
}
