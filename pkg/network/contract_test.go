package network

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// Every kind: put, observed equal, put again without any change, delete, gone.
func TestContract(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	before := hostState(t)
	full := func(e *resource.Endpoint) {
		e.Egress, e.Database = resource.EgressInternet, true
		e.Allow = []resource.PeerRule{
			{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Port: 443, Protocol: "tcp"},
			{Prefix: netip.MustParsePrefix("10.1.2.0/24"), Port: 443, Protocol: "tcp"},
			{Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		}
		e.Publish = []resource.Publish{
			{HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Protocol: "tcp"},
			{HostIP: netip.MustParseAddr("192.0.2.9"), HostPort: 5353, Port: 53, Protocol: "udp"},
		}
	}
	everything := append(b.standard(),
		b.endpoint(1, full),
		b.endpoint(2, func(e *resource.Endpoint) { e.Egress = resource.EgressAll }),
		b.endpoint(3, func(e *resource.Endpoint) { e.Egress = resource.EgressNone }),
		b.exception(1, 2, 80), b.link(1), b.link(2), b.attachment(1, newMachine(t)))
	for _, r := range everything {
		if _, there := b.observe()[r.ID]; there {
			t.Errorf("%s is observed before it was put", r.ID)
		}
		b.put(r)
		b.expect(r)
		b.quietly(func() { b.put(r) })
	}
	b.expect(everything...)
	if diff := cmp.Diff(sortedIDs(resource.NewSet(everything...)), sortedIDs(b.observe())); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	b.quietly(func() { b.put(everything...); b.observe() })

	// A new daemon finds the same without loading anything.
	again := newBed(t, "t", "10.87.0.0/16")
	again.quietly(func() { again.expect(everything[1:]...) })

	for i := len(everything) - 1; i >= 0; i-- {
		b.delete(everything[i])
		if got, there := b.observe()[everything[i].ID]; there {
			t.Errorf("%s is observed after its deletion: %+v", everything[i].ID, got)
		}
		b.delete(everything[i])
	}
	if diff := cmp.Diff(before, hostState(t)); diff != "" {
		t.Errorf("the host differs from before (-before +after):\n%s", diff)
	}
}

func TestSysctlKeepsTheFirstOriginal(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	recorded := map[string]string{}
	b.recordSysctl = func(k, v string) error { recorded[k] = v; return nil }
	forward := b.standard()[0]
	b.put(forward)
	b.put(forward)
	if diff := cmp.Diff(map[string]string{"net.ipv4.ip_forward": "0"}, recorded); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	// A daemon that knows the record from its ledger restores it.
	b.originals = func() map[string]string { return recorded }
	b.expect(forward)
	b.delete(forward)
	if got := strings.TrimSpace(run(t, "cat", "/proc/sys/net/ipv4/ip_forward")); got != "0" {
		t.Errorf("ip_forward is %s after the deletion, want 0", got)
	}

	b.recordSysctl = func(string, string) error { return errors.New("disk full") }
	recorded = map[string]string{}
	if err := b.Apply(context.Background(), steps(resource.Put, forward))[0]; err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("put without a durable record: %v", err)
	}
	if got := strings.TrimSpace(run(t, "cat", "/proc/sys/net/ipv4/ip_forward")); got != "0" {
		t.Errorf("ip_forward is %s although its original was not recorded", got)
	}
}

