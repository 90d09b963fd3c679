package compile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

const previewURL = "https://git.test/team/shop.git"

// shows wants a preview of a branch.
func (w *world) shows(branch string, edit func(*v1alpha1.PreviewSpec)) {
	p := &v1alpha1.Preview{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindPreview},
		Metadata: v1alpha1.ObjectMeta{Name: "shop"},
		Spec:     v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{URL: previewURL}, Branch: branch},
	}
	if edit != nil {
		edit(&p.Spec)
	}
	p.Default(&w.in.Host)
	raw, _ := json.Marshal(p)
	w.in.Objects = []Object{{
		Record:  ObjectRecord{UID: "uid-shop", Kind: p.Kind, Name: "shop", Source: "local", File: "shop.yaml", Line: 1, Generation: 1, Digest: fmt.Sprint(len(raw)), Object: raw},
		Verdict: Wanted, Spec: p,
	}}
}

// fetched has a branch at a commit whose preview.yaml is config; "": it has none.
func (w *world) fetched(branch, commit, config string) {
	v := resource.Checkout{URL: previewURL, Ref: "refs/heads/" + branch, Files: []string{"preview.yaml"}, Attempt: 1}
	v.Fetch.EndedAt = w.in.Now
	v.Fetch.Result = resource.Fetched{Commit: commit, Dir: "/state/mirrors/x", Files: map[string]*string{"preview.yaml": &config}}
	if config == "" {
		v.Fetch.Result.Files["preview.yaml"] = nil
	}
	w.set(resource.New(resource.HostOwner, "", resource.CheckoutName(v.URL, v.Ref, ""), v))
}

func previewWorld() *world {
	w := newWorld("10.100.0.0/16")
	w.in.Host.Previews.Domain = "preview.test"
	w.in.Observed[resource.KindCheckout] = resource.Known()
	w.shows("main", nil)
	return w
}

const shop = "services: [{name: web, command: [serve]}]\nroutes: [{port: 3000}]\ndatabase: {env: DATABASE_URL}\n"

func conditions(out Output) string {
	var b strings.Builder
	for _, n := range out.Objects[0].Notes {
		fmt.Fprintln(&b, n.Type, n.Status, n.Reason, n.Message)
	}
	return b.String()
}

func (w *world) serves(t *testing.T, out Output, machine string, port int) {
	t.Helper()
	r, found := out.Desired.Present[resource.ID{Kind: resource.KindRoute, Name: resource.RouteName("shop.preview.test", "/", false)}]
	if !found || out.Objects[0].Serving == nil || out.Objects[0].Serving.Machine != machine || int(r.Value.(resource.Route).Backend.Port()) != port {
		t.Errorf("serves %+v by %+v, want port %d of %s; %s", r, out.Objects[0].Serving, port, machine, conditions(out))
	}
}

// TestPreviewWaits: until its configuration is known, a preview has nothing but its name.
func TestPreviewWaits(t *testing.T) {
	w := previewWorld()
	out := Compile(w.in)
	for id := range out.Desired.Present {
		if id.Kind == resource.KindInstance || id.Kind == resource.KindVolume || id.Kind == resource.KindDatabase || id.Kind == resource.KindRole {
			t.Errorf("wants %s", id)
		}
	}
	id := resource.ID{Kind: resource.KindCheckout, Name: resource.CheckoutName(previewURL, "refs/heads/main", "")}
	if v, found := out.Desired.Present[id]; !found || v.Value.(resource.Checkout).Files[0] != "preview.yaml" || v.Owner != resource.HostOwner {
		t.Errorf("wants %+v", v)
	}
	if got := conditions(out); !strings.Contains(got, "Fetched False Fetching") {
		t.Error(got)
	}
	w.fetched("main", "c1", "")
	if got := conditions(Compile(w.in)); !strings.Contains(got, "Configured False ConfigInvalid commit c1: preview.yaml: commit c1 has no such file") {
		t.Error(got)
	}
}

