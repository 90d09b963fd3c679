package machine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine"
	"tekton.host/pkg/resource"
)

const volumeName = "container.web.data"

func volume(policy resource.DeletionPolicy) resource.Volume {
	return resource.Volume{ObjectKind: "Container", ObjectName: "web", Volume: "data", Policy: policy}
}

func (r *rig) volumeOwner() string {
	r.t.Helper()
	_, owner, _ := observed[resource.Volume](r, volumeName)
	return owner
}

// data lists what there is as STATE:ID, without the seconds of the trash.
func (r *rig) data() []machine.DataItem {
	r.t.Helper()
	items, err := r.ListData(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return items
}

func TestVolumeLife(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.layout.Volumes(), "container/web/data")
	r.mustPut(volume(resource.RetainData), volumeName)
	for _, p := range []string{"", "container", "container/web"} {
		if info, err := os.Stat(filepath.Join(r.layout.Volumes(), p)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("volumes/%s: mode %v (%v), want 0700", p, info.Mode(), err)
		}
	}
	r.writeFile(filepath.Join(dir, "file"), "data", 0o644)

	other := resource.New("somebody", "", volumeName, volume(resource.DeleteData))
	for _, verb := range []resource.Verb{resource.Put, resource.Delete} {
		if err := r.Apply(r.ctx, []resource.Step{{Verb: verb, Resource: other}})[0]; reasonOf(err) != "Conflict" {
			t.Errorf("%s by another owner: %v, want a conflict", verb, err)
		}
	}

	r.mustDelete(volume(resource.RetainData), volumeName)
	if got := r.volumeOwner(); got != resource.RetainedOwner {
		t.Fatalf("owner after Retain: %q", got)
	}
	// A retained volume is adopted by the next object, whoever that is.
	if err := r.Apply(r.ctx, []resource.Step{{Verb: resource.Put, Resource: other}})[0]; err != nil {
		t.Fatal(err)
	}
	if got := r.volumeOwner(); got != "somebody" {
		t.Fatalf("owner after adoption: %q", got)
	}
	if err := r.DeleteData(r.ctx, volumeName); err == nil {
		t.Error("data in use could be deleted")
	}
	if err := r.Apply(r.ctx, []resource.Step{{Verb: resource.Delete, Resource: other}})[0]; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(r.layout.Volumes(), "container")); err == nil {
		t.Error("empty parents stay after the volume went to the trash")
	}
	trash := r.data()
	if len(trash) != 1 || trash[0].State != machine.DataInTrash {
		t.Fatalf("data: %+v", trash)
	}
	if n, err := r.PurgeTrash(r.ctx, time.Hour); n != 0 || err != nil {
		t.Errorf("purged %d too early: %v", n, err)
	}
	if err := r.RestoreData(r.ctx, trash[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := r.RestoreData(r.ctx, trash[0].ID); err == nil {
		t.Error("restored twice")
	}
	if got := readFile(t, filepath.Join(dir, "file")); got != "data" || r.volumeOwner() != resource.RetainedOwner {
		t.Errorf("restored: %q, owner %q", got, r.volumeOwner())
	}
	// Deleting retained data goes through the trash, and from there for good.
	if err := r.DeleteData(r.ctx, volumeName); err != nil {
		t.Fatal(err)
	}
	trash = r.data()
	if len(trash) != 1 || trash[0].State != machine.DataInTrash {
		t.Fatalf("data: %+v", trash)
	}
	if err := r.DeleteData(r.ctx, trash[0].ID); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(r.layout.Trash()); len(entries) > 0 || len(r.data()) > 0 {
		t.Errorf("left: %v", entries)
	}
}

// TestVolumeCuts puts a volume into each state that a crash can leave.
func TestVolumeCuts(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.layout.Volumes(), "container/web/data")
	marker := filepath.Join(r.layout.Volumes(), "container/web/.data.json")
	half := `{"version":1,"mark":"tekton/` + installation + `/` + r.uid() + `","volume":{"objectKind":"Container","objectName":"web","volume":"data","policy":"Delete"},"ready":false}`

	r.writeFile(marker, half, 0o600)
	if v, _, present := observed[resource.Volume](r, volumeName); !present || v.Equal(volume(resource.DeleteData)) {
		t.Errorf("a half-made volume must be observed and be unlike the wanted one: %+v", v)
	}
	r.mustPut(volume(resource.DeleteData), volumeName)
	if v, _, _ := observed[resource.Volume](r, volumeName); !v.Equal(volume(resource.DeleteData)) {
		t.Errorf("completed: %+v", v)
	}
	// The directory went to the trash, the marker did not yet go.
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	r.mustDelete(volume(resource.DeleteData), volumeName)
	if _, _, present := observed[resource.Volume](r, volumeName); present || len(r.data()) != 0 {
		t.Error("the marker without a directory stays")
	}
	r.mustDelete(volume(resource.DeleteData), volumeName)
	// A directory that we did not make.
	r.writeFile(filepath.Join(dir, "file"), "foreign", 0o644)
	if err := r.put(volume(resource.DeleteData), volumeName); reasonOf(err) != "Conflict" {
		t.Errorf("put over a foreign directory: %v", err)
	}
	// An unreadable marker makes its volume unknown, never absent, and no other.
	const otherName = "container.other.data"
	other := resource.Volume{ObjectKind: "Container", ObjectName: "other", Volume: "data", Policy: resource.DeleteData}
	r.mustPut(other, otherName)
	r.writeFile(marker, "{", 0o600)
	for range 2 { // also when the others are remembered
		o := r.Observe(r.ctx)
		if err := resource.Observed(o).Unknown(resource.ID{Kind: resource.KindVolume, Name: volumeName}); err == nil || !strings.Contains(err.Error(), marker) {
			t.Errorf("of a volume with a broken marker is said: %v", err)
		}
		if _, _, present := observed[resource.Volume](r, otherName); !present {
			t.Errorf("a broken marker hides another volume: %+v", o[resource.KindVolume])
		}
	}
	items, err := r.ListData(r.ctx)
	if err != nil || len(items) != 2 || items[1].Err == nil || items[0].Err != nil {
		t.Errorf("listed: %+v %v", items, err)
	}
	if err := r.put(volume(resource.DeleteData), volumeName); err == nil {
		t.Error("a volume was made over a broken marker")
	}
	if err := os.Remove(marker); err != nil {
		t.Fatal(err)
	}
}

