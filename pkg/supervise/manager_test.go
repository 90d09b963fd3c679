package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/supervisetest"
)

func TestStartStop(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "sleep")
	spec.Generation, spec.Failures = 7, 2
	got := f.start(dir, spec)
	want := supervise.Status{
		Version: supervise.Version, Name: "a", Unit: spec.Unit, Mark: spec.Mark,
		Generation: 7, Failures: 2, Running: true,
	}
	ignore := cmpopts.IgnoreFields(supervise.Status{}, "Boot", "HostBoot", "Supervisor", "PID", "StartedAt")
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if !alive(got.PID) || !alive(got.Supervisor) || got.Boot == "" || got.StartedAt.IsZero() {
		t.Errorf("not a running process: %+v", got)
	}
	if diff := cmp.Diff(got, f.status(dir)); diff != "" {
		t.Errorf("what Start returned and Status reads differ (-start +status):\n%s", diff)
	}

	again := f.start(dir, spec)
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("a second Start did something (-first +second):\n%s", diff)
	}
	units, err := f.Units(t.Context(), f.mark())
	wantUnits := []supervise.Unit{{Name: spec.Unit, Mark: spec.Mark, Processes: 2}}
	if diff := cmp.Diff(wantUnits, units); diff != "" || err != nil {
		t.Errorf("units, %v (-want +got):\n%s", err, diff)
	}

	f.stop(dir)
	if alive(got.PID) || alive(got.Supervisor) {
		t.Error("processes survived Stop")
	}
	if status, found, err := f.Status(dir); found || err != nil {
		t.Errorf("after Stop: %+v, %v", status, err)
	}
	f.stop(dir)
	if units, err := f.Units(t.Context(), f.mark()); len(units) != 0 || err != nil {
		t.Errorf("after Stop these units exist: %v, %v", units, err)
	}
}

func TestExitCodes(t *testing.T) {
	f := newFixture(t)
	for role, want := range map[string]int{"exit 0": 0, "exit 7": 7, "sleep": 128 + 9} {
		t.Run(role, func(t *testing.T) {
			dir := f.dir("a")
			status, err := f.Start(t.Context(), dir, f.spec("a", role))
			if err == nil && role == "sleep" {
				err = f.Signal(t.Context(), dir, syscall.SIGKILL)
			} else {
				err = nil // it may have ended within Start; the status says how
			}
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "end", func() bool { status = f.status(dir); return !status.Running })
			if status.ExitCode != want || status.ExitedAt.IsZero() || status.Stopped {
				t.Errorf("want code %d of itself, got %+v", want, status)
			}
			f.stop(dir)
		})
	}
}

func TestStartError(t *testing.T) {
	f := newFixture(t)
	tests := map[string]struct {
		change func(*supervise.Spec)
		want   string
	}{
		"no such program": {func(s *supervise.Spec) { s.Argv = []string{"/does/not/exist"} }, "/does/not/exist: no such file"},
		"ends at once": {func(s *supervise.Spec) {
			s.Notify = true
			s.Env = []string{helperEnv + "=exit 4"}
		}, "ended with code 4 before it was ready; its log ends: leaving with 4"},
		"relative program": {func(s *supervise.Spec) { s.Argv = []string{"sleep"} }, "absolute path"},
		"unit is a path":   {func(s *supervise.Spec) { s.Unit = "../x" }, "not a plain file name"},
		"no mark":          {func(s *supervise.Spec) { s.Mark = "" }, "no mark"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := f.spec("a", "sleep")
			tt.change(&spec)
			dir := f.dir("a")
			_, err := f.Start(t.Context(), dir, spec)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error with %q, got %v", tt.want, err)
			}
			f.stop(dir)
		})
	}
}

func TestNotify(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "ready")
	spec.Notify, spec.Leader = true, true
	got := f.start(dir, spec)
	if !got.Ready || got.Leader != got.PID {
		t.Errorf("want ready with leader %d, got %+v", got.PID, got)
	}
}

