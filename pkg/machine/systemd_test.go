package machine_test

import (
	"os"
	"path/filepath"
	"testing"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/test/systemdhost"
)

// TestUnderSystemd runs the tests of machines once more in a booted systemd
// host, where supervisors are units and systemd-nspawn is a newer one.
func TestUnderSystemd(t *testing.T) {
	testenv.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		files[filepath.Join(programsInside, e.Name())] = filepath.Join(dir, e.Name())
	}
	systemdhost.RunInside(t, "^Test(HostSystem|Rootfs|SymlinkTraps|HostileImage|DeepTrees|StorePath|Ephemeral|StubbornIsKilled|Crash|ZombiesAreReaped|FirstProcessFailures|Adoption|ForeignMachine|Seccomp|Limits|Answer)$", files)
}
