package supervise_test

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/cgroup"
)

// TestUnmarkedGroup: a daemon died after it had made a unit's cgroup and before
// it said whose it is.
func TestUnmarkedGroup(t *testing.T) {
	f := newFixture(t)
	if f.options.Form != supervise.Supervised {
		return // under systemd groups are systemd's
	}
	host, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	spec := f.spec("x", "sleep")
	if err := host.Group(f.options.Parent).Child(spec.Unit).Create(); err != nil {
		t.Fatal(err)
	}
	f.start(f.dir("x"), spec)
}

// TestAbandonedGroup: an installation that is gone has left a unit's cgroup. A
// living process in it is not ours to end; an empty one is in nobody's way.
func TestAbandonedGroup(t *testing.T) {
	f := newFixture(t)
	if f.options.Form != supervise.Supervised {
		return // under systemd groups are systemd's
	}
	host, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	spec := f.spec("x", "sleep")
	group := host.Group(f.options.Parent).Child(spec.Unit)
	inside := group.Child(cgroup.Main).Child("payload")
	if err := inside.Create(); err != nil {
		t.Fatal(err)
	}
	if err := group.SetMark("tekton/gone/uid"); err != nil {
		t.Fatal(err)
	}
	dir, err := inside.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	other := exec.Command("sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Process.Kill()
	if _, err := f.Start(t.Context(), f.dir("x"), spec); resource.Reason(err, "") != "Conflict" {
		t.Errorf("with a living process in the group: %v", err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("somebody else's process was ended: %v", err)
	}
	other.Process.Kill()
	other.Wait()
	// The kernel lets go of a dead process a moment later.
	for populated := true; populated && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
		if populated, err = group.Populated(); err != nil {
			t.Fatal(err)
		}
	}
	f.start(f.dir("x"), spec)
}