// TestPreviewLife: commits, good and bad, bases and branches.
func TestPreviewLife(t *testing.T) {
	w := previewWorld()
	w.fetched("main", "c1", shop)
	out := w.settle()
	w.serves(t, out, "shop-1", 3000)
	record := w.in.Claims.Instances["uid-shop"][0]
	if record.Revision == nil || record.Revision.Commit != "c1" || *record.Revision.Config != shop {
		t.Errorf("the record says %+v", record.Revision)
	}
	database := resource.ID{Kind: resource.KindDatabase, Name: w.in.Naming.DatabaseName("Preview", "shop", "main")}
	volume := resource.ID{Kind: resource.KindVolume, Name: resource.VolumeName("Preview", "shop", "home")}
	for _, id := range []resource.ID{database, volume} {
		if _, found := out.Desired.Present[id]; !found || out.Desired.Policies[id] != resource.DeleteData {
			t.Errorf("%s: %v, policy %q", id, found, out.Desired.Policies[id])
		}
	}

	// Another port only: the same machine, another route.
	w.fetched("main", "c2", strings.Replace(shop, "3000", "4000", 1))
	out = w.settle()
	w.serves(t, out, "shop-1", 4000)
	if got := w.in.Claims.Instances["uid-shop"]; len(got) != 1 || got[0].Revision.Commit != "c2" {
		t.Errorf("instances %+v", got)
	}

	// One that moves its port and cannot be set up: what serves is led to, and asked, where it is.
	w.failing = map[string]bool{"c5": true}
	w.fetched("main", "c5", strings.Replace(shop, "3000", "5000", 1))
	out = w.settle()
	w.serves(t, out, "shop-1", 4000)
	if a := out.Desired.Present[resource.ID{Kind: resource.KindAnswer, Name: "shop-1"}]; a.Value.(resource.Answer).Probe.Port != 4000 {
		t.Errorf("asked is %+v", a)
	}
	w.fetched("main", "c6", shop+"image: x\n")
	w.serves(t, w.settle(), "shop-1", 4000)
	w.failing = nil
	w.in.Now = w.in.Now.Add(time.Hour)
	w.fetched("main", "c5", strings.Replace(shop, "3000", "5000", 1))
	w.serves(t, w.settle(), "shop-1", 5000)
	w.fetched("main", "c2", strings.Replace(shop, "3000", "4000", 1))
	out = w.settle()
	w.serves(t, out, "shop-1", 4000)

	// A bad one: its place is told, nothing changes.
	before := out.Desired.Present
	w.fetched("main", "c3", shop+"image: x\n")
	out = w.settle()
	if got := conditions(out); !strings.Contains(got, "Configured False ConfigInvalid commit c3: preview.yaml:4:1: image: unknown field") {
		t.Error(got)
	}
	w.serves(t, out, "shop-1", 4000)
	w.unchanged(t, before, out)

	// Nothing is known of repositories, nor of the branch that was named instead.
	known := w.in.Observed[resource.KindCheckout]
	w.in.Observed[resource.KindCheckout] = resource.Unknown(errors.New("no access"))
	w.unchanged(t, before, Compile(w.in))
	w.in.Observed[resource.KindCheckout] = known
	w.shows("other", nil)
	out = Compile(w.in)
	w.unchanged(t, before, out)
	if got := conditions(out); !strings.Contains(got, "Fetched False Fetching") {
		t.Error(got)
	}
	w.shows("main", nil)

	// Another base: a new machine on the same data, and the database stays though nobody asks for it.
	w.in.Host.Previews.Systems = append(w.in.Host.Previews.Systems, v1alpha1.PreviewSystem{Name: "debian", System: v1alpha1.System{RootFS: "/srv/debian"}})
	w.fetched("main", "c4", "system: debian\nservices: [{name: web, command: [serve]}]\nroutes: [{port: 5000}]\n")
	out = w.settle()
	w.serves(t, out, "shop-2", 5000)
	if out.Desired.Policies[database] == resource.DeleteData {
		t.Error("a commit without a database deletes it")
	}

	// Deleted: home and database go by policy, whatever the last commit said.
	w.in.Objects[0].Verdict = Gone
	out = Compile(w.in)
	for _, id := range []resource.ID{database, volume} {
		if out.Desired.Policies[id] != resource.DeleteData {
			t.Errorf("%s: policy %q", id, out.Desired.Policies[id])
		}
	}
}

// unchanged expects that what an object has stays as it is.
func (w *world) unchanged(t *testing.T, before resource.Set, out Output) {
	t.Helper()
	for id, r := range before {
		if id.Kind == resource.KindCheckout || id.Kind == resource.KindClaim {
			continue
		}
		if now, found := out.Desired.Present[id]; !found && !out.Desired.Held[id] || found && !now.Equal(r) {
			t.Errorf("%s: wanted %v: %+v, was %+v", id, found, now.Value, r.Value)
		}
	}
}

