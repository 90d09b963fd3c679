package ingress

import (
	"errors"
	"net/netip"
	"testing"

	"tekton.host/pkg/resource"
)

func TestCheckRoute(t *testing.T) {
	ok := resource.Route{Host: "web.example.org", Path: "/", Backend: netip.MustParseAddrPort("10.0.0.3:80")}
	if err := checkRoute(ok); err != nil {
		t.Errorf("%+v: %v", ok, err)
	}
	for _, host := range []string{"", ".", "a..b", "-a.b", "a-.b", "A.b", "a_b", "a b", "*", "*.", "*a.b", "a.*.b", "*.*.b", "a,b", "a{$X}", "a\nb", "a/b", "a:80", "http://a", `a"b`, "é.org"} {
		v := ok
		v.Host = host
		refused(t, v)
	}
	wildcard := ok
	wildcard.Host = "*.example.org"
	if err := checkRoute(wildcard); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"", "api", "/a//b", "/../b", "/a/.", "/a b", "/a\nb", "/{$HOME}", "/{http.request.host}", "/a}", "/a*", "/a?b", "/a#b", "/a%20", `/a"`, "/a`", `/a\`, "/a[b]", "/é"} {
		v := ok
		v.Path = path
		refused(t, v)
	}
	for _, path := range []string{"/a.b-c_d~e!f$g&h'i(j)k+l,m;n=o:p@q", "/a/b/", "/$HOME"} {
		v := ok
		v.Path = path
		if err := checkRoute(v); err != nil {
			t.Errorf("path %q: %v", path, err)
		}
	}
	v := ok
	v.Backend = netip.AddrPort{}
	refused(t, v)
}

func refused(t *testing.T, v resource.Route) {
	t.Helper()
	if got := resource.Reason(checkRoute(v), ""); got != reasonRefused {
		t.Errorf("host %q path %q backend %s: reason %q, want %q", v.Host, v.Path, v.Backend, got, reasonRefused)
	}
}

func TestCovers(t *testing.T) {
	c := resource.Certificate{Hosts: []string{"a.example.org", "*.b.example.org"}}
	for host, want := range map[string]bool{
		"a.example.org": true, "x.b.example.org": true,
		"b.example.org": false, "x.y.b.example.org": false, "xa.example.org": false,
	} {
		if got := covers(c, host); got != want {
			t.Errorf("covers(%s) = %v, want %v", host, got, want)
		}
	}
}

func TestTLSConflicts(t *testing.T) {
	g := &generation{Routes: map[string]entry{}}
	for name, mode := range map[string]resource.TLSMode{"h/": resource.TLSOff, "h/a": resource.TLSInternal, "h/b": resource.TLSOff, "i/": resource.TLSInternal} {
		g.Routes[name] = entry{Name: name, Route: resource.Route{Host: name[:1], TLS: mode, Label: "Container/" + name[:1]}}
	}
	for _, tc := range []struct {
		reason string
		fresh  []string
		want   []string
	}{
		{"the accepted one stays", []string{"h/a"}, []string{"h/a"}},
		{"the accepted one stays though it sorts later", []string{"h/", "h/b"}, []string{"h/", "h/b"}},
		{"all new: the first by name", []string{"h/", "h/a", "h/b"}, []string{"h/a"}},
	} {
		got := g.tlsConflicts(tc.fresh)
		if tc.reason == "the accepted one stays" {
			// h/ and h/b are accepted and agree
			if len(got) != 1 || resource.Reason(got["h/a"], "") != reasonTLSConflict {
				t.Errorf("%s: %v", tc.reason, got)
			}
			if _, again := errors.AsType[*resource.WaitingError](got["h/a"]); !again {
				t.Errorf("it would stay refused when the other one goes: %v", got["h/a"])
			}
			continue
		}
		for _, name := range tc.want {
			if resource.Reason(got[name], "") != reasonTLSConflict {
				t.Errorf("%s: %s is not refused: %v", tc.reason, name, got)
			}
		}
		if len(got) != len(tc.want) {
			t.Errorf("%s: refused %v, want %v", tc.reason, got, tc.want)
		}
	}
}
