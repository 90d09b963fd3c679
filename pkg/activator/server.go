package activator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"tekton.host/pkg/resource"
)

const (
	// heldFor is how long a request waits for a machine that starts.
	heldFor = 30 * time.Second
	// maxHeld requests of a gate wait at once; others are told to come again.
	maxHeld = 100
	// stateRetry after a state that could not be written.
	stateRetry = time.Second
)

// server is the process's world.
type server struct {
	dir   string
	proxy *httputil.ReverseProxy
	pool  *http.Transport

	mu    sync.Mutex
	gates map[string]*gate
	table string // digest of what the gates are of
	// restored are the sleepers of the process before, until the first table.
	restored map[string]sleep
	// changed asks for the state to be written.
	changed chan struct{}
}

func newServer(dir string) *server {
	s := &server{dir: dir, gates: map[string]*gate{}, changed: make(chan struct{}, 1)}
	s.pool = &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}
	s.proxy = &httputil.ReverseProxy{
		Transport: s.pool, ErrorLog: log.New(io.Discard, "", 0), FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", targetOf(r.In.Context()).addr.String()
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came
			// The proxy in front has set these; by default they would be dropped.
			for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
				if v, found := r.In.Header[h]; found {
					r.Out.Header[h] = v
				}
			}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) { unavailable(w, targetOf(r.Context()).label) },
	}
	return s
}

// target is where a request goes.
type target struct {
	addr  netip.AddrPort
	label string
}

type targetKey struct{}

func targetOf(ctx context.Context) target {
	t, _ := ctx.Value(targetKey{}).(target)
	return t
}

// ServeHTTP lets a request through, or has it wait until its gate opens.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, port, ok := parseHeader(r.Header.Get(resource.GateHeader))
	if !ok || !local(r) {
		http.Error(w, "this is tekton's own, behind its proxy", http.StatusForbidden)
		return
	}
	r.Header.Del(resource.GateHeader)
	s.mu.Lock()
	g := s.gates[name]
	if g == nil {
		s.mu.Unlock()
		unavailable(w, name)
		return
	}
	if g.check(r, port) {
		asleep, addr, label := g.asleep != nil, g.Value.Backend, g.Value.Label
		s.mu.Unlock()
		switch {
		case asleep:
			sleeping(w)
		case addr.IsValid():
			s.forward(w, r, target{netip.AddrPortFrom(addr, uint16(port)), label})
		default:
			unavailable(w, label)
		}
		return
	}
	if g.begin() {
		s.arm(g)
		s.tell()
	}
	crowded := g.open > maxHeld
	s.mu.Unlock()
	defer s.end(g)
	s.serve(w, r, g, port, crowded)
}

// parseHeader reads NAME:PORT.
func parseHeader(v string) (name string, port int, ok bool) {
	name, text, _ := strings.Cut(v, ":")
	port, err := strconv.Atoi(text)
	return name, port, err == nil && name != "" && port > 0 && port < 1<<16
}

// local reports whether a request comes from the host itself: from the address
// that it came to, which no machine has.
func local(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	to, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return err == nil && ok && from.Addr().Unmap() == to.AddrPort().Addr().Unmap()
}

// serve forwards a request that is counted, now or when there is a machine. What
// came to a crowd does not wait; who waits does so whatever changes.
func (s *server) serve(w http.ResponseWriter, r *http.Request, g *gate, port int, crowded bool) {
	deadline := time.NewTimer(heldFor)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		addr, changed := g.Value.Backend, g.changed
		label, gone := g.Value.Label, g.gone
		s.mu.Unlock()
		switch {
		case gone:
			unavailable(w, label)
			return
		case addr.IsValid():
			s.forward(w, r, target{netip.AddrPortFrom(addr, uint16(port)), label})
			return
		case wantsPage(r):
			waking(w, label)
			return
		case crowded:
			unavailable(w, label)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-deadline.C:
			unavailable(w, label)
			return
		}
	}
}

func (s *server) forward(w http.ResponseWriter, r *http.Request, t target) {
	s.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, t)))
}

func (s *server) end(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.end(time.Now())
}

// arm has a gate looked at when it may fall asleep. It is called with the lock.
func (s *server) arm(g *gate) {
	if g.timer != nil {
		g.timer.Stop()
	}
	d, never := g.sleepsIn(time.Now())
	if never {
		return
	}
	g.timer = time.AfterFunc(max(d, 0), func() { s.due(g) })
}

// due puts a gate to sleep, if it may, or comes again.
func (s *server) due(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gates[g.Name] != g {
		return // gone meanwhile
	}
	now := time.Now()
	if d, never := g.sleepsIn(now); !never && d <= 0 {
		g.fallAsleep(now)
		s.tell()
	}
	s.arm(g)
}

// adopt goes by a table from now on.
func (s *server) adopt(t table, sum string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, there := time.Now(), map[string]bool{}
	for _, e := range t.Gates {
		there[e.Name] = true
		e.Value.MovedAt = time.Time{} // of no matter here
		g := s.gates[e.Name]
		if g == nil || g.Owner != e.Owner {
			s.drop(g)
			g = &gate{entry: e, quiet: now, changed: make(chan struct{})}
			if was, slept := s.restored[e.Name]; slept && was.Owner == e.Owner {
				g.asleep = &was
			}
			s.gates[e.Name] = g
		}
		g.change(e, now)
		s.arm(g)
	}
	for name, g := range s.gates {
		if !there[name] {
			s.drop(g)
			delete(s.gates, name)
		}
	}
	s.table, s.restored = sum, nil
	s.pool.CloseIdleConnections() // machines that have gone do not say so
	s.tell()
}

// drop lets go of a gate, and of those who wait there.
func (s *server) drop(g *gate) {
	if g == nil {
		return
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	g.gone = true
	close(g.changed)
}

// tell asks for the state to be written.
func (s *server) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// write brings the state to disk whenever it has changed, until ctx ends.
func (s *server) write(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			if err := s.save(); err != nil {
				log.Printf("write who is asleep: %v", err)
			}
			return
		case <-s.changed:
		case <-again:
		}
		again = nil
		if err := s.save(); err != nil {
			log.Printf("write who is asleep: %v; trying again", err)
			again = time.After(stateRetry)
		}
	}
}

func (s *server) save() error {
	b, err := json.Marshal(s.snapshot())
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(s.dir, stateDir, stateFile), b, 0o600, renameio.WithTempDir(filepath.Join(s.dir, stateDir)))
}

func (s *server) snapshot() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := state{Version: version, Table: s.table, Asleep: map[string]sleep{}}
	for name, g := range s.gates {
		if g.asleep != nil {
			out.Asleep[name] = *g.asleep
		}
	}
	return out
}

// load takes up the table of the file.
func (s *server) load() (table, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, tableFile))
	if err != nil {
		return table{}, err
	}
	t, err := decodeTable(b)
	if err != nil {
		return table{}, err
	}
	s.adopt(t, digest(b))
	return t, nil
}

// restore remembers who slept when the process before ended. What cannot be
// read is forgotten: who slept is awake then, and falls asleep again.
func (s *server) restore() {
	was, err := readState(s.dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "who was asleep is forgotten:", err)
	}
	s.restored = was.Asleep
}
