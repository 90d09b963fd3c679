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

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
	"tekton.host/pkg/reconcile"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// TestExamplesArePlanned takes each example for the only file of a host with
// the embedded defaults.
func TestExamplesArePlanned(t *testing.T) {
	h := v1alpha1.DefaultHost().Spec
	for _, path := range examples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "specs")
			copyInto(t, dir, path)
			h.Sources[0].Path = dir
			newPaper(t, h).planned(t)
		})
	}
}

// TestExamplesMakeAServer puts all examples together on the server of
// nix/hosts/example.nix, those of its previews into the source for them.
func TestExamplesMakeAServer(t *testing.T) {
	h := exampleHost(t).Spec
	at := map[string]*string{}
	for i := range h.Sources {
		s := &h.Sources[i]
		s.Path = filepath.Join(t.TempDir(), s.Name)
		at[s.Name] = &s.Path
	}
	count := 0
	for _, path := range examples(t) {
		name := "operator"
		if filepath.Base(filepath.Dir(path)) == "previews" {
			name = "previews"
		}
		if at[name] == nil {
			t.Fatalf("the example host has no source %s: %v", name, h.Sources)
		}
		copyInto(t, *at[name], path)
		count++
	}
	writeInto(t, *at["pull-requests"], "preview-shop-7.yaml", asWebhookWrites)
	w := newPaper(t, h)
	if w.planned(t); len(w.objects) < count+1 {
		t.Errorf("%d objects of %d files", len(w.objects), count)
	}
}

// asWebhookWrites is what the example host gets from tekton-webhook.
const asWebhookWrites = `apiVersion: tekton.host/v1alpha1
kind: Preview
metadata: {name: shop-pull-7}
spec:
  repository: {name: shop}
  pullRequest: 7
  commit: 0123456789abcdef0123456789abcdef01234567
`

// exampleHost is the Host file that nix/hosts/example.nix renders.
func exampleHost(t *testing.T) *v1alpha1.Host {
	t.Helper()
	const path = "nix/check/example.host.json"
	return readHost(t, path)
}

func readHost(t *testing.T, path string) *v1alpha1.Host {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	h, problems := spec.DecodeHost(path, data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return h
}

// TestExampleHosts: the rendered file, which is checked in, the configuration
// that it is rendered from and the example for hosts without NixOS are one server.
func TestExampleHosts(t *testing.T) {
	want := exampleHost(t)
	if diff := cmp.Diff(want, readHost(t, "examples/host.yaml")); diff != "" {
		t.Errorf("examples/host.yaml is another server than nix/hosts/example.nix (-nix +yaml):\n%s", diff)
	}
	var settings json.RawMessage
	nixEval(t, `(import ./nix/hosts/example.nix { }).services.tekton.settings`, &settings)
	file, err := json.Marshal(map[string]any{"apiVersion": v1alpha1.APIVersion, "kind": "Host", "metadata": want.Metadata, "spec": settings})
	if err != nil {
		t.Fatal(err)
	}
	got, problems := spec.DecodeHost("nix/hosts/example.nix", file)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nix/check/example.host.json is not what nix/hosts/example.nix says; run UPDATE=1 NIXPKGS_LIB=DIR make check-nix (-json +nix):\n%s", diff)
	}
}

// examples are all files of specs; the one that configures the daemon is none.
func examples(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"examples/*.yaml", "examples/*/*.yaml"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, paths...)
	}
	return slices.DeleteFunc(out, func(path string) bool { return filepath.Base(path) == "host.yaml" })
}

func copyInto(t *testing.T, dir, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeInto(t, dir, filepath.Base(path), string(data))
}

