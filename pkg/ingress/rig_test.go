package ingress

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/supervisetest"
)

// programEnv names another Caddy to test with; absent: the host's.
const programEnv = "TEKTON_TEST_CADDY"

const (
	httpPort  = 8080
	httpsPort = 8443
	testUser  = "nobody"
)

// rig is a Driver over a real Caddy, which ends with the test.
type rig struct {
	t       testing.TB
	d       *Driver
	manager *supervise.Manager
	opts    Options
	proxy   resource.Resource
}

func newRig(t testing.TB) *rig {
	t.Helper()
	program := os.Getenv(programEnv)
	if program == "" {
		program = "caddy"
	}
	testenv.Root(t, program)
	// Not t.TempDir: a socket's address is short, and Caddy's user has to get in.
	dir, err := os.MkdirTemp("", "tkin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	manager, err := supervise.New(supervise.Options{Form: supervise.Supervised, Program: supervisetest.Program(t)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, manager: manager}
	r.opts = Options{
		Layout:       host.Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")},
		Naming:       resource.Naming{Instance: strings.ToLower(rand.Text()[:4]), Subnet: netip.MustParsePrefix("10.99.0.0/16")},
		Installation: strings.ToLower(rand.Text()[:12]), Supervisor: manager, User: testUser, Caddy: program,
	}
	r.restartDaemon()
	r.proxy = resource.New(resource.HostOwner, "", "caddy", resource.Proxy{
		HTTPPort: httpPort, HTTPSPort: httpsPort, Domain: "example.org", GracePeriod: resource.Duration(time.Minute),
	})
	t.Cleanup(func() {
		r.manager.Stop(context.Background(), r.dir(), time.Second)
		r.manager.Close()
	})
	return r
}

// restartDaemon forgets all that a Driver holds in memory.
func (r *rig) restartDaemon() {
	d, err := New(r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.d = d
}

func (r *rig) dir() string { return r.opts.Layout.Service(serviceName) }

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

func put(res resource.Resource) resource.Step {
	return resource.Step{Verb: resource.Put, Resource: res}
}

func del(res resource.Resource) resource.Step {
	return resource.Step{Verb: resource.Delete, Resource: res, Seen: &res}
}

// apply runs steps and returns the reason of each error, "" for done.
func (r *rig) apply(steps ...resource.Step) []string {
	r.t.Helper()
	var reasons []string
	for i, err := range r.d.Apply(r.ctx(), steps) {
		reason := ""
		if err != nil {
			r.t.Logf("%s: %v", steps[i], err)
			reason = resource.Reason(err, "error")
		}
		reasons = append(reasons, reason)
	}
	return reasons
}

func (r *rig) must(steps ...resource.Step) {
	r.t.Helper()
	for i, reason := range r.apply(steps...) {
		if reason != "" {
			r.t.Fatalf("%s: %s", steps[i], reason)
		}
	}
}

// observed returns what is there of a kind, which must be known.
func (r *rig) observed(kind resource.Kind) resource.Set {
	r.t.Helper()
	d := r.d.Observe(r.ctx())[kind]
	if d.Err != nil {
		r.t.Fatalf("observe %s: %v", kind, d.Err)
	}
	return d.Items
}

// pending returns what a plan would still do for the given resources.
func (r *rig) pending(want ...resource.Resource) []string {
	r.t.Helper()
	var todo []string
	have := resource.Set{}
	for _, d := range r.d.Observe(r.ctx()) {
		if d.Err != nil {
			r.t.Fatalf("observe: %v", d.Err)
		}
		for id, res := range d.Items {
			have[id] = res
		}
	}
	for _, w := range want {
		if h, ok := have[w.ID]; !ok || !w.Equal(h) {
			todo = append(todo, "put "+w.ID.String())
		}
		delete(have, w.ID)
	}
	for _, h := range have.Sorted() {
		todo = append(todo, "delete "+h.ID.String())
	}
	return todo
}

func (r *rig) pid() int {
	r.t.Helper()
	s, _, err := r.manager.Status(r.dir())
	if err != nil || !s.Running {
		r.t.Fatalf("Caddy does not run: %+v %v", s, err)
	}
	return s.PID
}

type routeOption func(*resource.Route)

func exact(v *resource.Route) { v.Exact = true }
func strip(v *resource.Route) { v.StripPrefix = true }
func secured(mode resource.TLSMode) routeOption {
	return func(v *resource.Route) { v.TLS = mode }
}

func route(hostname, path string, backend netip.AddrPort, options ...routeOption) resource.Resource {
	v := resource.Route{Host: hostname, Path: path, TLS: resource.TLSOff, Backend: backend, Label: "Container/" + strings.Split(hostname, ".")[0]}
	for _, o := range options {
		o(&v)
	}
	return resource.New("uid-of-"+strings.Split(hostname, ".")[0], "", resource.RouteName(v.Host, v.Path, v.Exact), v)
}

// backend answers "NAME PATH".
func backend(t testing.TB, name string) netip.AddrPort {
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "%s %s host=%s proto=%s", name, req.URL.Path, req.Host, req.Header.Get("X-Forwarded-Proto"))
	}))
}

func serve(t testing.TB, h http.Handler) netip.AddrPort {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// nobody is an address where nothing listens.
func nobody(t testing.TB) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// client reaches every name at the proxy and does not follow redirects.
func client(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout:       20 * time.Second, // a hang is a failure, not a stuck run
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				_, port, _ := net.SplitHostPort(addr)
				var d net.Dialer
				return d.DialContext(ctx, "tcp", "127.0.0.1:"+port)
			},
		},
	}
}

type answer struct {
	status int
	body   string
	header http.Header
}

func ask(t testing.TB, c *http.Client, url string) answer {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, string(b), resp.Header}
}

// get asks the plain HTTP port.
func get(t testing.TB, hostPath string) answer {
	t.Helper()
	hostname, path, _ := strings.Cut(hostPath, "/")
	return ask(t, client(nil), fmt.Sprintf("http://%s:%d/%s", hostname, httpPort, path))
}

func wantBody(t testing.TB, hostPath, prefix string) {
	t.Helper()
	if a := get(t, hostPath); a.status != 200 || !strings.HasPrefix(a.body, prefix) {
		t.Errorf("%s: %d %q, want 200 %q", hostPath, a.status, a.body, prefix)
	}
}

func wantStatus(t testing.TB, hostPath string, status int) answer {
	t.Helper()
	a := get(t, hostPath)
	if a.status != status {
		t.Errorf("%s: %d %q, want %d", hostPath, a.status, a.body, status)
	}
	return a
}
