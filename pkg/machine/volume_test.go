package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source/git/gittest"
)

// apply runs one step on a volume of a container.
func apply(t *testing.T, d *Driver, verb resource.Verb, object string, clone resource.Clone) error {
	t.Helper()
	v := resource.Volume{ObjectKind: "Container", ObjectName: object, Volume: "data", Policy: resource.DeleteData, Clone: clone}
	r := resource.New("owner", "", resource.VolumeName(v.ObjectKind, v.ObjectName, v.Volume), v)
	return d.Apply(t.Context(), []resource.Step{{Verb: verb, Resource: r}})[0]
}

// TestNothingWaitsForTheTrash: while something is removed for good, volumes come
// and go, and what a removal that was cut short has left is found.
func TestNothingWaitsForTheTrash(t *testing.T) {
	d := &Driver{opts: Options{Layout: host.Layout{State: t.TempDir()}, Installation: "i"}}
	must(t, apply(t, d, resource.Put, "gone", resource.Clone{}))
	must(t, apply(t, d, resource.Delete, "gone", resource.Clone{}))
	must(t, os.MkdirAll(filepath.Join(d.opts.Layout.Trash(), "deleting-1700000000-volume-container.old.data", "data", "deep"), 0o700))

	d.doomed.Lock() // as a removal does that takes long
	type purged struct {
		n   int
		err error
	}
	done := make(chan purged, 1)
	go func() {
		n, err := d.PurgeTrash(t.Context(), 0)
		done <- purged{n, err}
	}()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		items, err := d.ListData(t.Context())
		must(t, err)
		if len(items) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("in the trash for ever: %+v", items)
		}
	}
	must(t, apply(t, d, resource.Put, "new", resource.Clone{}))
	select {
	case p := <-done:
		t.Errorf("purged too early: %+v", p)
	default:
	}
	d.doomed.Unlock()
	if p := <-done; p.n != 2 || p.err != nil {
		t.Errorf("purged %d of 2: %v", p.n, p.err)
	}
	if left, err := os.ReadDir(d.opts.Layout.Trash()); len(left) > 0 || err != nil {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestNothingWaitsForAClone: a clone takes as long as its repository is big, and
// is a volume as a whole or not at all.
func TestNothingWaitsForAClone(t *testing.T) {
	testenv.Root(t, "git")
	remote := gittest.New(t)
	commit := remote.Push(map[string]string{"README": "one"})
	dir := gittest.Dir(t)
	mirror := filepath.Join(dir, "mirror.git")
	remote.Run("", "clone", "--quiet", "--mirror", remote.Bare, mirror)
	const nobody = 65534
	must(t, filepath.WalkDir(mirror, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}))
	d := &Driver{opts: Options{Layout: host.Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}, Installation: "i", GitUser: "nobody"}}
	for _, dir := range []string{d.opts.Layout.State, d.opts.Layout.Run, d.opts.Layout.Staging()} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	clone := resource.Clone{Dir: mirror, Commit: commit, Branch: "refs/heads/main", URL: "https://forge.example.org/app.git"}
	volume := filepath.Join(d.opts.Layout.Volumes(), "container", "web", "data")

	broken := clone
	broken.Dir = filepath.Join(dir, "none.git")
	if err := apply(t, d, resource.Put, "web", broken); resource.Reason(err, "") != "CloneFailed" {
		t.Errorf("without its repository: %v", err)
	}
	if _, err := os.Lstat(volume); err == nil {
		t.Error("half a clone is a volume")
	}

	done := make(chan error, 1)
	go func() { done <- apply(t, d, resource.Put, "web", clone) }()
	free := false
	for waiting := true; waiting; time.Sleep(time.Millisecond) {
		select {
		case err := <-done:
			must(t, err)
			waiting = false
		default:
			if _, err := os.Lstat(d.staging(volume)); err == nil && d.data.TryLock() {
				_, err := os.Lstat(d.staging(volume))
				free = free || err == nil
				d.data.Unlock()
			}
		}
	}
	if !free {
		t.Error("all volumes waited for the clone")
	}
	if text, err := os.ReadFile(filepath.Join(volume, "README")); string(text) != "one" {
		t.Errorf("cloned: %q %v", text, err)
	}
	if _, err := os.Lstat(d.staging(volume)); err == nil {
		t.Error("the staging is left")
	}
	must(t, apply(t, d, resource.Put, "web", clone)) // it is there
}