func TestNotifyOfAnotherProcess(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "forged")
	spec.Notify = true
	t.Cleanup(func() { f.stop(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	status, err := f.Start(ctx, dir, spec)
	if !errors.Is(err, context.DeadlineExceeded) || status.Ready {
		t.Errorf("a child's READY=1 counted: %+v, %v", status, err)
	}
	if status := f.status(dir); !status.Running {
		t.Errorf("the end of Start's context ended the process: %+v", status)
	}
}

func TestProcessOfAnotherUser(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "whoami")
	spec.UID, spec.GID, spec.Groups = 12345, 12346, []uint32{12347}
	spec.Notify, spec.Dir = true, "/usr"
	exe := filepath.Join("/tmp", f.options.Parent)
	copyFile(t, spec.Argv[0], exe)
	spec.Argv[0] = exe
	f.start(dir, spec)
	want := "12345 12346 [12347] /usr [" + spec.Env[0] + " NOTIFY_SOCKET=@tekton-supervise/"
	eventually(t, "its word", func() bool { return last(dir) != "" })
	if got := last(dir); !strings.HasPrefix(got, want) {
		t.Errorf("want %q…, got %q", want, got)
	}
}

// copyFile copies a program to where every user reaches it.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(to) })
}

func TestStopKillsTheStubborn(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "stubborn")
	spec.Notify = true
	status := f.start(dir, spec)
	if err := f.Stop(t.Context(), dir, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if alive(status.PID) {
		t.Error("it lives")
	}
}

func TestDaemonsDieToo(t *testing.T) {
	for _, role := range []string{"daemon", "abandon"} {
		t.Run(role, func(t *testing.T) {
			f := newFixture(t)
			dir := f.dir("a")
			f.start(dir, f.spec("a", role))
			if role == "abandon" {
				eventually(t, "end", func() bool { return !f.status(dir).Running })
				if code := f.status(dir).ExitCode; code != 3 {
					t.Errorf("want the code of the process itself, 3, got %d", code)
				}
				eventually(t, "supervisor gone", func() bool {
					units, err := f.Units(t.Context(), f.mark())
					return err == nil && (len(units) == 0 || units[0].Processes == 0)
				})
				return
			}
			eventually(t, "grandchild", func() bool {
				units, err := f.Units(t.Context(), f.mark())
				return err == nil && len(units) == 1 && units[0].Processes == 3
			})
			f.stop(dir)
		})
	}
}

func TestSupervisorKilled(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "stubborn")
	spec.Notify = true
	before := f.start(dir, spec)
	if err := syscall.Kill(before.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "loss seen", func() bool { return !f.status(dir).Running })
	lost := f.status(dir)
	if lost.ExitCode != 137 || lost.ExitedAt.IsZero() {
		t.Errorf("want code 137 and a time, got %+v", lost)
	}
	if diff := cmp.Diff(lost, f.status(dir)); diff != "" {
		t.Errorf("the same loss reads differently the second time:\n%s", diff)
	}
	after := f.start(dir, spec)
	if alive(before.PID) {
		t.Error("the process of the lost supervisor lives beside the new one")
	}
	if after.PID == before.PID || after.Boot == before.Boot || !after.Running {
		t.Errorf("want a new run, got %+v after %+v", after, before)
	}
}

