package nix_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/nix"
	"tekton.host/pkg/nix/nixtest"
)

// TestRoots: what a root keeps survives the real garbage collector, also what
// is built only after the root was made; what none keeps goes.
func TestRoots(t *testing.T) {
	nixtest.Store(t)
	r := nix.NewRoots("0123456789ab")
	first, second := nixtest.Add(t, "first", "1"), nixtest.Add(t, "second", "2")
	for range 2 { // idempotent
		if err := r.Put(t.Context(), "web-1", first); err != nil {
			t.Fatal(err)
		}
	}
	nixtest.Collect(t)
	wantThere(t, map[string]bool{first: true, second: false})
	if err := r.Put(t.Context(), "web-1", second); err != nil { // not there at this moment
		t.Fatal(err)
	}
	if err := r.Put(t.Context(), "web-2", first); err != nil {
		t.Fatal(err)
	}
	nixtest.Add(t, "second", "2")
	nixtest.Collect(t)
	wantThere(t, map[string]bool{first: true, second: true})
	got, err := r.List()
	if diff := cmp.Diff(map[string]string{"web-1": second, "web-2": first}, got); diff != "" || err != nil {
		t.Errorf("-want +got:\n%s%v", diff, err)
	}
	for _, name := range []string{"web-1", "web-2", "web-1"} {
		if err := r.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	nixtest.Collect(t)
	wantThere(t, map[string]bool{first: false, second: false, "/nix/var/nix/gcroots/tekton-0123456789ab": false})
	if got, err := r.List(); len(got) != 0 || err != nil {
		t.Errorf("left: %v %v", got, err)
	}
}

// TestRootWaitsForCollector: a collection that began before may have missed the root.
func TestRootWaitsForCollector(t *testing.T) {
	nixtest.Store(t)
	path := nixtest.Add(t, "first", "1")
	lock, err := os.OpenFile("/nix/var/nix/gc.lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r := nix.NewRoots("0123456789ab")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.Put(ctx, "web", path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put beside a collector: %v", err)
	}
	// The link is there, but nobody may rely on it before the collector has ended.
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.Put(ctx, "web", path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second Put beside a collector: %v", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(t.Context(), "web", path); err != nil {
		t.Error(err)
	}
}

func TestRootNames(t *testing.T) {
	r := nix.NewRoots("0123456789ab")
	for name, path := range map[string]string{"../x": "/nix/store/a", "": "/nix/store/a", "a": "/etc", "b": "/nix/store/", "c": "/nix/store/../x", "d": "/nix/store/.links"} {
		if err := r.Put(t.Context(), name, path); err == nil {
			t.Errorf("root %q of %q was made", name, path)
		}
	}
	if err := r.Remove("../x"); err == nil {
		t.Error("removed outside")
	}
}

func wantThere(t *testing.T, want map[string]bool) {
	t.Helper()
	for path, there := range want {
		if _, err := os.Lstat(path); (err == nil) != there {
			t.Errorf("%s there: %v, want %v", filepath.Base(path), err == nil, there)
		}
	}
}
