package nix_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/nix"
	"tekton.host/pkg/nix/nixtest"
	"tekton.host/pkg/resource"
)

// rootRig is the driver of gcroot on a store of its own.
type rootRig struct {
	t *testing.T
	*nix.RootDriver
}

func (r rootRig) apply(verb resource.Verb, machine, target string) error {
	s := resource.Step{Verb: verb, Resource: resource.New("u1", machine, machine, resource.GCRoot{Target: target})}
	return r.Apply(r.t.Context(), []resource.Step{s})[0]
}

func (r rootRig) must(verb resource.Verb, machine, target string) {
	r.t.Helper()
	if err := r.apply(verb, machine, target); err != nil {
		r.t.Fatalf("%s %s: %v", verb, machine, err)
	}
}

// want compares the observed roots, by machine.
func (r rootRig) want(want map[string]string) {
	r.t.Helper()
	d := r.Observe(r.t.Context())[resource.KindGCRoot]
	got := map[string]string{}
	for _, item := range d.Items {
		if item.Owner != "u1" || item.Instance != item.Name {
			r.t.Errorf("observed %+v", item)
		}
		got[item.Name] = item.Value.(resource.GCRoot).Target
	}
	if diff := cmp.Diff(want, got); diff != "" || d.Err != nil {
		r.t.Errorf("roots (-want +got):\n%s%v", diff, d.Err)
	}
}

// TestRootDriver: the real collector takes nothing that a machine runs on,
// directly or through the link that its latest start has left, and takes it
// when the machine is gone.
func TestRootDriver(t *testing.T) {
	nixtest.Store(t)
	r := rootRig{t, nix.NewRootDriver("0123456789ab")}
	direct, linked, later := nixtest.Add(t, "direct", "1"), nixtest.Add(t, "linked", "2"), nixtest.Add(t, "later", "3")
	link := filepath.Join(t.TempDir(), "system")
	for range 2 { // idempotent
		r.must(resource.Put, "web-1", direct)
		r.must(resource.Put, "api-1", link) // the link is not there before the machine's first start
	}
	switchTo := func(path string) {
		t.Helper()
		os.Remove(link)
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
	}
	switchTo(linked)
	r.want(map[string]string{"web-1": direct, "api-1": link})
	nixtest.Collect(t)
	wantThere(t, map[string]bool{direct: true, linked: true, later: false})

	later = nixtest.Add(t, "later", "3")
	switchTo(later)
	nixtest.Collect(t)
	wantThere(t, map[string]bool{direct: true, linked: false, later: true})

	for range 2 {
		r.must(resource.Delete, "web-1", direct)
		r.must(resource.Delete, "api-1", link)
	}
	r.want(map[string]string{})
	nixtest.Collect(t)
	wantThere(t, map[string]bool{direct: false, later: false, "/nix/var/nix/gcroots/tekton-0123456789ab": false, "/nix/var/nix/gcroots": true})
}

// TestRootsOfOthers: roots of builds, of another installation and of people are
// neither observed nor removed.
func TestRootsOfOthers(t *testing.T) {
	nixtest.Store(t)
	path := nixtest.Add(t, "theirs", "1")
	others := map[string]bool{}
	for _, name := range []string{"theirs", "tekton-ffffffffffff/u1:web-1", "tekton-0123456789ab/0f0f0f0f0f0f0f0f"} {
		link := filepath.Join("/nix/var/nix/gcroots", name)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		others[link] = true
	}
	r := rootRig{t, nix.NewRootDriver("0123456789ab")}
	r.must(resource.Put, "web-1", path)
	r.want(map[string]string{"web-1": path})
	r.must(resource.Delete, "web-1", path)
	r.want(map[string]string{})
	wantThere(t, others)
}

// TestStorePathMissing: nothing is started on a path that is not there.
func TestStorePathMissing(t *testing.T) {
	nixtest.Store(t)
	r := rootRig{t, nix.NewRootDriver("0123456789ab")}
	if err := r.apply(resource.Put, "web-1", "/nix/store/0c2x4z3ng7wdkw7a3nfpq2wqzr2ib1yv-gone"); resource.Reason(err, "") != "StorePathMissing" {
		t.Errorf("a path that is not there: %v", err)
	}
}
