package ingress

import (
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

var update = flag.Bool("update", false, "write the goldens")

func testGeneration() *generation {
	g := &generation{
		Version: manifestVersion, Installation: "0123456789ab", Caddy: "2.6.2",
		AdminSocket: "/run/tekton/caddy/admin.sock", Storage: "/var/lib/tekton/services/caddy/storage",
		ProxyName: "caddy", ProxyOwner: resource.HostOwner,
		Proxy: resource.Proxy{
			HTTPPort: 8080, HTTPSPort: 8443, Domain: "example.org", GracePeriod: resource.Duration(5 * time.Minute),
			ACME:         resource.ACME{Directory: "https://ca.example.org/directory", Email: "admin@example.org", Roots: "/etc/ca.pem"},
			Certificates: []resource.Certificate{{Hosts: []string{"*.example.net"}, Cert: "/etc/c.pem", Key: "/etc/k.pem"}},
		},
		Routes: map[string]entry{},
	}
	g.Certificates = []certificate{{Want: g.Proxy.Certificates[0], Cert: "/c/1.crt", Key: "/c/1.key", Names: []string{"*.example.net"}}}
	add := func(owner, host, path string, exact, strip bool, tls resource.TLSMode, backend, label string) {
		v := resource.Route{Host: host, Path: path, Exact: exact, StripPrefix: strip, TLS: tls, Backend: netip.MustParseAddrPort(backend), Label: label}
		name := resource.RouteName(host, path, exact)
		g.Routes[name] = entry{Name: name, Owner: owner, Route: v}
	}
	add("uid-1", "web.example.org", "/", false, false, resource.TLSOff, "10.0.0.3:80", "Container/web")
	add("uid-2", "web.example.org", "/api", false, true, resource.TLSOff, "10.0.0.5:8080", "Container/api")
	add("uid-2", "web.example.org", "/api/v2", false, false, resource.TLSOff, "10.0.0.5:8081", "Container/api")
	add("uid-3", "web.example.org", "/api", true, false, resource.TLSOff, "10.0.0.7:80", "Container/exact")
	add("uid-4", "plain.example.org", "/", false, false, resource.TLSOff, "10.0.0.9:80", "Container/plain")
	add("uid-5", "safe.example.org", "/only", false, false, resource.TLSInternal, "[fd00::1]:80", "Container/safe")
	add("uid-7", "public.example.org", "/", false, false, resource.TLSACME, "10.0.0.13:80", "Container/public")
	add("uid-8", "*.example.com", "/", false, false, resource.TLSInternal, "10.0.0.15:80", "Container/all")
	add("uid-9", "sleepy.example.org", "/", false, false, resource.TLSOff, "10.0.0.1:7850", "Preview/sleepy")
	sleepy := g.Routes["sleepy.example.org/"]
	sleepy.Route.Gate, sleepy.Route.GatePort = "sleepy", 3000
	g.Routes[sleepy.Name] = sleepy
	add("uid-6", "shop.example.net", "/", false, false, resource.TLSFiles, "10.0.0.11:80", "Container/shop")
	return g
}

func TestRender(t *testing.T) {
	for _, version := range []string{"2.6.2", "2.11.4"} {
		t.Run(version, func(t *testing.T) {
			g := testGeneration()
			g.Caddy = version
			files, err := g.files()
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, name := range slices.Sorted(maps.Keys(files)) {
				b.WriteString("--- " + name + "\n" + files[name])
			}
			golden(t, version+".golden", b.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s\nrun with -update when the new one is right", path, d)
	}
}

func TestMatchOrder(t *testing.T) {
	var got []string
	for _, e := range testGeneration().hosts()["web.example.org"] {
		got = append(got, e.Name)
	}
	want := []string{"web.example.org=/api", "web.example.org/api/v2", "web.example.org/api", "web.example.org/"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"2.6.2": false, "2.7.0": true, "2.11.4": true, "3.0.0": true, "1.9.9": false, "(devel)": true, "": false} {
		if got := atLeast(version, 2, 7); got != want {
			t.Errorf("atLeast(%q, 2, 7) = %v, want %v", version, got, want)
		}
	}
}
