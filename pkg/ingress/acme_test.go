package ingress

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	authorityPort  = 14000
	managementPort = 15000
)

// names answers that every name is this host, but for those that begin with "lost".
func names(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if name := q.Question[0]; name.Qtype == dns.TypeA && !strings.HasPrefix(name.Name, "lost") {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)}}
		}
		w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{PacketConn: conn, Handler: answer}, {Listener: listener, Handler: answer}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return conn.LocalAddr().String()
}

// authority runs Pebble, which is Let's Encrypt's own for tests, and returns
// what a Host says of it and whom its certificates are trusted by.
func authority(t *testing.T) (resource.ACME, *x509.CertPool) {
	t.Helper()
	program := os.Getenv(pebbleEnv)
	if !filepath.IsAbs(program) {
		t.Fatalf("Pebble %s", program)
	}
	dir := t.TempDir()
	own, _ := newCertificate(t, dir, "authority", "localhost")
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", authorityPort), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", managementPort),
		"certificate": own.Cert, "privateKey": own.Key, "httpPort": httpPort, "tlsPort": httpsPort,
		"profiles": map[string]any{"default": map[string]any{"description": "90 days", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(config))
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) { // Caddy's user reads the roots
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-config", filepath.Join(dir, "config.json"), "-dnsserver", names(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	pool := x509.NewCertPool()
	roots, err := os.ReadFile(own.Cert)
	if err != nil || !pool.AppendCertsFromPEM(roots) {
		t.Fatalf("the authority's own certificate: %v", err)
	}
	management := client(pool)
	trusted := x509.NewCertPool()
	eventually(t, "the authority answers", func() error {
		resp, err := management.Get(fmt.Sprintf("https://localhost:%d/roots/0", managementPort))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		root, err := io.ReadAll(resp.Body)
		if err != nil || !trusted.AppendCertsFromPEM(root) {
			return fmt.Errorf("its root: %q %w", root, err)
		}
		return nil
	})
	return resource.ACME{Directory: fmt.Sprintf("https://localhost:%d/dir", authorityPort), Email: "admin@example.org", Roots: own.Cert}, trusted
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func (r *rig) certificate(res resource.Resource) resource.Served {
	r.t.Helper()
	return r.observed(resource.KindRoute)[res.ID].Value.(resource.Route).Certificate
}

// TestACME: certificates come from the authority that the Host names, stay over
// a restart, and what the authority refuses is told by name; other hosts have
// no part in it.
func TestACME(t *testing.T) {
	r := newRig(t)
	acme, trusted := authority(t)
	v := r.proxy.Value.(resource.Proxy)
	v.ACME = acme
	r.proxy = resource.New(resource.HostOwner, "", "caddy", v)
	web := route("web.example.org", "/", backend(t, "web"), secured(resource.TLSACME))
	lost := route("lost.example.org", "/", backend(t, "lost"), secured(resource.TLSACME))
	own := route("own.example.org", "/", backend(t, "own"), secured(resource.TLSInternal))
	plain := route("plain.example.org", "/", backend(t, "plain"))
	r.must(put(r.proxy), put(web), put(lost), put(own), put(plain))
	wantBody(t, "plain.example.org/", "plain /")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", strings.Join(supervise.TailLog(r.dir(), logLines), "\n"))
		}
	})
	eventually(t, "the certificate of web", func() error {
		if c := r.certificate(web); c.Missing || c.NotAfter.IsZero() {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	eventually(t, "web has the certificate that is in Caddy's storage", func() error {
		_, err := client(trusted).Get("https://web.example.org:8443/x")
		return err
	})
	wantSecure(t, trusted, "web.example.org/x", "web /x host=web.example.org:8443 proto=https")
	if days := time.Until(r.certificate(web).NotAfter).Hours() / 24; days < 80 || days > 91 {
		t.Errorf("the certificate of web is good for %.0f days", days)
	}
	if a := wantStatus(t, "web.example.org/y", 308); a.header.Get("Location") != "https://web.example.org:8443/y" {
		t.Errorf("redirect to %q", a.header.Get("Location"))
	}
	eventually(t, "the refusal of lost", func() error {
		if c := r.certificate(lost); !c.Missing || !strings.Contains(c.Message, "lost.example.org") {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	if c := r.certificate(own); c != (resource.Served{}) {
		t.Errorf("the authority of our own: %+v", c)
	}
	if todo := r.pending(r.proxy, web, lost, own, plain); todo != nil {
		t.Errorf("not converged: %v", todo)
	}
	// The certificate is kept: the authority need not be there.
	before := r.certificate(web)
	r.kill()
	r.restartDaemon()
	r.must(put(r.proxy))
	wantSecure(t, trusted, "web.example.org/", "web /")
	if after := r.certificate(web); after != before {
		t.Errorf("after a restart of Caddy: %+v, before %+v", after, before)
	}
}

// TestStorageIsNotFollowed: Caddy's user may write to its storage. What it
// plants there leads nobody out of it.
func TestStorageIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	outside, _ := newCertificate(t, dir, "outside", "web.example.org")
	host := filepath.Join(dir, "storage/certificates/ca/web.example.org")
	if err := os.MkdirAll(host, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(host, "web.example.org.crt")
	if err := os.Symlink(outside.Cert, link); err != nil {
		t.Fatal(err)
	}
	var i issued
	look := func() time.Time {
		in := &authorities{storage: filepath.Join(dir, "storage")}
		defer in.close()
		return i.look(in, "web.example.org")
	}
	if at := look(); !at.IsZero() {
		t.Errorf("a planted link was followed: %v", at)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(outside.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		write(t, link, content)
		if at := look(); !at.IsZero() {
			t.Errorf("%q is a certificate until %v", content, at)
		}
	}
	write(t, link, string(pem))
	if at := look(); time.Until(at) < 30*time.Minute {
		t.Errorf("a certificate of an hour is good until %v", at)
	}
}

// TestFilesExpire: the expiry of an operator's own files is known, too.
func TestFilesExpire(t *testing.T) {
	g := &generation{Proxy: resource.Proxy{HTTPSPort: 443}}
	c, _ := newCertificate(t, t.TempDir(), "wild", "*.example.org")
	g.Proxy.Certificates = []resource.Certificate{c}
	if err := g.importCertificates(t.TempDir(), 0); err != nil {
		t.Fatal(err)
	}
	d := &Driver{}
	v := resource.Route{Host: "web.example.org", TLS: resource.TLSFiles, Backend: netip.MustParseAddrPort("10.0.0.3:80")}
	if s := d.served(g, v, nil); time.Until(s.NotAfter) < 30*time.Minute || s.Missing {
		t.Errorf("a certificate of an hour: %+v", s)
	}
	g.Certificates[0].NotAfter = time.Time{}
	if g.Certificates[0].fresh() {
		t.Error("a copy whose expiry an older tekton did not note is not read again")
	}
}
