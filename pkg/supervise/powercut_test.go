package supervise_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tekton.host/pkg/supervise"
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
