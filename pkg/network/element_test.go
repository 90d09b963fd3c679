package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tekton.host/pkg/resource"
)

func comparePrefix() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
}

var testNaming = resource.Naming{Instance: "t", Subnet: netip.MustParsePrefix("10.87.0.0/16")}

func TestElementText(t *testing.T) {
	e := resource.Endpoint{
		Link: "tkt1", Addr: testNaming.Addr(1), Egress: resource.EgressInternet, Database: true,
		Allow: []resource.PeerRule{
			{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Port: 443, Protocol: "tcp"},
			{Prefix: netip.MustParsePrefix("10.1.0.0/16")},
			{Prefix: netip.MustParsePrefix("10.1.2.3/32")},
		},
		Publish: []resource.Publish{
			{HostIP: netip.IPv4Unspecified(), HostPort: 53, Port: 5353, Protocol: "udp"},
			{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 8080, Port: 80, Protocol: "tcp"},
		},
	}
	var got []string
	for _, el := range endpointElements(e, "tekton/i/u web-1") {
		got = append(got, el.Set.name+": "+el.String())
	}
	want := []string{
		`bound: "tkt1" . 10.87.0.3 comment "tekton/i/u web-1"`,
		`internet: 10.87.0.3`,
		`database: 10.87.0.3`,
		`allowed_port: 10.87.0.3 . 10.0.0.0-10.255.255.255 . tcp . 443`,
		`allowed: 10.87.0.3 . 10.1.0.0-10.1.255.255`,
		`covered: 10.87.0.3 . 10.1.2.3 . 0.0.0.0 . 0 . 0`,
		`publish_any: udp . 53 : 10.87.0.3 . 5353`,
		`publish: 192.0.2.1 . tcp . 8080 : 10.87.0.3 . 80`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
}

// What an endpoint becomes in the kernel must be readable back, whatever it asks for.
func TestEndpointRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawEndpoint(t)
		elements := endpointElements(want, "note")
		seen := map[identity]bool{}
		for _, e := range elements {
			if seen[e.identity()] {
				t.Fatalf("element %s twice", e)
			}
			seen[e.identity()] = true
			if a, ok := e.owner(); !ok || a != want.Addr {
				t.Fatalf("element %s belongs to %s, not %s", e, a, want.Addr)
			}
		}
		got, note := endpointOf(want.Addr, elements)
		if diff := cmp.Diff(want, got, comparePrefix()); diff != "" || note != "note" {
			t.Fatalf("note %q, endpoint (-want +got):\n%s", note, diff)
		}
	})
}

func drawEndpoint(t *rapid.T) resource.Endpoint {
	slot := rapid.IntRange(1, 30000).Draw(t, "slot")
	e := resource.Endpoint{
		Link: testNaming.Link(slot), Addr: testNaming.Addr(slot), Database: rapid.Bool().Draw(t, "database"),
		Egress: rapid.SampledFrom([]resource.EgressMode{resource.EgressNone, resource.EgressInternet, resource.EgressAll}).Draw(t, "egress"),
	}
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{byte(rapid.IntRange(1, 3).Draw(t, "a")), byte(rapid.IntRange(0, 1).Draw(t, "b")), 0, rapid.Byte().Draw(t, "d")})
	})
	for range rapid.IntRange(0, 6).Draw(t, "allow") {
		a := resource.PeerRule{Prefix: netip.PrefixFrom(addr.Draw(t, "prefix"), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()}
		if rapid.Bool().Draw(t, "port") {
			a.Port, a.Protocol = rapid.IntRange(1, 2).Draw(t, "number"), rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "protocol")
		}
		e.Allow = append(e.Allow, a)
	}
	slices.SortFunc(e.Allow, ComparePeerRules)
	e.Allow = slices.Compact(e.Allow)
	ports := map[int]bool{}
	for range rapid.IntRange(0, 4).Draw(t, "publish") {
		p := resource.Publish{
			HostIP: netip.IPv4Unspecified(), HostPort: rapid.IntRange(1, 65535).Draw(t, "hostPort"),
			Port: rapid.IntRange(1, 65535).Draw(t, "port"), Protocol: rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "protocol"),
		}
		if rapid.Bool().Draw(t, "hostIP") {
			p.HostIP = addr.Draw(t, "ip")
		}
		if !ports[p.HostPort] {
			e.Publish = append(e.Publish, p)
		}
		ports[p.HostPort] = true
	}
	slices.SortFunc(e.Publish, ComparePublish)
	if len(e.Allow) == 0 {
		e.Allow = nil
	}
	return e
}

func TestSlotOfName(t *testing.T) {
	d := &Driver{naming: testNaming}
	for name, want := range map[string]int{"tkt1": 1, "tkt32000": 32000, "tk1": -1, "tkt": -1, "tktx": -1, "tkt01": -1, "tkt1p": -1, "eth0": -1} {
		got, ok := d.slot(name)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("slot(%q) = %d, want %d", name, got, want)
		}
	}
	for _, slot := range []int{1, 2, 128, 32000} {
		if got := d.linkName(testNaming.Addr(slot)); got != testNaming.Link(slot) {
			t.Errorf("linkName(%s) = %s, want %s", testNaming.Addr(slot), got, testNaming.Link(slot))
		}
	}
}
