package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	if now, before := k.must("logs", "app"), k.must("logs", "app", "--previous"); !strings.Contains(now, "serving generation 3") || !strings.Contains(before, "serving generation 2") {
		t.Errorf("the log:\n%s\nand that of the machine before:\n%s", now, before)
	}
	if changed := k.must("history", "app", "--diff", "3"); !strings.Contains(changed, `spec.environment.GENERATION: "2" → "3"`) {
		t.Errorf("history:\n%s", changed)
	}
}

// machinesOverRestart is how many machines run while the daemon is restarted.
const machinesOverRestart = 50

// TestRestartOfDaemon stops, kills and starts the daemon with fifty machines
// under load: no process of theirs, nor of Caddy, PostgreSQL and DNS, is
// another one afterwards, and no request notices.
func TestRestartOfDaemon(t *testing.T) {
	t.Parallel()
	k := start(t)
	var names []string
	for i := range machinesOverRestart {
		name := fmt.Sprintf("app%d", i)
		names = append(names, name)
		lines := []string{"routes: [{host: " + name + ".test, port: 8080}]"}
		if i%10 == 0 {
			lines = append(lines, "databases: [{name: main, deletionPolicy: Delete}]")
		}
		k.write(name+".yaml", k.guestOf(runtimeOf(i), name, lines...))
	}
	k.ready(names...)
	k.settled()
	before, machines := k.outlives(), k.machines()
	if len(machines) != machinesOverRestart {
		t.Errorf("%d machines run", len(machines))
	}
	loads := []*load{k.load("app0.test"), k.load("app49.test")}
	// One request a machine is under way over both restarts: it ends when asked to.
	slow := k.underWay(names...)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		k.signal(sig)
		for _, name := range names {
			k.mustServe(name + ".test")
		}
		k.up()
		k.ready(names...)
		k.settled()
	}
	slow.end(t)
	for _, l := range loads {
		l.end(t)
	}
	if diff := cmp.Diff(before, k.outlives()); diff != "" {
		t.Errorf("processes: -before +after:\n%s", diff)
	}
	for _, name := range names {
		if i := k.get(name); i.Status.Restarts != 0 {
			t.Errorf("%s was restarted %d times", name, i.Status.Restarts)
		}
	}
}

// outlives are the processes that a daemon leaves behind. PostgreSQL's sessions
// and workers come and go.
func (k *tekton) outlives() []string {
	return k.processes(func(p process) bool {
		return k.ours(p) && p.pid != k.daemon.Process.Pid && !strings.Contains(p.cmdline, "postgres: tekton") && !strings.Contains(p.cmdline, "postgres: autovacuum worker")
	})
}

// underWay are requests through the ingress that last until they are ended.
type underWay struct {
	k       *tekton
	names   []string
	results chan error
}

func (k *tekton) underWay(names ...string) *underWay {
	k.t.Helper()
	u := &underWay{k, names, make(chan error, len(names))}
	patient := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, name := range names {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/slow?n=1000000", k.httpPort()), nil)
		k.check(err)
		req.Host = name + ".test"
		resp, err := patient.Do(req)
		k.check(err)
		// Its first piece has come: it is under way.
		_, err = io.ReadFull(resp.Body, make([]byte, 2))
		k.check(err)
		go func() {
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err == nil && !strings.HasSuffix(string(b), "end\n") {
				err = fmt.Errorf("it was cut: %q", b)
			}
			if err != nil {
				err = fmt.Errorf("the request under way at %s: %w", name, err)
			}
			u.results <- err
		}()
	}
	return u
}

// end lets the requests come to their end and judges it.
func (u *underWay) end(t testing.TB) {
	t.Helper()
	for _, name := range u.names {
		u.k.mustAsk(name, "/end")
	}
	for range u.names {
		if err := <-u.results; err != nil {
			t.Error(err)
		}
	}
}

func (k *tekton) mustServe(host string) {
	k.t.Helper()
	if _, err := k.served(host, "/"); err != nil {
		k.t.Errorf("%s is not served: %v", host, err)
	}
}