func TestStopAfterSupervisorKilled(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	status := f.start(dir, f.spec("a", "stubborn"))
	if err := syscall.Kill(status.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.stop(dir)
	if alive(status.PID) {
		t.Error("the process of the lost supervisor survived Stop")
	}
}

func TestHungSupervisor(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	status := f.start(dir, f.spec("a", "sleep"))
	if err := syscall.Kill(status.Supervisor, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context(), dir, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if alive(status.PID) || alive(status.Supervisor) {
		t.Error("processes survived")
	}
}

func TestStopWhileStarting(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "sleep")
	spec.Notify = true // it never will be ready
	ended := make(chan error, 1)
	go func() {
		_, err := f.Start(t.Context(), dir, spec)
		ended <- err
	}()
	eventually(t, "begin", func() bool { s, found, _ := f.Status(dir); return found && s.Running })
	f.stop(dir)
	if err := <-ended; err == nil {
		t.Error("Start of what was stopped succeeded")
	}
}

func TestAdopt(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "ready")
	spec.Leader = true
	want := f.start(dir, spec)
	other := f.another()
	got, found, err := other.Status(dir)
	if diff := cmp.Diff(want, got); diff != "" || !found || err != nil {
		t.Errorf("found %v, %v (-want +got):\n%s", found, err, diff)
	}
	stored, found, err := other.ReadSpec(dir)
	spec.Version, spec.Boot = supervise.Version, want.Boot
	if diff := cmp.Diff(spec, stored); diff != "" || !found || err != nil {
		t.Errorf("spec: found %v, %v (-want +got):\n%s", found, err, diff)
	}
	if err := other.Stop(t.Context(), dir, 0); err != nil {
		t.Fatal(err)
	}
	if alive(want.PID) {
		t.Error("it lives")
	}
}

func TestForeignUnit(t *testing.T) {
	f := newFixture(t)
	spec := f.spec("a", "sleep")
	theirs := spec
	theirs.Mark = "tekton/ffffffffffff/somebody"
	status := f.start(f.dir("theirs"), theirs)
	_, err := f.Start(t.Context(), f.dir("ours"), spec)
	if _, waits := errors.AsType[*resource.WaitingError](err); !waits || resource.Reason(err, "") != "Conflict" {
		t.Errorf("want a conflict, got %v", err)
	}
	if err := f.Clear(t.Context(), spec.Unit, spec.Mark); err == nil {
		t.Error("Clear of a foreign unit succeeded")
	}
	if !alive(status.PID) {
		t.Error("the foreign process died")
	}
}

func TestParallel(t *testing.T) {
	f := newFixture(t)
	const n = 50
	dirs := make([]string, n)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range n {
		dirs[i] = f.dir(fmt.Sprint(i))
		wg.Go(func() {
			spec := f.spec(fmt.Sprint(i), "ready")
			spec.Leader, spec.Notify = true, true
			if status, err := f.Start(t.Context(), dirs[i], spec); err != nil || !status.Running {
				t.Errorf("%+v, %v", status, err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d started in %v", n, time.Since(begin))
	begin = time.Now()
	for i := range n {
		wg.Go(func() {
			if err := f.Stop(t.Context(), dirs[i], 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d stopped in %v", n, time.Since(begin))
	if units, err := f.Units(t.Context(), f.mark()); len(units) != 0 || err != nil {
		t.Errorf("left: %v, %v", units, err)
	}
}

// systemd has units of others, also in files.
func TestForeignUnitFile(t *testing.T) {
	f := newFixture(t)
	if f.options.Form != supervise.Systemd {
		return
	}
	spec := f.spec("a", "sleep")
	file := "/run/systemd/system/" + spec.Unit
	if err := os.WriteFile(file, []byte("[Service]\nExecStart=/bin/true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	_, err := f.Start(t.Context(), f.dir("a"), spec)
	if _, waits := errors.AsType[*resource.WaitingError](err); !waits || resource.Reason(err, "") != "Conflict" {
		t.Errorf("want a conflict, got %v", err)
	}
}

// One start after the other: what supervision adds to a process.
func BenchmarkStart(b *testing.B) {
	m, err := supervise.New(supervise.Options{Form: supervise.DetectForm(), Program: supervisetest.Program(b), Parent: "tkbench"})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for b.Loop() {
		_, err := m.Start(b.Context(), dir, supervise.Spec{Name: "a", Unit: "tkbench-a.service", Mark: "tekton/0123456789ab/bench", Argv: []string{"/bin/sleep", "1000"}})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := m.Stop(b.Context(), dir, 0); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
