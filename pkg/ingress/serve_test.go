package ingress

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

// TestWildcard: a route for all names of a domain gets what no other route asks
// for, over HTTP and TLS, also where the domain is that of our own 404.
func TestWildcard(t *testing.T) {
	r := newRig(t)
	r.must(put(r.proxy),
		put(route("*.example.org", "/", backend(t, "any"), secured(resource.TLSInternal))),
		put(route("one.example.org", "/", backend(t, "one"), secured(resource.TLSInternal))),
		put(route("*.plain.test", "/app", backend(t, "plain"))),
		put(route("one.plain.test", "/", backend(t, "single"))),
	)
	root, err := os.ReadFile(filepath.Join(r.d.storage(), "pki/authorities/local/root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	wantSecure(t, pool, "x.example.org/", "any /")
	wantSecure(t, pool, "one.example.org/", "one /")
	wantBody(t, "two.plain.test/app/x", "plain /app/x")
	wantBody(t, "one.plain.test/app", "single /app")
	wantStatus(t, "two.plain.test/", 404)
	wantStatus(t, "a.b.plain.test/app", 404) // one label, not two
	if a := wantStatus(t, "x.example.org/y", 308); a.header.Get("Location") != "https://x.example.org:8443/y" {
		t.Errorf("redirect to %q", a.header.Get("Location"))
	}
	star := route("*.example.org", "/", backend(t, "any"), secured(resource.TLSInternal))
	r.must(del(star))
	if a := ask(t, client(pool), secureURL("x.example.org/")); a.status != 404 {
		t.Errorf("without its route: %+v, want our 404", a)
	}
	wantSecure(t, pool, "one.example.org/", "one /")
}

func TestMatching(t *testing.T) {
	r := newRig(t)
	const h = "web.example.org"
	r.must(put(r.proxy),
		put(route(h, "/", backend(t, "root"))),
		put(route(h, "/api", backend(t, "api"))),
		put(route(h, "/api/v2", backend(t, "v2"))),
		put(route(h, "/api", backend(t, "exact"), exact)),
		put(route(h, "/strip", backend(t, "strip"), strip)),
		put(route(h, "/a.b+(c)", backend(t, "special"))),
		put(route("part.example.org", "/only", backend(t, "only"))),
		put(route("exact.example.org", "/", backend(t, "one"), exact)),
	)
	for hostPath, want := range map[string]string{
		h + "/":                     "root / host=web.example.org:8080 proto=http",
		h + "/apix":                 "root /apix ",
		h + "/API":                  "root /API ",
		h + "/axb+(c)":              "root /axb+(c) ",
		h + "/api":                  "exact /api ",
		h + "/api/":                 "api /api/ ",
		h + "/api/x":                "api /api/x ",
		h + "/api/v2":               "v2 /api/v2 ",
		h + "/api/v2/x":             "v2 /api/v2/x ",
		h + "/api/v20":              "api /api/v20 ",
		h + "/strip":                "strip / ",
		h + "/strip/":               "strip / ",
		h + "/strip/x/y":            "strip /x/y ",
		h + "/a.b+(c)/d":            "special /a.b+(c)/d ",
		h + "/%61pi/x":              "api /api/x ",
		"part.example.org/only/x":   "only /only/x ",
		"exact.example.org/":        "one / ",
		"PART.example.org/only?q=1": "only /only ",
	} {
		wantBody(t, hostPath, want)
	}
	for _, hostPath := range []string{"part.example.org/", "part.example.org/onlyx", "exact.example.org/x"} {
		wantStatus(t, hostPath, 404)
	}
}

func TestPages(t *testing.T) {
	r := newRig(t)
	r.must(put(r.proxy), put(route("web.example.org", "/", backend(t, "web"))),
		put(route("dead.example.org", "/", nobody(t))), put(route("dead.example.org", "/x", nobody(t), func(v *resource.Route) { v.Label = `Agent/<b>{http.request.host}"` })),
		put(route("own.example.org", "/", serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "the application's own page")
		})))))
	for hostPath, text := range map[string]string{"dead.example.org/": "Container/dead does not answer", "dead.example.org/x": "Agent/_b__http.request.host__ does not answer"} {
		a := wantStatus(t, hostPath, 503)
		if !strings.Contains(a.body, text) || a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %q %v", hostPath, a.body, a.header)
		}
	}
	if a := wantStatus(t, "own.example.org/", 503); a.body != "the application's own page" {
		t.Errorf("an application's own 503: %q", a.body)
	}
	for _, hostPath := range []string{"unknown.example.org/", "unknown.example.net/x", "127.0.0.1/"} {
		a := wantStatus(t, hostPath, 404)
		if !strings.Contains(a.body, "Nothing is served at this address") || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %q %v", hostPath, a.body, a.header)
		}
	}
}

