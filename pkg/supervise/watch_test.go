package supervise_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/supervise"
)

func TestWatch(t *testing.T) {
	f := newFixture(t)
	parent := f.dir("machines")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- f.Watch(ctx, parent, func() {
			select {
			case seen <- struct{}{}:
			default:
			}
		})
	}()
	// until waits for news whose reading is ok; the first look needs none.
	until := func(what string, ok func() bool) {
		t.Helper()
		timeout := time.After(20 * time.Second)
		for !ok() {
			select {
			case <-seen:
			case <-timeout:
				t.Fatalf("no notification of %s", what)
			}
		}
	}
	marker := filepath.Join(parent, "began")
	eventually(t, "watch begins", func() bool {
		os.Mkdir(marker, 0o700)
		os.Remove(marker)
		return len(seen) > 0
	})
	dir := filepath.Join(parent, "a")
	go f.Start(t.Context(), dir, f.spec("a", "sleep"))
	t.Cleanup(func() { f.stop(dir) })
	running := func() bool { s, found, _ := f.Status(dir); return found && s.Running }
	until("the start", running)
	if err := f.Signal(t.Context(), dir, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until("the end", func() bool { return !running() })
	f.start(dir, f.spec("a", "sleep"))
	until("the second start", running)
	if err := syscall.Kill(f.status(dir).Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until("the supervisor's death", func() bool { return !running() })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Watch: %v", err)
	}
}

func TestLoggingWakesNobody(t *testing.T) {
	f := newFixture(t)
	parent := f.dir("machines")
	dir := filepath.Join(parent, "a")
	spec := f.spec("a", "talk")
	spec.Notify = true
	f.start(dir, spec)
	woken := make(chan struct{}, 100)
	go f.Watch(t.Context(), parent, func() { woken <- struct{}{} })
	<-woken // the look at what is there already
	for i := range 5 {
		if err := f.Signal(t.Context(), dir, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "line", func() bool {
			lines := supervise.TailLog(dir, 1)
			return len(lines) == 1 && lines[0] == fmt.Sprint("said ", i+1)
		})
	}
	if len(woken) != 0 {
		t.Errorf("%d notifications for log lines", len(woken))
	}
}

// TestWatchProgress: what is under way is told of at intervals, and nothing once it has ended.
func TestWatchProgress(t *testing.T) {
	f := newFixture(t)
	parent := f.dir("builds")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	var looks, told atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	underWay := func() bool { return looks.Add(1) <= 3 }
	go func() {
		ended <- f.WatchProgress(ctx, parent, time.Millisecond, underWay, func() { told.Add(1) })
	}()
	eventually(t, "looks after the end", func() bool { return looks.Load() > 10 })
	if n := told.Load(); n != 3 {
		t.Errorf("told %d times, want 3", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("WatchProgress: %v", err)
	}
}

// Reading 1,000 directories has to be cheap enough for every pass of a daemon.
func BenchmarkStatus1000(b *testing.B) {
	dir := b.TempDir()
	const status = `{"version":1,"name":"web-1","unit":"tekton-web-1.service","mark":"tekton/0123456789ab/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0","boot":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","supervisor":1234,"pid":1235,"leader":1236,"ready":true,"startedAt":"2026-01-02T03:04:05.123456789Z"}`
	dirs := make([]string, 1000)
	for i := range dirs {
		dirs[i] = filepath.Join(dir, fmt.Sprint("web-", i))
		if err := os.MkdirAll(dirs[i], 0o700); err != nil {
			b.Fatal(err)
		}
		os.WriteFile(filepath.Join(dirs[i], supervise.StatusFile), []byte(status), 0o600)
		os.WriteFile(filepath.Join(dirs[i], supervise.LockFile), nil, 0o600)
	}
	m, err := supervise.New(supervise.Options{Form: supervise.Supervised, Program: "/bin/true"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, d := range dirs {
			if _, _, err := m.Status(d); err != nil {
				b.Fatal(err)
			}
		}
	}
}
