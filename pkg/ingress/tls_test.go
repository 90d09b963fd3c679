package ingress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

// newCertificate writes a pair that is its own authority.
func newCertificate(t testing.TB, dir, name string, hosts ...string) (resource.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := resource.Certificate{Hosts: hosts, Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	pool := x509.NewCertPool()
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(certPEM)
	write(t, c.Cert, string(certPEM))
	write(t, c.Key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	if err := os.Chmod(c.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, pool
}

func (r *rig) setCertificates(cs ...resource.Certificate) {
	v := r.proxy.Value.(resource.Proxy)
	v.Certificates = cs
	r.proxy = resource.New(resource.HostOwner, "", "caddy", v)
}

func secureURL(hostPath string) string {
	hostname, path, _ := strings.Cut(hostPath, "/")
	return fmt.Sprintf("https://%s:%d/%s", hostname, httpsPort, path)
}

func wantSecure(t testing.TB, pool *x509.CertPool, hostPath, prefix string) {
	t.Helper()
	if a := ask(t, client(pool), secureURL(hostPath)); a.status != 200 || !strings.HasPrefix(a.body, prefix) {
		t.Errorf("https %s: %d %q, want 200 %q", hostPath, a.status, a.body, prefix)
	}
}

func TestTLSInternal(t *testing.T) {
	r := newRig(t)
	safe := route("safe.example.org", "/", backend(t, "safe"), secured(resource.TLSInternal))
	r.must(put(r.proxy), put(safe), put(route("plain.example.org", "/", backend(t, "plain"))))
	root, err := os.ReadFile(filepath.Join(r.d.storage(), "pki/authorities/local/root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	wantSecure(t, pool, "safe.example.org/x", "safe /x host=safe.example.org:8443 proto=https")
	a := wantStatus(t, "safe.example.org/x?y=1", 308)
	if got, want := a.header.Get("Location"), "https://safe.example.org:8443/x?y=1"; got != want {
		t.Errorf("redirect to %q, want %q", got, want)
	}
	wantBody(t, "plain.example.org/", "plain /")
	if a := ask(t, client(pool), secureURL("unknown.example.org/")); a.status != 404 || !strings.Contains(a.body, "Nothing is served") {
		t.Errorf("an unknown host below our domain: %+v", a)
	}
	if resp, err := client(pool).Get(secureURL("unknown.example.net/")); err == nil {
		resp.Body.Close()
		t.Error("a certificate was made for a foreign name")
	}
	if todo := r.pending(r.proxy, safe, route("plain.example.org", "/", nobody(t))); len(todo) != 1 {
		t.Errorf("pending: %v, want only the route that differs", todo)
	}
}

func TestTLSFiles(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	wild, pool := newCertificate(t, dir, "wild", "*.example.org", "example.org")
	r.setCertificates(wild)
	safe := route("safe.example.org", "/", backend(t, "safe"), secured(resource.TLSFiles))
	other := route("safe.example.net", "/", backend(t, "net"), secured(resource.TLSFiles))
	if d := cmp.Diff([]string{"", "", reasonNoCertificate}, r.apply(put(r.proxy), put(safe), put(other))); d != "" {
		t.Errorf("reasons (-want +got):\n%s", d)
	}
	wantSecure(t, pool, "safe.example.org/", "safe /")
	if a := ask(t, client(pool), secureURL("unknown.example.org/")); a.status != 404 {
		t.Errorf("an unknown host below the wildcard: %+v", a)
	}

	// Renewed in place: seen without a change of any spec.
	if todo := r.pending(r.proxy, safe); todo != nil {
		t.Errorf("not converged: %v", todo)
	}
	_, renewed := newCertificate(t, dir, "wild", wild.Hosts...)
	if d := cmp.Diff([]string{"put proxy/caddy"}, r.pending(r.proxy, safe)); d != "" {
		t.Errorf("after renewal (-want +got):\n%s", d)
	}
	r.must(put(r.proxy))
	wantSecure(t, renewed, "safe.example.org/", "safe /")

	// Renewed badly, or gone: the good copy stays, over a restart too, and the proxy says why.
	write(t, wild.Cert, "no certificate")
	if d := cmp.Diff([]string{reasonNoCertificate}, r.apply(put(r.proxy))); d != "" {
		t.Errorf("a bad file (-want +got):\n%s", d)
	}
	os.Remove(wild.Key)
	r.kill()
	if d := cmp.Diff([]string{reasonNoCertificate}, r.apply(put(r.proxy))); d != "" {
		t.Errorf("a missing file (-want +got):\n%s", d)
	}
	wantSecure(t, renewed, "safe.example.org/", "safe /")
	copies, err := os.ReadDir(r.d.certificates())
	if err != nil || len(copies) != 2 {
		t.Errorf("copies: %v %v, want one pair", copies, err)
	}
}

// TestRefused: what Caddy cannot load stays out with its own error while all
// others are served, also after Caddy was killed.
func TestRefused(t *testing.T) {
	r := newRig(t)
	bad, _ := newCertificate(t, t.TempDir(), "bad", "*.bad.example.org")
	r.setCertificates(bad)
	web := route("web.example.org", "/", backend(t, "web"))
	r.must(put(r.proxy), put(web))
	for _, c := range r.d.cached.Certificates {
		if err := os.Chmod(c.Key, 0o600); err != nil { // Caddy's user cannot read it
			t.Fatal(err)
		}
	}
	good := []resource.Resource{route("a.example.org", "/", backend(t, "a")), route("z.example.org", "/", backend(t, "z"))}
	refused := []resource.Resource{
		route("x.bad.example.org", "/", backend(t, "x"), secured(resource.TLSFiles)),
		route("y.bad.example.org", "/", backend(t, "y"), secured(resource.TLSFiles)),
	}
	check := func(when string) {
		t.Helper()
		wantBody(t, "web.example.org/", "web /")
		wantBody(t, "a.example.org/", "a /")
		wantBody(t, "z.example.org/", "z /")
		if d := cmp.Diff([]string{"put route/x.bad.example.org/", "put route/y.bad.example.org/"}, r.pending(append(append(good, refused...), r.proxy, web)...)); d != "" {
			t.Errorf("%s: pending (-want +got):\n%s", when, d)
		}
	}
	steps := []resource.Step{put(good[0]), put(refused[0]), put(refused[1]), put(good[1])}
	if d := cmp.Diff([]string{"", reasonRefused, reasonRefused, ""}, r.apply(steps...)); d != "" {
		t.Errorf("reasons (-want +got):\n%s", d)
	}
	check("after the refusal")
	r.kill()
	r.must(put(r.proxy))
	check("after a restart of Caddy")

	// A changed route that is refused keeps its last good value.
	moved := route("web.example.org", "/", backend(t, "moved"))
	changed := route("a.example.org", "/", backend(t, "a"), secured(resource.TLSFiles))
	if d := cmp.Diff([]string{"", reasonNoCertificate}, r.apply(put(moved), put(changed))); d != "" {
		t.Errorf("reasons (-want +got):\n%s", d)
	}
	wantBody(t, "web.example.org/", "moved /")
	wantBody(t, "a.example.org/", "a /")
}

// TestBreaksLater: a route that was accepted and is refused when Caddy starts
// again is left out; it does not keep Caddy from starting.
func TestBreaksLater(t *testing.T) {
	r := newRig(t)
	c, pool := newCertificate(t, t.TempDir(), "c", "*.safe.example.org")
	r.setCertificates(c)
	web, safe := route("web.example.org", "/", backend(t, "web")), route("x.safe.example.org", "/", backend(t, "x"), secured(resource.TLSFiles))
	r.must(put(r.proxy), put(web), put(safe))
	wantSecure(t, pool, "x.safe.example.org/", "x /")
	if err := os.Chmod(r.d.cached.Certificates[0].Key, 0o600); err != nil {
		t.Fatal(err)
	}
	r.kill()
	if d := cmp.Diff([]string{"", "", reasonRefused}, r.apply(put(r.proxy), put(web), put(safe))); d != "" {
		t.Errorf("reasons (-want +got):\n%s", d)
	}
	wantBody(t, "web.example.org/", "web /")
	if d := cmp.Diff([]string{"put route/x.safe.example.org/"}, r.pending(r.proxy, web, safe)); d != "" {
		t.Errorf("pending (-want +got):\n%s", d)
	}
}