// TestHostile: no value gets anything into Caddy but itself.
func TestHostile(t *testing.T) {
	r := newRig(t)
	web := route("web.example.org", "/", backend(t, "web"))
	r.must(put(r.proxy), put(web))
	evil := []string{
		"/x\n}\nhttp://evil.example.org {\nrespond evil\n}\n#", "/{$HOME}", "/{env.HOME}", "/{http.request.host}", "/a`b", `/a"b`, `/a\`,
		"/x} {", "/x {", "/*", "/[a-z]", "/.*\x00", "/\u2028", "/x\r\ny",
	}
	var steps []resource.Step
	for _, s := range evil {
		steps = append(steps, put(route("a.example.org", s, nobody(t))), put(route("b.example.org"+s, "/", nobody(t))))
	}
	for i, reason := range r.apply(steps...) {
		if reason != reasonRefused {
			t.Errorf("%s: %q, want %s", steps[i], reason, reasonRefused)
		}
	}
	labels := route("label.example.org", "/", backend(t, "label"), func(v *resource.Route) {
		v.Label = "x\n}\nhttp://evil.example.org {\nrespond evil\n}\n# {$HOME} {env.HOME}"
	})
	labels.Owner = "uid\nhttp://evil.example.org {\nrespond evil\n}\n#"
	harmless := route("web.example.org", "/$HOME/!&'(),;=:@", backend(t, "harmless"))
	r.must(put(labels), put(harmless))
	wantStatus(t, "evil.example.org/", 404)
	wantBody(t, "label.example.org/", "label /")
	wantBody(t, "web.example.org/$HOME/!&'(),;=:@/x", "harmless /$HOME/!&'(),;=:@/x")
	wantBody(t, "web.example.org/", "web /")
	if todo := r.pending(r.proxy, web, labels, harmless); todo != nil {
		t.Errorf("not converged: %v", todo)
	}
}

// counter counts the requests to the admin API.
type counter struct {
	http.RoundTripper
	mu sync.Mutex
	n  map[string]int
}

func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.n[req.Method+" "+req.URL.Path]++
	c.mu.Unlock()
	return c.RoundTripper.RoundTrip(req)
}

// count returns a function that returns what was asked since its last call.
func (r *rig) count() func() map[string]int {
	c := &counter{RoundTripper: r.d.admin.client.Transport, n: map[string]int{}}
	r.d.admin.client.Transport = c
	return func() map[string]int {
		c.mu.Lock()
		defer c.mu.Unlock()
		defer clear(c.n)
		return maps.Clone(c.n)
	}
}

func TestOneLoad(t *testing.T) {
	r := newRig(t)
	web := backend(t, "web")
	r.must(put(r.proxy))
	asked := r.count()
	var steps []resource.Step
	desired := []resource.Resource{r.proxy}
	for i := range 50 {
		desired = append(desired, route(fmt.Sprintf("w%d.example.org", i), "/", web))
		steps = append(steps, put(desired[i+1]))
	}
	r.must(steps...)
	if got := asked()["POST /load"]; got != 1 {
		t.Errorf("50 routes took %d loads, want 1", got)
	}
	for i := range 50 {
		wantBody(t, fmt.Sprintf("w%d.example.org/", i), "web /")
	}
	r.must(steps...)
	if got := asked(); got["POST /load"] != 0 || got["POST /adapt"] != 0 {
		t.Errorf("unchanged routes: %v", got)
	}
	for range 3 {
		r.d.seen.at = time.Time{} // as on a resync
		if todo := r.pending(desired...); todo != nil {
			t.Fatalf("not converged: %v", todo)
		}
	}
	if d := cmp.Diff(map[string]int{"GET /config/": 3}, asked()); d != "" {
		t.Errorf("three converged resyncs ask (-want +got):\n%s", d)
	}
	if todo := r.pending(desired...); todo != nil || len(asked()) != 0 {
		t.Errorf("between resyncs: pending %v, asked %v", todo, asked())
	}
	numbers, err := r.d.store.list()
	if err != nil || len(numbers) > keepGenerations {
		t.Errorf("generations kept: %v %v", numbers, err)
	}
	for i := range steps {
		steps[i] = del(steps[i].Resource)
	}
	r.must(steps...)
	if got := asked()["POST /load"]; got != 1 {
		t.Errorf("deleting 50 routes took %d loads, want 1", got)
	}
}

// TestStreams: a response in flight goes on over a change of routes, and a
// websocket does so where Caddy can.
func TestStreams(t *testing.T) {
	r := newRig(t)
	next := make(chan string, 2)
	defer close(next)
	stream := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for s := range next {
			io.WriteString(w, s)
			w.(http.Flusher).Flush()
		}
	}))
	upgraded := serve(t, http.HandlerFunc(echo))
	r.must(put(r.proxy), put(route("stream.example.org", "/", stream)), put(route("socket.example.org", "/", upgraded)))

	next <- "before\n"
	resp, err := client(nil).Get(fmt.Sprintf("http://stream.example.org:%d/", httpPort))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if s, err := lines.ReadString('\n'); s != "before\n" {
		t.Fatalf("%q %v", s, err)
	}
	socket := dialSocket(t, "socket.example.org")
	if err := socket.roundTrip("before"); err != nil {
		t.Fatal(err)
	}

	r.must(put(route("other.example.org", "/", backend(t, "other"))))
	wantBody(t, "other.example.org/", "other /")
	next <- "after\n"
	if s, err := lines.ReadString('\n'); s != "after\n" {
		t.Errorf("the stream ended at the change: %q %v", s, err)
	}
	err = socket.roundTrip("after")
	if kept := atLeast(r.d.cached.Caddy, 2, 7); kept != (err == nil) {
		t.Errorf("Caddy %s: websocket after the change: %v; kept by this version: %v", r.d.cached.Caddy, err, kept)
	}
}

// echo answers each line of an upgraded connection.
func echo(w http.ResponseWriter, req *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", req.Header.Get("Upgrade"))
	rw.Flush()
	for {
		s, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		rw.WriteString(s)
		rw.Flush()
	}
}

type socket struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialSocket(t testing.TB, hostname string) socket {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", httpPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", hostname)
	s := socket{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v %v", resp, err)
	}
	return s
}

func (s socket) roundTrip(text string) error {
	if _, err := fmt.Fprintln(s.conn, text); err != nil {
		return err
	}
	got, err := s.r.ReadString('\n')
	if err == nil && got != text+"\n" {
		return errors.New("got " + got)
	}
	return err
}

func TestTLSModesOfOneHost(t *testing.T) {
	r := newRig(t)
	const h = "web.example.org"
	web := backend(t, "web")
	plain, mixed := route(h, "/", web), route(h, "/api", web, secured(resource.TLSInternal))
	got := r.apply(put(r.proxy), put(plain), put(mixed))
	if d := cmp.Diff([]string{"", "", reasonTLSConflict}, got); d != "" {
		t.Errorf("mixed modes (-want +got):\n%s", d)
	}
	wantBody(t, h+"/api", "web /api")
	both := []resource.Resource{route(h, "/", web, secured(resource.TLSInternal)), mixed}
	if d := cmp.Diff([]string{"", ""}, r.apply(put(both[0]), put(both[1]))); d != "" {
		t.Errorf("both at once (-want +got):\n%s", d)
	}
	if todo := r.pending(append(both, r.proxy)...); todo != nil {
		t.Errorf("not converged: %v", todo)
	}
	off := r.proxy.Value.(resource.Proxy)
	off.HTTPSPort = 0
	if d := cmp.Diff([]string{"", reasonTLSOff}, r.apply(put(resource.New(resource.HostOwner, "", "caddy", off)), put(mixed))); d != "" {
		t.Errorf("without an HTTPS port (-want +got):\n%s", d)
	}
	if routes := r.observed(resource.KindRoute); len(routes) != 0 {
		t.Errorf("routes left: %v", slices.Collect(maps.Keys(routes)))
	}
}

func gated(v *resource.Route) { v.Gate, v.GatePort = "web", 3000 }

// TestGate: what goes through the activator names its gate, whatever the client
// says, in a Caddy of ours and in the host's own.
func TestGate(t *testing.T) {
	for name, newRig := range map[string]func(*testing.T) *rig{
		"ours":           func(t *testing.T) *rig { return newRig(t) },
		"the host's own": func(t *testing.T) *rig { return newOperator(t).rig },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			activator := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				fmt.Fprintf(w, "%q at %s", req.Header[resource.GateHeader], req.URL.Path)
			}))
			r.must(put(r.proxy))
			r.must(put(route("web.example.org", "/", activator, gated)), put(route("web.example.org", "/api", activator, gated, strip)))
			for path, want := range map[string]string{"/": `["web:3000"] at /`, "/api/x": `["web:3000"] at /x`} {
				req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", httpPort, path), nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "web.example.org"
				req.Header[resource.GateHeader] = []string{"other:22", "more:23"}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(body) != want {
					t.Errorf("%s: the activator is told %s (%v), want %s", path, body, err, want)
				}
			}
			want := []resource.Resource{r.proxy, route("web.example.org", "/", activator, gated), route("web.example.org", "/api", activator, gated, strip)}
			if left := r.pending(want...); len(left) != 0 {
				t.Errorf("it differs: %v", left)
			}
		})
	}
}