func writeInto(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// planned lets every planned step succeed, until there is nothing left to do:
// then all that can be Ready is.
func (w *paper) planned(t *testing.T) {
	var last reconcile.Result
	var err error
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
	if len(last.Items) != len(w.objects) {
		t.Errorf("%d of %d objects have a status", len(last.Items), len(w.objects))
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
	core    *reconcile.Core
	facts   reconcile.Facts
	claims  map[string]resource.Claim
	objects []spec.Object
}

var kinds = []resource.Kind{
	resource.KindClaim, resource.KindClosure, resource.KindCheckout, resource.KindPassword, resource.KindCluster, resource.KindRole, resource.KindDatabase, resource.KindAccess,
	resource.KindTable, resource.KindPolicy, resource.KindAddress, resource.KindSysctl, resource.KindEndpoint, resource.KindException,
	resource.KindVolume, resource.KindGCRoot, resource.KindInstance, resource.KindLink, resource.KindUnit, resource.KindAttachment, resource.KindSetup, resource.KindAnswer,
	resource.KindResolver, resource.KindRecord, resource.KindProxy, resource.KindRoute,
}

// newPaper reads a host's sources as its daemon does.
func newPaper(t *testing.T, h v1alpha1.HostSpec) *paper {
	t.Helper()
	w := &paper{claims: map[string]resource.Claim{}}
	w.core = reconcile.NewCore(reconcile.Config{
		Host: h, Layout: host.Layout{State: h.StateDir, Run: h.RunDir, Secrets: h.SecretsDir},
		Naming: resource.Naming{Subnet: netip.MustParsePrefix(h.Subnet)}, Installation: "paper", Decode: spec.FromJSON,
		HostKey: func(name string) string { return "ssh-ed25519 " + name },
	})
	w.facts = reconcile.Facts{
		Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Observed: resource.Observed{},
		Secrets: map[string]string{}, Snapshots: map[string]source.Snapshot{},
	}
	for _, k := range kinds {
		w.facts.Observed[k] = resource.Known()
	}
	for _, c := range h.Sources {
		snap := read(t, c, &h)
		w.facts.Snapshots[c.Name] = snap
		w.objects = append(w.objects, snap.Objects...)
	}
	for _, o := range w.objects {
		for _, n := range o.Object.(interface{ Needs() []v1alpha1.Need }).Needs() {
			if n.Sort == v1alpha1.NeedSecret {
				w.facts.Secrets[n.Value] = "digest"
			}
		}
	}
	return w
}

// read reads a source until nobody writes to it any more.
func read(t *testing.T, c v1alpha1.SourceConfig, h *v1alpha1.HostSpec) source.Snapshot {
	t.Helper()
	dir, err := source.New(source.Options{Name: c.Name, Path: c.Path, Decode: func(file string, data []byte) ([]spec.Object, []spec.Problem) {
		return spec.Decode(file, data, spec.Options{Host: h, Allow: c.Allow})
	}})
	if err != nil {
		t.Fatal(err)
	}
	snap := dir.Snapshot(t.Context())
	for until := time.Now().Add(10 * time.Second); len(snap.Unsettled) > 0 && time.Now().Before(until); {
		time.Sleep(snap.RetryAfter)
		snap = dir.Snapshot(t.Context())
	}
	for _, p := range snap.Problems {
		t.Error(p)
	}
	if !snap.Complete || len(snap.Objects) == 0 || t.Failed() {
		t.Fatalf("source %s: %d objects, unsettled %v, %v", c.Name, len(snap.Objects), snap.Unsettled, snap.Err)
	}
	return snap
}

// application is every repository's preview.yaml.
const application = "services: [{name: web, command: [serve]}]\nroutes: [{port: 3000}]\nsecrets: [STRIPE_KEY]\n"

// take lets a step have its effect.
func (w *paper) take(t *testing.T, s resource.Step) {
	r := s.Resource
	if s.Verb != resource.Put && r.Kind == resource.KindCheckout { // what it was for is made
		delete(w.facts.Observed[r.Kind].Items, r.ID)
		return
	}
	if s.Verb != resource.Put {
		t.Fatalf("%s: nothing is there to delete", s)
	}
	switch v := r.Value.(type) {
	case resource.Closure:
		v.Build = resource.Build{Job: resource.Job{EndedAt: w.facts.Now}, Result: resource.Built{StorePath: "/nix/store/" + r.Name}}
		r.Value = v
	case resource.Checkout:
		v.Fetch = resource.Fetch{Job: resource.Job{EndedAt: w.facts.Now}, Result: resource.Fetched{Commit: "c0ffee", Dir: "/fetched", Files: map[string]*string{}}}
		for _, path := range v.Files {
			v.Fetch.Result.Files[path] = new(application)
		}
		r.Value = v
	case resource.Claim:
		v.Value = compact(v.Value)
		r.Value, w.claims[v.Key] = v, v
		w.facts.Claims = slices.SortedFunc(maps.Values(w.claims), func(a, b resource.Claim) int { return strings.Compare(a.Key, b.Key) })
	case resource.Setup:
		v.Run = resource.SetupRun{Job: resource.Job{EndedAt: w.facts.Now}, Done: v.Revision, Boot: v.Boot}
		r.Value = v
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
