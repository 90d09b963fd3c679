package supervise_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/supervise"
)

func TestLimitsSaidOrEnforced(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "sleep")
	spec.Limits = supervise.Limits{MemoryMax: 64 << 20, TasksMax: 50}
	got := f.start(dir, spec)
	said := func(s supervise.Status, limit string) bool { return strings.Contains(s.LimitsUnenforced, limit+":") }
	for _, limit := range []string{"memoryMax", "tasksMax"} {
		if enforced := controllerAvailable(t, limit); said(got, limit) == enforced {
			t.Errorf("%s: controller available: %v, but the status says %q", limit, enforced, got.LimitsUnenforced)
		}
	}
	if said(got, "cpuQuota") {
		t.Errorf("speaks of a limit that nobody asked for: %q", got.LimitsUnenforced)
	}
	changed := supervise.Limits{CPUQuota: 50}
	if err := f.SetLimits(t.Context(), dir, changed); err != nil {
		t.Fatal(err)
	}
	now := f.status(dir)
	if said(now, "memoryMax") || said(now, "cpuQuota") == controllerAvailable(t, "cpuQuota") {
		t.Errorf("after the change the status says %q", now.LimitsUnenforced)
	}
	if stored, _, err := f.ReadSpec(dir); stored.Limits != changed || err != nil {
		t.Errorf("the spec keeps %+v, %v", stored.Limits, err)
	}
}

// controllerAvailable looks by itself whether the root hands down what a limit needs.
func controllerAvailable(t *testing.T, limit string) bool {
	t.Helper()
	controller := map[string]string{"memoryMax": "memory", "tasksMax": "pids", "cpuQuota": "cpu"}[limit]
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if b, err := os.ReadFile(dir + "/cgroup.controllers"); err == nil {
			return strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+controller+" ")
		}
	}
	return false
}

// needed are the limits whose enforcement TestLimitsEnforced sees.
var needed = []string{"memoryMax", "tasksMax", "cpuQuota"}

// TestLimitsEnforced runs where the kernel has the controllers: on such a
// machine, and in TestLimitsUnderRealControllers anywhere.
func TestLimitsEnforced(t *testing.T) {
	for _, limit := range needed {
		if !controllerAvailable(t, limit) {
			t.Logf("no controller for %s here; TestLimitsUnderRealControllers sees to it", limit)
			return
		}
	}
	f := newFixture(t)
	t.Run("memory", func(t *testing.T) {
		dir := f.dir("m")
		spec := f.spec("memory", "hog 32")
		spec.Limits.MemoryMax = 24 << 20
		enforced(t, f.start(dir, spec))
		eventually(t, "the hog is killed", func() bool { return !f.status(dir).Running })
		if s := f.status(dir); s.ExitCode != 137 {
			t.Errorf("want a kill, got %+v", s)
		}
		// Seen by the supervisor itself, which therefore lived on.
		if raw, err := os.ReadFile(filepath.Join(dir, supervise.StatusFile)); err != nil || !strings.Contains(string(raw), `"exitCode":137`) {
			t.Errorf("the supervisor did not see the end: %s, %v", raw, err)
		}
		f.stop(dir)

		spec.Limits.MemoryMax = 0
		f.start(dir, spec)
		eventually(t, "the hog gets its fill without a limit", func() bool { return last(dir) == "fed" })
	})
	t.Run("tasks", func(t *testing.T) {
		dir := f.dir("t")
		spec := f.spec("tasks", "fork 50")
		spec.Limits.TasksMax = 40
		enforced(t, f.start(dir, spec))
		// The limit may hit a thread of the Go runtime instead, which then ends the process.
		eventually(t, "fork fails", func() bool {
			said := strings.Join(supervise.TailLog(dir, 500), "\n")
			return strings.Contains(said, "fork failed") || strings.Contains(said, "failed to create new OS thread")
		})
	})
	t.Run("changed", func(t *testing.T) {
		dir := f.dir("c")
		spec := f.spec("changed", "sleep")
		enforced(t, f.start(dir, spec))
		for _, limits := range []supervise.Limits{
			{MemoryMax: 64 << 20, MemoryHigh: 32 << 20, TasksMax: 99, CPUQuota: 20, CPUWeight: 50},
			{TasksMax: 98},
		} {
			if err := f.SetLimits(t.Context(), dir, limits); err != nil {
				t.Fatal(err)
			}
			enforced(t, f.status(dir))
			f.wantFiles(t, spec.Unit, limits)
		}
	})
}

func enforced(t *testing.T, s supervise.Status) {
	t.Helper()
	if s.LimitsUnenforced != "" {
		t.Errorf("not enforced: %s", s.LimitsUnenforced)
	}
}

func last(dir string) string { return strings.Join(supervise.TailLog(dir, 1), "") }

// wantFiles reads what the kernel has.
func (f *fixture) wantFiles(t *testing.T, unit string, l supervise.Limits) {
	t.Helper()
	orMax := func(v int64) string {
		if v == 0 {
			return "max"
		}
		return fmt.Sprint(v)
	}
	want := map[string]string{
		"memory.max": orMax(l.MemoryMax), "memory.high": orMax(l.MemoryHigh), "pids.max": orMax(int64(l.TasksMax)),
		"cpu.max": "max 100000", "cpu.weight": "100",
	}
	if l.CPUQuota > 0 {
		want["cpu.max"] = fmt.Sprintf("%d 100000", l.CPUQuota*1000)
	}
	if l.CPUWeight > 0 {
		want["cpu.weight"] = fmt.Sprint(l.CPUWeight)
	}
	dirs, err := filepath.Glob("/sys/fs/cgroup/" + f.options.Parent + "*/" + unit)
	if err != nil || len(dirs) != 1 {
		t.Fatalf("cgroup of %s: %v, %v", unit, dirs, err)
	}
	for file, value := range want {
		got, err := os.ReadFile(filepath.Join(dirs[0], file))
		if err != nil || strings.TrimSpace(string(got)) != value {
			t.Errorf("%s is %q, %v; want %q", file, got, err, value)
		}
	}
}
