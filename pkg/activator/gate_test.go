package activator

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tekton.host/pkg/resource"
)

var machine = netip.MustParseAddr("127.0.0.1")

// sleepy is the entry of a gate that may sleep after a minute.
func sleepy(backend netip.Addr) entry {
	return entry{Name: "web", Owner: "uid-1", Value: resource.Gate{
		Label: "Preview/web", Backend: backend, SleepAfter: resource.Duration(time.Minute), HealthPath: "/health", HealthPort: 3000,
	}}
}

// ask sends a request through the server, as the proxy on the same host would.
func ask(s *server, change func(*http.Request)) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, asked(change))
	return w
}

func (s *server) adoptAll(es ...entry) {
	s.adopt(table{Gates: es}, fmt.Sprint(es))
}

func (s *server) sleeps() bool {
	_, asleep := s.snapshot().Asleep["web"]
	return asleep
}

// bubble runs f with a clock that stands still until everybody waits. No timer
// of the server may outlive it.
func bubble(t *testing.T, f func(t *testing.T, s *server)) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t.TempDir())
		f(t, s)
		s.adoptAll()
		time.Sleep(time.Hour) // requests under way come to their end
	})
}

func TestFallsAsleep(t *testing.T) {
	none := netip.Addr{}
	for name, c := range map[string]struct {
		live  func(s *server)
		after time.Duration
		want  bool
	}{
		"nobody asks":              {func(s *server) { s.adoptAll(sleepy(machine)) }, time.Minute, true},
		"not yet":                  {func(s *server) { s.adoptAll(sleepy(machine)) }, time.Minute - 1, false},
		"no machine":               {func(s *server) { s.adoptAll(sleepy(none)) }, time.Hour, false},
		"since there is a machine": {func(s *server) { s.adoptAll(sleepy(none)); time.Sleep(time.Hour); s.adoptAll(sleepy(machine)) }, time.Minute - 1, false},
		"work is under way":        {func(s *server) { e := sleepy(machine); e.Value.SleepAfter = 0; s.adoptAll(e) }, time.Hour, false},
		"another machine": {func(s *server) {
			s.adoptAll(sleepy(machine))
			time.Sleep(50 * time.Second)
			s.adoptAll(sleepy(machine.Next()))
		}, 59 * time.Second, false},
		"the same table once more": {func(s *server) {
			s.adoptAll(sleepy(machine))
			time.Sleep(50 * time.Second)
			s.adoptAll(sleepy(machine))
		}, 10 * time.Second, true},
		"a request under way":     {func(s *server) { s.adoptAll(sleepy(machine)); go s.request(2 * time.Hour) }, time.Hour, false},
		"after a request":         {func(s *server) { s.adoptAll(sleepy(machine)); s.request(50 * time.Second) }, time.Minute, true},
		"shortly after a request": {func(s *server) { s.adoptAll(sleepy(machine)); s.request(50 * time.Second) }, time.Minute - 1, false},
		"somebody of the same name": {func(s *server) {
			s.adoptAll(sleepy(machine))
			time.Sleep(time.Hour)
			e := sleepy(machine)
			e.Owner = "uid-2"
			s.adoptAll(e)
		}, time.Second, false},
		"slept before the process": {func(s *server) {
			s.restored = map[string]sleep{"web": {Owner: "uid-1"}}
			s.adoptAll(sleepy(none))
		}, 0, true},
		"a namesake slept before": {func(s *server) {
			s.restored = map[string]sleep{"web": {Owner: "uid-0"}}
			s.adoptAll(sleepy(none))
		}, 0, false},
		"a restart was asked for": {func(s *server) {
			s.adoptAll(sleepy(machine))
			time.Sleep(time.Hour)
			e := sleepy(none)
			e.Value.Generation = 1
			s.adoptAll(e)
		}, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *server) {
				c.live(s)
				time.Sleep(c.after)
				synctest.Wait()
				if got := s.sleeps(); got != c.want {
					t.Errorf("after %s it is asleep: %v, want %v", c.after, got, c.want)
				}
			})
		})
	}
}