// Whatever somebody takes away or adds is seen, and a put repairs it in place.
func TestRepair(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	forward := b.standard()
	b.put(forward...)
	ep := b.endpoint(1, func(e *resource.Endpoint) {
		e.Allow = []resource.PeerRule{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}
		e.Publish = []resource.Publish{{HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Protocol: "tcp"}}
	})
	all := b.endpoint(2, func(e *resource.Endpoint) { e.Egress = resource.EgressAll })
	link, attached, exc := b.link(1), b.attachment(2, newMachine(t)), b.exception(1, 2, 80)
	b.put(ep, all, exc, link, b.link(2), attached)
	table, policy, address := forward[2], forward[3], forward[1]
	prio := b.naming.RulePriority()
	cases := []struct {
		do   string
		hurt resource.Resource
	}{
		{"nft delete element inet tekton_t bound { tkt1 . 10.87.0.3 }", ep},
		{"nft delete element inet tekton_t internet { 10.87.0.3 }", ep},
		{"nft flush set inet tekton_t allowed", ep},
		{"nft flush map inet tekton_t publish_any", ep},
		{"nft add element inet tekton_t everywhere { 10.87.0.3 }", ep},
		{"nft add element inet tekton_t database { 10.87.0.3 }", ep},
		{"ip rule del pref " + itoa(prio-1) + " from 10.87.0.3 to 10.1.0.0/16", ep},
		{"ip rule del pref " + itoa(prio-1) + " from 10.87.0.5 suppress_ifgroup " + itoa(b.group()) + " table main", all},
		{"nft flush set inet tekton_t links", exc},
		{"ip rule del pref " + itoa(prio-1) + " from 10.87.0.5 to 10.87.0.3", exc},
		{"nft flush chain inet tekton_t to_host", table},
		{"nft delete element inet tekton_t private { 10.0.0.0/8 }", table},
		{"nft insert rule inet tekton_t across accept", table},
		{"nft add chain inet tekton_t extra", table},
		{"nft flush set inet tekton_t about", table},
		{"nft delete table inet tekton_t", table},
		{"nft flush ruleset", table},
		{"ip rule del pref " + itoa(prio+1), policy},
		{"ip rule del pref " + itoa(prio), policy},
		{"ip route flush table " + itoa(b.naming.RoutingTable()), policy},
		{"ip route del blackhole 10.0.0.0/8 table " + itoa(b.naming.RoutingTable()), policy},
		{"ip route add blackhole 203.0.113.0/24 table " + itoa(b.naming.RoutingTable()), policy},
		{"ip address del 10.87.0.1/32 dev lo", address},
		{"ip address del 10.87.0.2/32 dev tkt1", link},
		{"ip address add 10.99.0.2/32 dev tkt1", link},
		{"ip link set tkt1 down", link},
		{"sysctl -w net.ipv4.conf.tkt1.rp_filter=0", link},
		{"sysctl -w net.ipv4.conf.tkt1.src_valid_mark=0", link},
		{"sysctl -w net.ipv4.conf.tkt1.route_localnet=1", link},
		{"sysctl -w net.ipv4.conf.tkt1.arp_ignore=0", link},
		{"sysctl -w net.ipv4.conf.tkt1.accept_redirects=1", link},
		{"sysctl -w net.ipv4.conf.tkt1.accept_source_route=1", link},
		{"sysctl -w net.ipv6.conf.tkt1.disable_ipv6=0", link},
		{"sysctl -w net.ipv6.conf.tkt1.accept_ra=1", link},
		{"ip link set tkt1 group 0", link},
		{"ip link set tkt1 alias tekton/0123456789ab/other", link},
		{"ip neigh del 10.87.0.3 dev tkt1", link},
		{"ip route del 10.87.0.3 dev tkt1", link},
		{"ip link set tkt1 address 02:00:00:00:00:01", link},
		{"ip link del tkt1", link},
	}
	for _, c := range cases {
		b.expect(ep, all, exc, link, attached)
		run(t, strings.Fields(c.do)...)
		b.differs(c.do, c.hurt)
		b.put(append(append([]resource.Resource{}, forward...), ep, all, exc, link, b.link(2), attached)...)
		b.expect(append(append([]resource.Resource{}, forward...), ep, all, exc, link, attached)...)
		if t.Failed() {
			t.Fatalf("after %s", c.do)
		}
	}
}

// What a daemon left when it died while it made or attached a link is ours,
// seen as broken, and made whole.
func TestLinkLeftHalfMade(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	b.put(b.standard()...)
	link := b.link(1)
	v := link.Value.(resource.Link)
	run(t, "ip", "link", "add", v.Name, "group", itoa(b.group()), "address", resource.MAC(v.HostAddr).String(), "type", "veth", "peer", "name", v.Peer, "address", resource.MAC(v.Addr).String())
	b.differs("a link without alias", link)
	b.put(link)
	b.expect(link)

	pid := newMachine(t)
	run(t, "ip", "link", "set", v.Peer, "netns", itoa(pid))
	b.differs("a peer that left without configuration", link)
	if _, there := b.observe()[b.attachment(1, pid).ID]; there {
		t.Error("a link whose peer is not configured is observed as attached")
	}
	b.put(b.attachment(1, pid))
	b.expect(link, b.attachment(1, pid))

	// In one's own namespace, without a process, or after its end there is nothing to attach to.
	b.put(b.link(2))
	for leader, want := range map[int]string{newProcess(t, 0): "in the host's network namespace", 0: "no first process yet", 1 << 22: "has ended"} {
		err := b.Apply(context.Background(), steps(resource.Put, b.attachment(2, leader)))[0]
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("attach to PID %d: %v, want %q", leader, err, want)
		}
		b.expect(b.link(2))
	}
}

// A machine that keeps its end down is not waited for: it would hold up all others.
func TestEndKeptDown(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	b.put(b.standard()...)
	pid := newMachine(t)
	b.put(b.link(1), b.attachment(1, pid))
	run(t, "nsenter", "-n", "-t", itoa(pid), "ip", "link", "set", insideName, "down")
	inside, err := netns.GetFromPid(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	h, err := netlink.NewHandleAt(inside, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := awaitWorking(ctx, h, b.naming.Link(1)); err != nil {
		t.Error(err)
	}
}

// A link of a machine that is gone is made anew for the next one.
func TestLinkChangesOwner(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	b.put(b.standard()...)
	b.put(b.link(1), b.attachment(1, newMachine(t)))
	next := b.link(1)
	next.Owner = owner(9)
	stale := b.Apply(context.Background(), steps(resource.Delete, next))[0]
	if !errors.Is(stale, resource.ErrStale) {
		t.Errorf("delete a link that belongs to another: %v, want ErrStale", stale)
	}
	b.put(next)
	b.expect(next)
	a := b.attachment(1, newMachine(t))
	a.Owner = owner(9)
	b.put(a)
	b.expect(next, a)
}
