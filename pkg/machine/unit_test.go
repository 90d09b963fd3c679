package machine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

func TestStubbornIsKilled(t *testing.T) { eachRuntime(t, testStubbornIsKilled) }

func testStubbornIsKilled(t *testing.T, r *rig) {
	i := r.instance(1, "stubborn", func(i *resource.Instance) { i.StopTimeout = resource.Duration(200 * time.Millisecond) })
	u := r.run(i)
	r.mustDelete(u, i.Name)
	if alive(u.Leader) {
		t.Error("the leader is alive")
	}
	if i.Container != "" && strings.Contains(readFile(t, "/proc/self/mountinfo"), "/"+i.Container+" ") {
		t.Error("what was killed has left its mount")
	}
	if locks, _ := filepath.Glob(filepath.Join(r.layout.Volumes(), "*", "*", ".#*")); len(locks) > 0 {
		t.Errorf("what was killed has left its locks: %q", locks)
	}
	r.mustDelete(i, i.Name)
}

// alive reports whether a process runs. A zombie does not: the test's own PID 1
// inherits what loses its parent, and does not reap.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestCrash(t *testing.T) {
	r := newRig(t)
	i := r.instance(1, "crash")
	r.mustPut(i, i.Name)
	for round := 1; round <= 2; round++ {
		step := resource.Step{Verb: resource.Put, Resource: resource.New(r.uid(), i.Name, i.Name, resource.Unit{Name: i.Name, Running: true})}
		if round > 1 {
			seen := resource.New(r.uid(), i.Name, i.Name, r.unit(i.Name))
			step.Seen = &seen
		}
		if err := r.Apply(r.ctx, []resource.Step{step})[0]; err != nil {
			t.Fatal(err)
		}
		u := r.unit(i.Name)
		if u.Running {
			r.attach(i, u.Leader)
		}
		u = r.ended(i.Name)
		log := "\x1b[31mred\x1b]0;title\a\r and dead"
		want := resource.Unit{Name: i.Name, ExitCode: 7, Failures: round, LastLog: []string{log}}
		u.LastLog = u.LastLog[len(u.LastLog)-1:]
		if diff := cmp.Diff(want, resource.Unit{Name: u.Name, ExitCode: u.ExitCode, Failures: u.Failures, LastLog: u.LastLog, Leader: u.Leader}); diff != "" {
			t.Errorf("round %d, -want +got:\n%s", round, diff)
		}
	}
	// A plan that has not seen the end must not start over an old link.
	if err := r.put(resource.Unit{Name: i.Name, Running: true}, i.Name); !isStale(err) {
		t.Errorf("start of an ended unit that the plan has not seen: %v, want stale", err)
	}
	r.mustDelete(i, i.Name)
}

func TestZombiesAreReaped(t *testing.T) {
	r := newRig(t)
	i := r.instance(1, "zombies")
	r.run(i)
	r.eventually("no zombies", func() bool { return r.about(i).Zombies == 0 })
}

