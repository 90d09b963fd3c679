package e2e_test

import (
	"cmp"
	"os"
	"sync"
	"testing"

	// What the programs are made of: a cached result of these tests must not
	// outlive a change there.
	_ "tekton.host/pkg/cli"
	_ "tekton.host/pkg/daemon"
	_ "tekton.host/pkg/machine/guest"
	_ "tekton.host/pkg/machine/launch"
	_ "tekton.host/pkg/statuspage"
	"tekton.host/pkg/supervise/supervisetest"
	_ "tekton.host/pkg/supervise/supervisor"
	_ "tekton.host/pkg/webhook"
	"tekton.host/test/systemdhost"
)

func TestMain(m *testing.M) { systemdhost.Main(m) }

// form of the runtime under test.
func form() string {
	if systemdhost.Inside() {
		return "systemd"
	}
	return "supervised"
}

// programs are built once a process, into a directory with all of them.
var programs = sync.OnceValues(func() (string, error) {
	return systemdhost.BuildPrograms("tekton.host/cmd/...", "tekton.host/test/e2e/testdata/guest")
})

// insideEnv is a pattern of the tests that TestUnderSystemd runs; all without it.
const insideEnv = "TEKTON_TEST_INSIDE_RUN"

// TestUnderSystemd runs all tests once more in a booted systemd host, where
// machines and services are units.
func TestUnderSystemd(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := previousPrograms(); err != nil {
		t.Fatal(err)
	}
	files, err := systemdhost.ProgramFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if program := os.Getenv(nixosContainerEnv); program != "" {
		files[nixosContainerProgram] = program
	}
	systemdhost.RunInside(t, cmp.Or(os.Getenv(insideEnv), "."), files)
}
