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

// programs are built once a process, with a busybox for the machines.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := systemdhost.BuildPrograms("tekton.host/cmd/...", "tekton.host/test/e2e/testdata/guest")
	if err != nil || systemdhost.Inside() {
		return dir, err
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
		b, err := os.ReadFile(filepath.Join(systemdhost.ProgramsDir, "length"))
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
	files, err := systemdhost.ProgramFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	systemdhost.RunInside(t, "^TestSoak$", files)
}