// TestPreviewAdmitted: a commit cannot ask for names that its source may not use.
func TestPreviewAdmitted(t *testing.T) {
	w := previewWorld()
	w.in.Host.Sources[0].Allow = &v1alpha1.Admission{Domains: []string{"shop.preview.test"}}
	w.fetched("main", "c1", "services: [{name: web, command: [serve]}]\nroutes: [{port: 1, hostPrefix: admin}]\n")
	if got := conditions(Compile(w.in)); !strings.Contains(got, "host name admin-shop.preview.test is not one that its source may use") {
		t.Error(got)
	}
	w.in.Host.Sources[0].Allow.Domains = []string{"*.preview.test"}
	w.settle()
	if len(w.in.Claims.Instances["uid-shop"]) != 1 {
		t.Error("it is not admitted")
	}
	// Narrowed later: what serves on has none of those names, either.
	w.in.Host.Sources[0].Allow.Domains = []string{"shop.preview.test"}
	out := w.settle()
	for id := range out.Desired.Present {
		if id.Kind == resource.KindRoute {
			t.Errorf("serves %s", id)
		}
	}
	if len(w.in.Claims.Instances["uid-shop"]) != 1 {
		t.Error("the machine is gone")
	}
}

const meta = `{"setupService":"setup","appServices":["web"],"database":"host","routes":[{"path":"/","port":3000}]}`

// nixWorld has a preview of a preview-config.nix, of which commit c1 is fetched.
func nixWorld() *world {
	w := previewWorld()
	w.in.Host.Previews.Nix = &v1alpha1.PreviewsNix{Flake: "path:/srv/previews#lib.mkPreview"}
	w.in.Observed[resource.KindClosure] = resource.Known()
	w.shows("main", func(s *v1alpha1.PreviewSpec) { s.Config = "preview-config.nix" })
	w.fetchedNix("c1", "{ }: one")
	return w
}

func (w *world) fetchedNix(commit, config string) {
	w.fetched("main", commit, "")
	id := resource.ID{Kind: resource.KindCheckout, Name: resource.CheckoutName(previewURL, "refs/heads/main", "")}
	r := w.in.Observed[id.Kind].Items[id]
	v := r.Value.(resource.Checkout)
	v.Files, v.Fetch.Result.Files = []string{"preview-config.nix"}, map[string]*string{"preview-config.nix": &config}
	r.Value = v
	w.set(r)
}

// builtNix has a configuration be built.
func (w *world) builtNix(config, path, says string, job resource.Job) {
	v := resource.Closure{Flake: w.in.Host.Previews.Nix.Flake, Config: config, Attempt: 1, Build: resource.Build{Job: job, Result: resource.Built{StorePath: path, Meta: says}}}
	v.Build.EndedAt = w.in.Now
	w.set(resource.New(resource.HostOwner, "", v.Name(), v))
}

