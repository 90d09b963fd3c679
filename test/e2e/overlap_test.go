package e2e_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// load asks the ingress without a break, from several clients, and keeps what
// went wrong.
type load struct {
	stop     chan struct{}
	done     sync.WaitGroup
	requests atomic.Int64
	mu       sync.Mutex
	failures []string
}

func (k *tekton) load(host string) *load {
	l := &load{stop: make(chan struct{})}
	for range 3 {
		l.done.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.requests.Add(1)
				if _, err := k.served(host, "/"); err != nil {
					l.mu.Lock()
					l.failures = append(l.failures, err.Error())
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func (l *load) end(t testing.TB) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	if len(l.failures) > 0 {
		t.Errorf("%d of %d requests failed: %s", len(l.failures), l.requests.Load(), strings.Join(l.failures[:min(5, len(l.failures))], "\n"))
	}
	if l.requests.Load() == 0 {
		t.Error("no request was made")
	}
}

// TestOverlap replaces a machine under load, twice, with a request under way
// at the old one.
func TestOverlap(t *testing.T) {
	t.Parallel()
	k := start(t)
	spec := func(generation int) string {
		return k.guest("app", "routes: [{host: app.test, port: 8080}]", "stopTimeout: 30s", fmt.Sprintf(`environment: {GENERATION: "%d"}`, generation))
	}
	k.write("app.yaml", spec(1))
	k.ready("app")
	l := k.load("app.test")
	slow := make(chan error, 1)
	go func() {
		_, body, err := k.through("app.test", "/slow?n=60")
		if err == nil && !strings.HasSuffix(body, "end\n") {
			err = fmt.Errorf("it was cut: %q", body)
		}
		slow <- err
	}()
	for generation := 2; generation <= 3; generation++ {
		k.write("app.yaml", spec(generation))
		k.generation("app", fmt.Sprint(generation))
	}
	if err := <-slow; err != nil {
		t.Errorf("the request under way at the old machine: %v", err)
	}
	k.settled()
	l.end(t)
}

// TestRestartOfDaemon stops, kills and starts the daemon under load.
func TestRestartOfDaemon(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", "routes: [{host: app.test, port: 8080}]", "databases: [{name: main, deletionPolicy: Delete}]"))
	k.ready("app")
	k.settled()
	outlives := func() string {
		return strings.Join(k.processes(func(p process) bool { return k.ours(p) && p.pid != k.daemon.Process.Pid }), "\n")
	}
	before, machine := outlives(), k.get("app").Status.Machine
	l := k.load("app.test")
	slow := make(chan error, 1)
	go func() {
		_, body, err := k.through("app.test", "/slow?n=40")
		if err == nil && !strings.HasSuffix(body, "end\n") {
			err = fmt.Errorf("it was cut: %q", body)
		}
		slow <- err
	}()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		k.signal(sig)
		k.mustServe("app.test")
		k.up()
		k.ready("app")
		k.settled()
	}
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	l.end(t)
	// PostgreSQL's children come and go.
	if after := outlives(); lasting(after) != lasting(before) || k.get("app").Status.Machine != machine {
		t.Errorf("processes before:\n%s\nafter:\n%s", before, after)
	}
}

func lasting(processes string) string {
	var kept []string
	for line := range strings.Lines(processes) {
		if !strings.Contains(line, " postgres: ") {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return strings.Join(kept, "\n")
}

func (k *tekton) mustServe(host string) {
	k.t.Helper()
	if _, err := k.served(host, "/"); err != nil {
		k.t.Errorf("%s is not served: %v", host, err)
	}
}