// TestFirstProcessFailures checks that it fails closed with a code and words.
func TestFirstProcessFailures(t *testing.T) {
	r := newRig(t)
	for n, tt := range []struct {
		name   string
		code   int
		words  string
		change func(*resource.Instance)
	}{
		{"command not found", 127, `"nowhere" not found in PATH`, func(i *resource.Instance) { i.Command = []string{"nowhere"} }},
		{"path not found", 127, "/no/where", func(i *resource.Instance) { i.Command = []string{"/no/where"} }},
		{"not executable", 126, "plain may not be executed", func(i *resource.Instance) { i.Command = []string{"plain"} }},
		{"unknown user", 125, `user "ghost": not in /etc/passwd`, func(i *resource.Instance) { i.User = "ghost" }},
		{"no directory", 125, "enter the working directory as app (1000:1001)", func(i *resource.Instance) { i.User, i.WorkDir = "1000", "/nowhere" }},
		{"no init", 127, "no init in this system", func(i *resource.Instance) { i.Command = nil }},
		{"credential off tmpfs", 125, "must be below /run", func(i *resource.Instance) {
			i.Secrets = []resource.Secret{{Name: "s", File: r.writeFile(filepath.Join(r.layout.Secrets, "s"), "x", 0o600), Path: "/etc/secret"}}
		}},
		{"credential on a volume", 125, "not on tmpfs", func(i *resource.Instance) {
			i.Volumes = []resource.Bind{{Source: "container.web.data", Target: "/run/data"}}
			i.Secrets = []resource.Secret{{Name: "s", File: r.writeFile(filepath.Join(r.layout.Secrets, "s"), "x", 0o600), Path: "/run/data/secret"}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.mustPut(resource.Volume{ObjectKind: "Container", ObjectName: "web", Volume: "data"}, "container.web.data")
			i := r.instance(1+n, "serve", r.onRootfs, tt.change)
			r.mustPut(i, i.Name)
			r.mustPut(resource.Unit{Name: i.Name, Running: true}, i.Name)
			r.attach(i, r.unit(i.Name).Leader)
			u := r.ended(i.Name)
			if log := strings.Join(u.LastLog, "\n"); u.ExitCode != tt.code || !strings.Contains(log, tt.words) {
				t.Errorf("exit code %d, want %d; log, which must say %q:\n%s", u.ExitCode, tt.code, tt.words, log)
			}
		})
	}
}

// TestWaitsForAddress: no command runs before the machine has its address, and
// a stop does not have to wait for the kill: neither then nor in the moment of
// the start, when there is nobody yet to take a signal.
func TestWaitsForAddress(t *testing.T) {
	r := newRig(t)
	for n, mode := range []string{"serve", ""} {
		i := r.instance(1+n, mode, r.onRootfs, func(i *resource.Instance) {
			i.StopTimeout = resource.Duration(time.Minute)
			if mode == "" {
				i.Command = nil
				guest := readFile(t, filepath.Join(r.programs, "guest"))
				r.writeFile(filepath.Join(i.System.RootFS, "sbin/init"), guest, 0o755)
			}
		})
		r.mustPut(i, i.Name)
		for start := range 6 {
			r.mustPut(resource.Unit{Name: i.Name, Running: true, StopTimeout: i.StopTimeout}, i.Name)
			u := r.unit(i.Name)
			if start == 0 {
				r.eventually("the first process to wait", func() bool { return waitsOnSocket(u.Leader) })
			}
			ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
			defer cancel()
			if err := r.Apply(ctx, []resource.Step{{Verb: resource.Delete, Resource: resource.New(r.uid(), i.Name, i.Name, u)}})[0]; err != nil {
				t.Fatalf("stop while waiting (mode %q, start %d): %v", mode, start, err)
			}
		}
	}
}

// waitsOnSocket reports whether the first process, which is the leader or its
// child, has its netlink socket.
func waitsOnSocket(leader int) bool {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", leader, leader))
	for _, pid := range append(strings.Fields(string(children)), fmt.Sprint(leader)) {
		fds, _ := filepath.Glob("/proc/" + pid + "/fd/*")
		for _, fd := range fds {
			if target, _ := os.Readlink(fd); strings.HasPrefix(target, "socket:") {
				return true
			}
		}
	}
	return false
}

func TestAdoption(t *testing.T) { eachRuntime(t, testAdoption) }

func testAdoption(t *testing.T, r *rig) {
	i := r.instance(1, "serve")
	r.run(i)
	before := r.Observe(r.ctx)
	r.Driver = r.another()
	after := r.Observe(r.ctx)
	for kind := range before {
		if diff := cmp.Diff(before[kind].Items.Sorted(), after[kind].Items.Sorted(), cmp.Comparer(func(a, b resource.Value) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%s, -before +after:\n%s", kind, diff)
		}
	}
	if err := r.put(resource.Unit{Name: i.Name, Running: true}, i.Name); err != nil {
		t.Errorf("put of a running unit: %v", err)
	}
	if u := r.unit(i.Name); u.Boot != before[resource.KindUnit].Items[resource.ID{Kind: resource.KindUnit, Name: i.Name}].Value.(resource.Unit).Boot {
		t.Error("the machine was started again")
	}
	if err := r.put(resource.Unit{Name: i.Name, Running: true, Generation: 1}, i.Name); !isStale(err) {
		t.Errorf("put of a newer generation over a running one: %v, want stale", err)
	}
}

func TestForeignMachine(t *testing.T) { eachRuntime(t, testForeignMachine) }

func testForeignMachine(t *testing.T, r *rig) {
	i := r.instance(1, "serve")
	u := r.run(i)
	other := func(verb resource.Verb, v resource.Value) resource.Step {
		return resource.Step{Verb: verb, Resource: resource.New("somebody", i.Name, i.Name, v)}
	}
	for _, s := range []resource.Step{
		other(resource.Put, i), other(resource.Delete, i), other(resource.Put, u), other(resource.Delete, u),
		other(resource.Put, resource.Answer{Boot: u.Boot}), other(resource.Delete, resource.Answer{Boot: u.Boot}),
	} {
		if err := r.Apply(r.ctx, []resource.Step{s})[0]; reasonOf(err) != "Conflict" {
			t.Errorf("%s for another owner: %v, want a conflict", s, err)
		}
	}
	o := r.options
	o.Installation = "ffffffffffff"
	r.options = o
	for kind, d := range r.another().Observe(r.ctx) {
		if d.Err != nil || len(d.Items) > 0 {
			t.Errorf("another installation observes %s: %v %v", kind, d.Items, d.Err)
		}
	}
	if got := r.unit(i.Name); got.Boot != u.Boot || !got.Running {
		t.Errorf("the machine was touched: %+v", got)
	}
}

func TestSeccomp(t *testing.T) {
	r := newRig(t)
	for n, on := range []bool{false, true} {
		r.options.Seccomp = on
		r.Driver = r.another()
		i := r.instance(1+n, "serve")
		u := r.run(i)
		status := readFile(t, fmt.Sprintf("/proc/%d/status", u.Leader))
		if got := !strings.Contains(status, "Seccomp:\t0"); got != on {
			t.Errorf("system calls are filtered: %v, want %v", got, on)
		}
	}
}

func TestLimits(t *testing.T) { eachRuntime(t, testLimits) }

func testLimits(t *testing.T, r *rig) {
	i := r.instance(1, "serve", func(i *resource.Instance) { i.Limits.TasksMax = 100; i.Limits.DiskMax = 1 << 30 })
	u := r.run(i)
	i.Limits.TasksMax = 200
	r.mustPut(i, i.Name)
	got, _, _ := observed[resource.Instance](r, i.Name)
	if diff := cmp.Diff(i.Limits, got.Limits); diff != "" {
		t.Errorf("limits -want +got:\n%s", diff)
	}
	if after := r.unit(i.Name); after.Boot != u.Boot {
		t.Error("changing limits restarted the machine")
	}
	if n := r.tasksMax(i); n != 200 {
		t.Errorf("what runs it limits tasks to %d", n)
	}
	t.Logf("not enforced here: %s", got.LimitsUnenforced)
}

func TestWatch(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(r.ctx)
	var seen atomic.Int64
	done := make(chan error, 1)
	go func() { done <- r.Watch(ctx, func() { seen.Add(1) }) }()
	i := r.instance(1, "serve")
	u := r.run(i)
	r.eventually("news of the start", func() bool { return seen.Load() > 0 })
	before := seen.Load()
	r.mustDelete(u, i.Name)
	r.eventually("news of the end", func() bool { return seen.Load() > before })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