// TestNixPreview: a configuration is built first; the same closure keeps the
// machine, whatever else it says, and another one keeps the data.
func TestNixPreview(t *testing.T) {
	w := nixWorld()
	out := Compile(w.in)
	closure := resource.Closure{Flake: "path:/srv/previews#lib.mkPreview", Config: "{ }: one"}.Name()
	if v, found := out.Desired.Present[resource.ID{Kind: resource.KindClosure, Name: closure}]; !found || v.Owner != resource.HostOwner || v.Value.(resource.Closure).Trusted {
		t.Errorf("wants %+v", v)
	}
	if got := conditions(out); !strings.Contains(got, "Built False Building") || len(w.in.Claims.Instances) > 0 {
		t.Error(got)
	}
	w.builtNix("{ }: one", "/nix/store/one", meta, resource.Job{})
	out = w.settle()
	w.serves(t, out, "shop-1", 3000)
	before := w.in.Claims.Instances["uid-shop"][0]
	if before.Revision.StorePath != "/nix/store/one" || *before.Revision.Config != meta {
		t.Errorf("the record says %+v", before.Revision)
	}
	if root := out.Desired.Present[resource.ID{Kind: resource.KindGCRoot, Name: "shop-1"}].Value; root != (resource.GCRoot{Target: "/nix/store/one"}) {
		t.Errorf("kept is %+v", root)
	}
	if s := out.Objects[0].Spec.Setup; s.Unit != "setup.service" || s.Revision != "c1" || out.Objects[0].Closure != closure {
		t.Errorf("setup %+v of closure %s", s, out.Objects[0].Closure)
	}

	// Code only: another setup of the same machine; so is another text that says
	// something else of the same closure.
	w.fetchedNix("c2", "{ }: one")
	if out = w.settle(); out.Objects[0].Spec.Setup.Revision != "c2" {
		t.Errorf("setup %+v", out.Objects[0].Spec.Setup)
	}
	w.fetchedNix("c3", "{ }: one # port")
	w.builtNix("{ }: one # port", "/nix/store/one", strings.Replace(meta, "3000", "4000", 1), resource.Job{})
	out = w.settle()
	w.serves(t, out, "shop-1", 4000)
	if got := w.in.Claims.Instances["uid-shop"]; len(got) != 1 || got[0].Revision.Commit != "c3" {
		t.Errorf("instances %+v", got)
	}

	// What does not build, says nonsense, or is no more known leaves what serves.
	was := out.Desired.Present
	w.fetchedNix("c4", "{ }: bad")
	w.builtNix("{ }: bad", "", "", resource.Job{Reason: "EvaluationFailed", Message: "syntax error", Failures: 1})
	out = w.settle()
	if got := conditions(out); !strings.Contains(got, "Built False EvaluationFailed syntax error") {
		t.Error(got)
	}
	w.stays(t, was, out)
	w.builtNix("{ }: bad", "/nix/store/bad", `{"setupService":"x"}`, resource.Job{})
	out = w.settle()
	if got := conditions(out); !strings.Contains(got, "Configured False ConfigInvalid commit c4: system.build.previewMeta:1:1: database:") {
		t.Error(got)
	}
	w.stays(t, was, out)
	w.fetchedNix("c3", "{ }: one # port")
	known := w.in.Observed[resource.KindClosure]
	w.in.Observed[resource.KindClosure] = resource.Known() // somebody removed the builds
	w.stays(t, was, w.settle())
	w.in.Observed[resource.KindClosure] = known

	// Another closure: another machine on the same data.
	w.fetchedNix("c5", "{ }: two")
	w.builtNix("{ }: two", "/nix/store/two", strings.Replace(meta, `"host"`, `"container"`, 1), resource.Job{})
	out = w.settle()
	w.serves(t, out, "shop-2", 3000)
	for _, name := range []string{"home", ".root"} {
		id := resource.ID{Kind: resource.KindVolume, Name: resource.VolumeName("Preview", "shop", name)}
		if _, found := out.Desired.Present[id]; !found {
			t.Errorf("%s is not kept", id)
		}
	}
	if out.Desired.Policies[resource.ID{Kind: resource.KindDatabase, Name: w.in.Naming.DatabaseName("Preview", "shop", "main")}] == resource.DeleteData {
		t.Error("a commit with a database of its own deletes that of the host")
	}
}

// stays expects that the machine and all that belongs to it stays as it is.
func (w *world) stays(t *testing.T, before resource.Set, out Output) {
	t.Helper()
	rest := resource.Set{}
	for id, r := range before {
		if id.Kind != resource.KindClosure {
			rest[id] = r
		}
	}
	w.unchanged(t, rest, out)
}

// TestNixNotAllowed: nothing is evaluated where the host does not ask for it, and
// what runs does so on.
func TestNixNotAllowed(t *testing.T) {
	w := nixWorld()
	w.builtNix("{ }: one", "/nix/store/one", meta, resource.Job{})
	before := w.settle().Desired.Present
	w.in.Host.Previews.Nix = nil
	out := w.settle()
	w.stays(t, before, out)
	if got := conditions(out); !strings.Contains(got, "preview-config.nix is code, which this host does not evaluate") {
		t.Error(got)
	}
	w = nixWorld()
	w.fetchedNix("c1", " \n")
	if got := conditions(Compile(w.in)); !strings.Contains(got, "preview-config.nix: the file is empty") {
		t.Error(got)
	}
}

// TestPreviewsShare: two previews of one branch, of which one reads another file.
func TestPreviewsShare(t *testing.T) {
	w := previewWorld()
	w.shows("main", func(s *v1alpha1.PreviewSpec) { s.Config = "b/preview.yaml" })
	other := w.in.Objects[0]
	other.Record.UID, other.Record.Name = "uid-b", "b"
	w.shows("main", nil)
	w.in.Objects = append(w.in.Objects, other)
	w.fetched("main", "c1", shop)
	out := Compile(w.in)
	v := out.Desired.Present[resource.ID{Kind: resource.KindCheckout, Name: resource.CheckoutName(previewURL, "refs/heads/main", "")}].Value.(resource.Checkout)
	if strings.Join(v.Files, " ") != "b/preview.yaml preview.yaml" || v.Attempt != 2 {
		t.Errorf("wants %+v", v)
	}
}