// TestTrashUndescribed has one entry in the trash whose description nobody can read.
func TestTrashUndescribed(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"a", "b"} {
		v := resource.Volume{ObjectKind: "Container", ObjectName: name, Volume: "data", Policy: resource.DeleteData}
		r.mustPut(v, "container."+name+".data")
		r.writeFile(filepath.Join(r.layout.Volumes(), "container", name, "data", "file"), name, 0o644)
		r.mustDelete(v, "container."+name+".data")
	}
	broken, err := filepath.Glob(filepath.Join(r.layout.Trash(), "*-volume-container.a.data"))
	if err != nil || len(broken) != 1 {
		t.Fatalf("in the trash: %v %v", broken, err)
	}
	meta, id := filepath.Join(broken[0], "meta.json"), filepath.Base(broken[0])
	r.writeFile(meta, `{"deletedAt": [`, 0o600)
	items, err := r.ListData(r.ctx)
	if err != nil || len(items) != 2 || items[0].Err == nil || items[0].Volume.ObjectName != "a" || items[0].Since.IsZero() || items[1].Err != nil {
		t.Errorf("listed: %+v %v", items, err)
	}
	if err := r.RestoreData(r.ctx, id); err == nil || !strings.Contains(err.Error(), meta) || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("restore says %v, want which file, and what to do", err)
	}
	if n, err := r.PurgeTrash(r.ctx, time.Hour); n != 0 || err != nil {
		t.Errorf("purged too early: %d %v", n, err)
	}
	// As it was told: without the description, the name says enough.
	if err := os.Remove(meta); err != nil {
		t.Fatal(err)
	}
	if err := r.RestoreData(r.ctx, id); err != nil {
		t.Errorf("restore without a description: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(r.layout.Volumes(), "container/a/data/file")); string(b) != "a" {
		t.Errorf("restored: %q %v", b, err)
	}
	r.mustPut(resource.Volume{ObjectKind: "Container", ObjectName: "a", Volume: "data", Policy: resource.DeleteData}, "container.a.data")
	// One that stays unreadable goes when its time is over, like all.
	r.mustDelete(resource.Volume{ObjectKind: "Container", ObjectName: "a", Volume: "data", Policy: resource.DeleteData}, "container.a.data")
	broken, _ = filepath.Glob(filepath.Join(r.layout.Trash(), "*-volume-container.a.data"))
	r.writeFile(filepath.Join(broken[0], "meta.json"), "", 0o600)
	if n, err := r.PurgeTrash(r.ctx, -time.Hour); n != 2 || err != nil {
		t.Errorf("purged %d of 2: %v", n, err)
	}
}

