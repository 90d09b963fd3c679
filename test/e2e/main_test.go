package e2e_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	// What the programs are made of: a cached result of these tests must not
	// outlive a change there.
	_ "tekton.host/pkg/cli"
	_ "tekton.host/pkg/daemon"
	_ "tekton.host/pkg/machine/guest"
	_ "tekton.host/pkg/machine/launch"
	"tekton.host/pkg/supervise/supervisetest"
	_ "tekton.host/pkg/supervise/supervisor"
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

// programsInside is where a systemd host, which has no Go, finds the programs.
const programsInside = systemdhost.DataDir + "/programs"

// programs are built once a process, into a directory with all of them.
var programs = sync.OnceValues(func() (string, error) {
	if systemdhost.Inside() {
		return programsInside, nil
	}
	// Beside the test program, which `go test` removes with its directory.
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(exe), "tekton-programs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir, "tekton.host/cmd/...", "tekton.host/test/e2e/testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w: %s", err, out)
	}
	return dir, nil
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
	paths, err := programFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, path := range paths {
		files[filepath.Join(programsInside, path)] = filepath.Join(dir, path)
	}
	systemdhost.RunInside(t, cmp.Or(os.Getenv(insideEnv), "."), files)
}
