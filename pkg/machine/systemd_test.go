package machine_test

import (
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
	files, err := systemdhost.ProgramFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	systemdhost.RunInside(t, "^Test(HostSystem|Rootfs|SymlinkTraps|HostileImage|DeepTrees|StorePath|Ephemeral|StubbornIsKilled|Crash|ZombiesAreReaped|FirstProcessFailures|Adoption|ForeignMachine|Seccomp|Limits|Answer|ContainerStartCutShort)$", files)
}
