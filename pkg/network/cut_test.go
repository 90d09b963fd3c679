package network

import (
	"net/netip"
	"testing"

	"tekton.host/pkg/resource"
)

// TestCutsOnlyWhatIsTakenAway: the kernel's table of connections, which may be
// large, is read only for a change that takes a way away.
func TestCutsOnlyWhatIsTakenAway(t *testing.T) {
	full := resource.Endpoint{
		Link: "tkt1", Addr: testNaming.Addr(1), Egress: resource.EgressInternet, Database: true,
		Allow:   []resource.PeerRule{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}},
		Publish: []resource.Publish{{HostIP: netip.IPv4Unspecified(), HostPort: 80, Port: 8080, Protocol: "tcp"}},
	}
	less := func(change func(*resource.Endpoint)) resource.Endpoint {
		e := full
		change(&e)
		return e
	}
	none, all := []element(nil), endpointElements(full, "note")
	for name, tc := range map[string]struct {
		have, want []element
		empty      bool
	}{
		"new":           {none, all, true},
		"never there":   {none, none, true},
		"as it was":     {all, all, true},
		"another note":  {all, endpointElements(full, "another"), true},
		"everywhere":    {all, endpointElements(less(func(e *resource.Endpoint) { e.Egress = resource.EgressAll }), "note"), true},
		"gone":          {all, none, false},
		"no internet":   {all, endpointElements(less(func(e *resource.Endpoint) { e.Egress = resource.EgressNone }), "note"), false},
		"no database":   {all, endpointElements(less(func(e *resource.Endpoint) { e.Database = false }), "note"), false},
		"not allowed":   {all, endpointElements(less(func(e *resource.Endpoint) { e.Allow = nil }), "note"), false},
		"not published": {all, endpointElements(less(func(e *resource.Endpoint) { e.Publish = nil }), "note"), false},
		"published beside": {all, endpointElements(less(func(e *resource.Endpoint) {
			e.Publish = []resource.Publish{{HostIP: netip.IPv4Unspecified(), HostPort: 80, Port: 9090, Protocol: "tcp"}}
		}), "note"), false},
	} {
		if got := newCut([]pending{{change: difference(tc.have, tc.want)}}).empty(); got != tc.empty {
			t.Errorf("%s: nothing to cut: %v, want %v", name, got, tc.empty)
		}
	}
}
