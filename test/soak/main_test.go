package soak_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	// What the programs are made of: a cached result must not outlive a change there.
	_ "tekton.host/pkg/cli"
	_ "tekton.host/pkg/daemon"
	_ "tekton.host/pkg/machine/guest"
	_ "tekton.host/pkg/machine/launch"
	"tekton.host/pkg/supervise/supervisetest"
	_ "tekton.host/pkg/supervise/supervisor"
	"tekton.host/test/systemdhost"
)

func TestMain(m *testing.M) { systemdhost.Main(m) }

// programsInside is where a systemd host, which has no Go, finds the programs,
// and how long it is to run.
const programsInside = systemdhost.DataDir + "/programs"

// programs are built once a process, with a busybox for the machines.
var programs = sync.OnceValues(func() (string, error) {
	if systemdhost.Inside() {
		return programsInside, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	// Beside the test program, which `go test` removes with its directory.
	dir := filepath.Join(filepath.Dir(exe), "tekton-programs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir, "tekton.host/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w: %s", err, out)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return "", fmt.Errorf("%w: hack/deps.sh installs it", err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "busybox"), data, 0o755)
})

// settings are the environment's, or, inside a systemd host, a third of the time.
func settings(t *testing.T) (length time.Duration, seed uint64) {
	t.Helper()
	text := cmp.Or(os.Getenv("TEKTON_SOAK"), "3m")
	if systemdhost.Inside() {
		b, err := os.ReadFile(filepath.Join(programsInside, "length"))
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	length, err := time.ParseDuration(text)
	if err != nil || length <= 0 {
		t.Fatalf("TEKTON_SOAK=%q is no duration like 30m", text)
	}
	if systemdhost.Inside() {
		length /= 3
	}
	seed = uint64(time.Now().UnixNano())
	if s := os.Getenv("TEKTON_SOAK_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("TEKTON_SOAK_SEED: %v", err)
		}
	}
	return length, seed
}

// TestUnderSystemd soaks a booted systemd host, where machines are units.
func TestUnderSystemd(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "length"), []byte(cmp.Or(os.Getenv("TEKTON_SOAK"), "3m")), 0o644); err != nil {
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
	systemdhost.RunInside(t, "^TestSoak$", files)
}
