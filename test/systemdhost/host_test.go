package systemdhost_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

func TestMain(m *testing.M) { systemdhost.Main(m) }

func run(t *testing.T, h *systemdhost.Host, argv ...string) string {
	t.Helper()
	out, err := h.Run(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func TestHost(t *testing.T) {
	supervisetest.Root(t)
	systemdhost.Tree(t)
	begin := time.Now()
	h := systemdhost.Boot(t, systemdhost.Options{})
	t.Logf("booted in %v", time.Since(begin))

	if state := run(t, h, "systemctl", "is-system-running"); state != "running" {
		t.Errorf("the host is %q: %s", state, run(t, h, "systemctl", "--failed", "--no-legend"))
	}
	if out := run(t, h, "busctl", "call", "org.freedesktop.machine1", "/org/freedesktop/machine1", "org.freedesktop.machine1.Manager", "ListMachines"); !strings.HasPrefix(out, "a(ssso)") {
		t.Errorf("machined answers %q", out)
	}
	if out := "\n" + run(t, h, "systemd-run", "--quiet", "--pipe", "--wait", "--collect", "cat", "/proc/self/cgroup"); !strings.Contains(out, "\n0::/system.slice/run-") {
		t.Errorf("a transient unit runs in cgroup %q", out)
	}
	if links := run(t, h, "ip", "-br", "link"); strings.Count(links, "\n") != 0 {
		t.Errorf("want lo alone, got:\n%s", links)
	}
	for _, unit := range []string{"caddy.service", "postgresql.service"} {
		if out, _ := h.Run(t.Context(), "systemctl", "is-enabled", unit); strings.TrimSpace(out) != "disabled" {
			t.Errorf("%s is %q", unit, out)
		}
	}
	if _, err := h.Run(t.Context(), "false"); err == nil {
		t.Error("Run of a failing command succeeded")
	}
}

func TestCopyRebootPowerOff(t *testing.T) {
	h := systemdhost.Boot(t, systemdhost.Options{})
	source := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(source, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	targets := []string{"/usr/local/share/deep/x", systemdhost.DataDir + "/deep/x"}
	for _, target := range targets {
		if err := h.Copy(source, target); err != nil {
			t.Fatal(err)
		}
	}
	boot := run(t, h, "cat", "/proc/sys/kernel/random/boot_id")
	run(t, h, "touch", "/run/of-this-boot")
	before := h.Leader()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if h.Leader() == before || boot == "" {
		t.Error("the same systemd runs after the reboot")
	}
	if _, err := h.Run(ctx, "test", "-e", "/run/of-this-boot"); err == nil {
		t.Error("/run survived the reboot")
	}
	for _, target := range targets {
		if got := run(t, h, "cat", target); got != "hello" {
			t.Errorf("%s after the reboot: %q", target, got)
		}
	}
	if err := h.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOn(); err != nil {
		t.Fatal(err)
	}
	run(t, h, "touch", "/run/of-this-boot")
	if err := h.PowerCut(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(ctx, "test", "-e", "/run/of-this-boot"); err == nil {
		t.Error("/run survived the loss of power")
	}
	if got := run(t, h, "cat", targets[0]); got != "hello" {
		t.Errorf("%s after the loss of power: %q", targets[0], got)
	}
}

func TestNothingIsLeft(t *testing.T) {
	supervisetest.Root(t)
	var name, dir string
	t.Run("host", func(t *testing.T) {
		h := systemdhost.Boot(t, systemdhost.Options{})
		dir = filepath.Dir(h.Dir())
		name = filepath.Base(dir)
		if _, err := h.Start("sleep", "1000"); err != nil {
			t.Fatal(err)
		}
		// A nested service that does not want to end.
		run(t, h, "systemd-run", "--quiet", "--unit=stubborn", "sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001")
	})
	for _, base := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(base, name)); err == nil {
			t.Errorf("cgroup %s/%s is left", base, name)
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), name) {
		t.Errorf("mounts are left (%v):\n%s", err, mounts)
	}
	if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if cmdline, _ := os.ReadFile(p); strings.Contains(string(cmdline), name) {
			t.Errorf("process left: %q", cmdline)
		}
	}
}

func TestParallelHosts(t *testing.T) {
	supervisetest.Root(t)
	for _, name := range []string{"a", "b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := systemdhost.Boot(t, systemdhost.Options{})
			run(t, h, "systemctl", "start", "systemd-machined.service")
		})
	}
}