func TestSizeMaxIsEnforcedOrExplained(t *testing.T) {
	r := newRig(t)
	v := volume(resource.DeleteData)
	v.SizeMax = 1 << 20
	r.mustPut(v, volumeName)
	got, _, _ := observed[resource.Volume](r, volumeName)
	if !got.Equal(v) {
		t.Errorf("-want +got:\n%s", cmp.Diff(v, got))
	}
	if got.Enforced != "" {
		t.Logf("not enforced here: %s", got.Enforced)
		return
	}
	dir := filepath.Join(r.layout.Volumes(), "container/web/data")
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 2<<20), 0o644); err == nil {
		t.Error("2 MiB fit into a volume of 1 MiB")
	}
}

// TestTrashedOnce cuts the way to the trash short in each place: each volume is
// in there once.
func TestTrashedOnce(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.layout.Volumes(), "container/web/data")
	r.mustPut(volume(resource.DeleteData), volumeName)
	r.writeFile(filepath.Join(dir, "file"), "data", 0o644)
	// As a crash leaves it before the description is written.
	if err := os.MkdirAll(filepath.Join(r.layout.Trash(), "1700000000-volume-"+volumeName), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for range 3 {
		if err := r.delete(volume(resource.DeleteData), volumeName); err == nil || !strings.Contains(err.Error(), "findmnt") {
			t.Errorf("with a mount on it: %v, want what to do about it", err)
		}
	}
	if data := r.data(); len(data) != 1 || data[0].State != machine.DataInUse {
		t.Errorf("while it cannot go there is %+v", data)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	r.mustDelete(volume(resource.DeleteData), volumeName)
	entries, err := os.ReadDir(r.layout.Trash())
	if err != nil || len(entries) != 1 {
		t.Fatalf("in the trash: %v %v, want one entry", entries, err)
	}
	data := r.data()
	if len(data) != 1 || data[0].ID != entries[0].Name() || time.Since(data[0].Since) > time.Minute {
		t.Errorf("in the trash: %+v, want what was deleted just now", data)
	}
	// A second volume of the name has a place of its own.
	r.mustPut(volume(resource.DeleteData), volumeName)
	r.mustDelete(volume(resource.DeleteData), volumeName)
	if data := r.data(); len(data) != 2 {
		t.Errorf("after two deletions: %+v", data)
	}
}

// TestPurgeGoesOn has one thing in the trash that cannot go.
func TestPurgeGoesOn(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"a", "b", "c"} {
		v := resource.Volume{ObjectKind: "Container", ObjectName: name, Volume: "data", Policy: resource.DeleteData}
		r.mustPut(v, "container."+name+".data")
		r.mustDelete(v, "container."+name+".data")
	}
	stuck, err := filepath.Glob(filepath.Join(r.layout.Trash(), "*-volume-container.a.data", "data"))
	if err != nil || len(stuck) != 1 {
		t.Fatalf("in the trash: %v %v", stuck, err)
	}
	if err := unix.Mount("tmpfs", stuck[0], "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	doomed := filepath.Join(r.layout.Trash(), "deleting-"+filepath.Base(filepath.Dir(stuck[0])), "data")
	t.Cleanup(func() { unix.Unmount(doomed, unix.MNT_DETACH) })
	if n, err := r.PurgeTrash(r.ctx, 0); n != 2 || err == nil || !strings.Contains(err.Error(), "findmnt -R "+doomed) {
		t.Errorf("purged %d of 3 and said %v, want 2 and what to do about the third", n, err)
	}
	if err := unix.Unmount(doomed, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := r.PurgeTrash(r.ctx, 0); n != 1 || err != nil {
		t.Errorf("purged %d: %v", n, err)
	}
}
