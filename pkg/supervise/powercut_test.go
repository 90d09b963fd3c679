package supervise_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/contract"
)

// TestFilesLostWithThePower: neither spec nor status is synced, so a power cut
// may leave them without content. What they tell of is gone.
func TestFilesLostWithThePower(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "sleep")
	for _, lost := range [][]string{{supervise.StatusFile}, {supervise.SpecFile}, {supervise.StatusFile, supervise.SpecFile}} {
		status := f.start(dir, spec)
		if err := syscall.Kill(status.Supervisor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "loss seen", func() bool { return !f.status(dir).Running })
		f.stop(dir) // takes the cgroup, as the power does
		for _, name := range []string{supervise.StatusFile, supervise.SpecFile} {
			content := []byte("{}")
			if name == supervise.StatusFile {
				content = []byte(`{"version":1,"unit":"` + spec.Unit + `","mark":"` + spec.Mark + `"}`)
			}
			if len(lost) == 2 || name == lost[0] {
				content = bytes.Repeat([]byte{0}, 10*len(lost)-10)
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if s, found, err := f.Status(dir); err != nil || s.Running || (found && lost[0] == supervise.StatusFile) {
			t.Errorf("without %q: %+v %v %v", lost, s, found, err)
		}
		f.stop(dir)
		for _, name := range []string{supervise.StatusFile, supervise.SpecFile} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("without %q: %s is left by a stop", lost, name)
			}
		}
		// A start finds the same, and needs no stop before it.
		for _, name := range lost {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.start(dir, spec)
		f.stop(dir)
	}
}

// TestHostWentDown: a process that lost its supervisor has ended by itself, but
// not when the host went down with it, in order or not: that is no end of its own.
func TestHostWentDown(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	status := f.start(dir, f.spec("a", "sleep"))
	if err := syscall.Kill(status.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "loss seen", func() bool { return !f.status(dir).Running })
	if s := f.status(dir); s.Stopped || s.ExitCode != 137 || s.ExitedAt.IsZero() {
		t.Errorf("the supervisor was killed: %+v", s)
	}
	path := filepath.Join(dir, supervise.StatusFile)
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Replace(now, []byte(contract.HostBoot()), []byte("another-boot"), 1)
	if contract.HostBoot() == "" || bytes.Equal(now, before) {
		t.Fatalf("the status does not tell the host's boot: %s", now)
	}
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := f.status(dir); !s.Stopped || s.Running || s.ExitedAt.IsZero() {
		t.Errorf("the host went down: %+v", s)
	}
	// What had ended before is not touched by that.
	f.stop(dir)
	f.start(dir, f.spec("a", "exit 0"))
	eventually(t, "end", func() bool { return !f.status(dir).Running })
	ended, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(ended, []byte(contract.HostBoot()), []byte("another-boot"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := f.status(dir); s.Stopped || s.ExitCode != 0 {
		t.Errorf("ended before the host went down: %+v", s)
	}
}