// request is one that takes so long.
func (s *server) request(d time.Duration) {
	s.mu.Lock()
	g := s.gates["web"]
	g.begin()
	s.mu.Unlock()
	time.Sleep(d)
	s.end(g)
}

func asked(change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://web.example.org/", nil)
	r.RemoteAddr = "10.99.0.1:40000"
	r.Header.Set(resource.GateHeader, "web:3000")
	r = r.WithContext(localAddr(r.Context(), "10.99.0.1:7850"))
	if change != nil {
		change(r)
	}
	return r
}

func browser(r *http.Request) { r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8") }

func to(method, path string) func(*http.Request) {
	return func(r *http.Request) { r.Method, r.URL.Path = method, path }
}

func agent(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("User-Agent", name) }
}

// TestWhoWakes: what only looks is answered and wakes nobody; everybody else
// does, and a person gets a page that loads again.
func TestWhoWakes(t *testing.T) {
	for name, c := range map[string]struct {
		ask   func(*http.Request)
		wakes bool
		code  int
	}{
		"browser":                     {browser, true, http.StatusServiceUnavailable},
		"browser at the probe's path": {func(r *http.Request) { browser(r); r.URL.Path = "/health" }, true, http.StatusServiceUnavailable},
		"HEAD":                        {to(http.MethodHead, "/"), false, http.StatusOK},
		"the probe's path":            {to(http.MethodGet, "/health"), false, http.StatusOK},
		"a monitor":                   {agent("Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)"), false, http.StatusOK},
		"kubelet":                     {agent("kube-probe/1.31"), false, http.StatusOK},
		"a machine of ours":           {func(r *http.Request) { r.RemoteAddr = "10.99.0.3:40000" }, false, http.StatusForbidden},
		"not by the proxy":            {func(r *http.Request) { r.Header.Del(resource.GateHeader) }, false, http.StatusForbidden},
		"another gate":                {func(r *http.Request) { r.Header.Set(resource.GateHeader, "db:3000") }, false, http.StatusServiceUnavailable},
		"a program":                   {nil, true, http.StatusServiceUnavailable},
		"POST to the probe's path":    {to(http.MethodPost, "/health"), true, http.StatusServiceUnavailable},
		"OPTIONS before a request":    {to(http.MethodOptions, "/"), true, http.StatusServiceUnavailable},
		"websocket": {func(r *http.Request) {
			browser(r)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
		},
			true, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *server) {
				s.restored = map[string]sleep{"web": {Owner: "uid-1"}}
				s.adoptAll(sleepy(netip.Addr{}))
				began := time.Now()
				w := ask(s, c.ask)
				if w.Code != c.code || s.sleeps() == c.wakes {
					t.Errorf("answered %d %s, asleep %v; want %d, %v", w.Code, w.Body, s.sleeps(), c.code, !c.wakes)
				}
				held := c.wakes && !wantsPage(asked(c.ask))
				if took := time.Since(began); held != (took == heldFor) {
					t.Errorf("answered after %s", took)
				}
				if c.code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
					t.Error("it is not said when to come again")
				}
			})
		})
	}
}

// TestHeld: those who wait are let go at once when their gate goes, or when they
// give up; more than so many do not wait, whatever changes about the gate.
func TestHeld(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		s.adoptAll(sleepy(netip.Addr{}))
		const many = maxHeld + 10
		answers := make(chan int, many)
		for range many {
			go func() { answers <- ask(s, nil).Code }()
		}
		synctest.Wait()
		go s.request(time.Second) // one more that is under way
		synctest.Wait()
		e := sleepy(netip.Addr{})
		e.Value.SleepAfter = 0
		s.adoptAll(e)
		synctest.Wait()
		if n := len(answers); n != many-maxHeld {
			t.Errorf("%d of %d were sent away", n, many)
		}
		s.adoptAll()
		synctest.Wait()
		if n := len(answers); n != many {
			t.Errorf("%d of %d are answered after the gate has gone", n, many)
		}
	})
}
