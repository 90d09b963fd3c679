package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

// What looks like ours and is not stays as it is through a whole life of ours.
func TestForeignLookAlikes(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	prio := b.naming.RulePriority()
	for _, argv := range []string{
		"ip link add tkx type bridge", "ip link add tkt7x type bridge", "ip link add tkt99 type bridge", "ip link set tkx up",
		"ip address add 172.20.0.1/24 dev tkx", "ip route add 172.21.0.0/24 via 172.20.0.2",
		"ip rule add pref " + itoa(prio) + " from 172.20.0.0/24 lookup 100 protocol 116",
		"ip rule add pref " + itoa(prio-1) + " from 172.20.0.9 lookup main protocol 116",
		"ip route add blackhole 172.22.0.0/24 table 100 proto 116",
		"nft add table inet tekton_x; add set inet tekton_x bound { type ipv4_addr; elements = { 10.87.0.3 }; }; add chain inet tekton_x c { type filter hook input priority 0; }",
		"nft add table ip tekton_t; add chain ip tekton_t to_host",
	} {
		if rest, ok := strings.CutPrefix(argv, "nft "); ok {
			run(t, "nft", rest)
			continue
		}
		run(t, strings.Fields(argv)...)
	}
	t.Cleanup(func() {
		run(t, "nft", "flush", "ruleset")
		for _, name := range []string{"tkx", "tkt7x", "tkt99"} {
			run(t, "ip", "link", "del", name)
		}
		run(t, "ip", "rule", "del", "pref", itoa(prio))
		run(t, "ip", "rule", "del", "pref", itoa(prio-1))
		run(t, "ip", "route", "flush", "table", "100")
	})
	before := hostState(t)
	if found := b.observe(); len(found) != 0 {
		t.Errorf("observed %v as ours", sortedIDs(found))
	}
	everything := append(b.standard(), b.endpoint(1, nil), b.endpoint(2, nil), b.exception(1, 2, 80), b.link(1), b.link(2), b.attachment(1, newMachine(t)))
	b.put(everything...)
	b.put(everything...)
	slices.Reverse(everything)
	b.delete(everything...)
	if diff := cmp.Diff(before, hostState(t)); diff != "" {
		t.Errorf("foreign things differ (-before +after):\n%s", diff)
	}
}

// What stands in our way is named and left alone, and others go on.
func TestConflicts(t *testing.T) {
	cases := map[string]struct {
		make   string
		undo   string
		put    func(b bed) resource.Resource
		reason string
		says   string
	}{
		"a link of our name without mark": {
			"ip link add tkt3 type bridge", "ip link del tkt3",
			func(b bed) resource.Resource { return b.link(3) }, "InterfaceConflict", "interface tkt3 exists and has no mark of tekton",
		},
		"a link of another installation": {
			"ip link add tkt3 type bridge && ip link set tkt3 alias tekton/ffffffffffff/u", "ip link del tkt3",
			func(b bed) resource.Resource { return b.link(3) }, "InterfaceConflict", "has the mark of installation ffffffffffff",
		},
		"a peer of our name": {
			"ip link add tkt3p type bridge", "ip link del tkt3p",
			func(b bed) resource.Resource { return b.link(3) }, "InterfaceConflict", "interface tkt3p exists",
		},
		"an address in our subnet": {
			"ip address add 10.87.5.1/24 dev lo", "ip address del 10.87.5.1/24 dev lo",
			func(b bed) resource.Resource { return b.standard()[1] }, "SubnetConflict", "overlaps the address 10.87.5.1/24 of lo",
		},
		"our service address, not from us": {
			"ip address add 10.87.0.1/32 dev lo", "ip address del 10.87.0.1/32 dev lo",
			func(b bed) resource.Resource { return b.standard()[1] }, "SubnetConflict", "overlaps the address 10.87.0.1/32 of lo",
		},
		"a route into a part of our subnet": {
			"ip route add 10.87.3.0/24 dev lo table 77", "ip route flush table 77",
			func(b bed) resource.Resource { return b.standard()[3] }, "SubnetConflict", "overlaps the route to 10.87.3.0/24 through lo",
		},
		"a table of our name without mark": {
			"nft add table inet tekton_t", "nft delete table inet tekton_t",
			func(b bed) resource.Resource { return b.standard()[2] }, "InstallationConflict", "nft table inet tekton_t exists and has no mark of tekton",
		},
		"an endpoint in a foreign table": {
			"nft add table inet tekton_t", "nft delete table inet tekton_t",
			func(b bed) resource.Resource { return b.endpoint(1, nil) }, "InstallationConflict", "it is left alone",
		},
		"a port on loopback": {
			"true", "true",
			func(b bed) resource.Resource {
				return b.endpoint(1, func(e *resource.Endpoint) {
					e.Publish = []resource.Publish{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 80, Port: 80, Protocol: "tcp"}}
				})
			}, "LoopbackPublished", "cannot be published on 127.0.0.1",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, "t", "10.87.0.0/16")
			run(t, "sh", "-c", c.make)
			before := hostState(t)
			r := c.put(b)
			err := b.Apply(context.Background(), steps(resource.Put, r))[0]
			// Whoever moves a foreign thing away tells nobody: only what is wrong in a spec is final.
			_, terminal := errors.AsType[*resource.TerminalError](err)
			if resource.Reason(err, "") != c.reason || terminal != (c.reason == "LoopbackPublished") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("put %s: %v (reason %s), want a %s that says %q", r.ID, err, resource.Reason(err, ""), c.reason, c.says)
			}
			if diff := cmp.Diff(before, hostState(t)); diff != "" {
				t.Errorf("the host differs (-before +after):\n%s", diff)
			}
			if _, there := b.observe()[r.ID]; there {
				t.Errorf("%s is observed as ours", r.ID)
			}
			if err := b.Clash(); c.make != "true" && (resource.Reason(err, "") != c.reason || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("before anything is put: %v", err)
			}
			run(t, "sh", "-c", c.undo)
			if err := b.Clash(); err != nil {
				t.Errorf("after it is gone: %v", err)
			}
		})
	}
}

func TestTwoInstances(t *testing.T) {
	one, two := newBed(t, "one", "10.87.0.0/16"), newBed(t, "two", "10.88.0.0/16")
	two.installation = "ffffffffffff"
	one.put(append(one.standard(), one.endpoint(1, nil), one.link(1))...)
	two.put(append(two.standard(), two.endpoint(1, nil), two.link(1))...)
	one.expect(append(one.standard(), one.endpoint(1, nil), one.link(1))...)
	two.expect(append(two.standard(), two.endpoint(1, nil), two.link(1))...)
	if err := errors.Join(one.Clash(), two.Clash()); err != nil {
		t.Errorf("two that live side by side: %v", err)
	}

	clash := newBed(t, "thr", "10.88.128.0/17")
	err := clash.Apply(context.Background(), steps(resource.Put, clash.standard()[3]))[0]
	if resource.Reason(err, "") != "SubnetConflict" {
		t.Errorf("a third daemon in the subnet of the second: %v", err)
	}
	same := newBed(t, "two", "10.88.0.0/16")
	same.installation = "eeeeeeeeeeee"
	err = same.Apply(context.Background(), steps(resource.Put, same.standard()[2]))[0]
	if resource.Reason(err, "") != "InstallationConflict" || !strings.Contains(err.Error(), "ffffffffffff") {
		t.Errorf("another installation with the same instance: %v", err)
	}
}

// One step that cannot be done does not harm the others of its batch.
func TestBatchIndependence(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	b.put(b.standard()...)
	publish := func(e *resource.Endpoint) {
		e.Publish = []resource.Publish{{HostIP: netip.IPv4Unspecified(), HostPort: 80, Port: 80, Protocol: "tcp"}}
	}
	good, rival, bad := b.endpoint(1, publish), b.endpoint(2, publish), b.endpoint(3, nil)
	v := bad.Value.(resource.Endpoint)
	v.Addr = b.naming.Addr(9)
	bad.Value = v
	errs := b.Apply(context.Background(), steps(resource.Put, good, bad, b.endpoint(4, nil), rival))
	if errs[0] != nil && errs[3] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("errors %v, want them at 1 and at one of 0 and 3", errs)
	}
	b.expect(b.endpoint(4, nil))
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range b.Apply(canceled, steps(resource.Put, b.link(5), b.endpoint(5, nil))) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of the context: %v", err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	b.put(b.standard()...)
	var wg sync.WaitGroup
	for slot := 1; slot <= 8; slot++ {
		pid := newMachine(t)
		wg.Go(func() {
			for _, r := range []resource.Resource{b.endpoint(slot, nil), b.link(slot), b.attachment(slot, pid)} {
				if err := b.Apply(context.Background(), steps(resource.Put, r))[0]; err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for kind, d := range b.Observe(context.Background()) {
				if d.Err != nil {
					t.Errorf("observe %s: %v", kind, d.Err)
				}
			}
		})
	}
	wg.Wait()
	for slot := 1; slot <= 8; slot++ {
		b.expect(b.endpoint(slot, nil), b.link(slot), b.attachment(slot, 1))
	}
}

// Each sort of change is told of; nothing is told without one.
func TestWatch(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	b.put(b.standard()...)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	ended := make(chan error)
	go func() {
		ended <- b.Watch(ctx, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	// Nobody says when the sockets are ready: change something until it is told.
	for i := 0; ; i++ {
		run(t, "ip", "route", "replace", "blackhole", fmt.Sprintf("172.30.%d.0/24", i%2))
		select {
		case <-told:
		case <-time.After(50 * time.Millisecond):
			continue
		}
		break
	}
	for _, change := range []string{
		"ip route del blackhole 172.30.0.0/24", "ip address add 172.30.0.1/32 dev lo", "ip address del 172.30.0.1/32 dev lo",
		"ip rule add pref 9 lookup main", "ip rule del pref 9", "ip link add tkw type bridge", "ip link del tkw",
		"nft add element inet tekton_t internet { 10.87.0.9 }", "nft flush set inet tekton_t internet", "nft flush ruleset",
	} {
		quiet(told)
		run(t, strings.Fields(change)...)
		select {
		case <-told:
		case <-time.After(dialOpen):
			t.Fatalf("%s was not told of", change)
		}
	}
	run(t, "sh", "-c", "ip route flush type blackhole table main || true")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watch ended with %v", err)
	}
}

// quiet waits until the events of earlier changes are over.
func quiet(told chan struct{}) {
	for {
		select {
		case <-told:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// What we load can be loaded from what nft lists, and reads as it was written.
func TestTableReadsWell(t *testing.T) {
	b := newBed(t, "t", "10.87.0.0/16")
	b.put(b.standard()...)
	b.put(b.endpoint(1, func(e *resource.Endpoint) {
		e.Allow = []resource.PeerRule{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Port: 443, Protocol: "tcp"}}
		e.Publish = []resource.Publish{{HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Protocol: "tcp"}}
	}), b.exception(1, 2, 80))
	listing := run(t, "nft", "list", "table", "inet", "tekton_t")
	for _, want := range []string{
		`comment "tekton/0123456789ab/host"`,
		`elements = { "tkt1" . 10.87.0.3 comment "tekton/0123456789ab/` + owner(1) + ` web-1" }`,
		`elements = { 10.87.0.3 . 10.1.0.0/16 . tcp . 443 }`,
		`elements = { tcp . 8080 : 10.87.0.3 . 80 }`,
		`elements = { 10.87.0.3 . 10.87.0.5 . tcp . 80 comment "tekton/0123456789ab/` + owner(1) + `" }`,
		`iifgroup @ours iifname . ip saddr != @bound drop`,
	} {
		if !strings.Contains(listing, want) {
			t.Errorf("nft list lacks %q:\n%s", want, listing)
		}
	}
	// A reload keeps every element of ours.
	run(t, "nft", `add element inet tekton_t bound { "; drop" . 10.87.0.9 comment "a } b" }`)
	table := b.standard()[2]
	v := table.Value.(resource.Table)
	v.IngressPorts = []int{8000}
	table.Value = v
	b.put(table)
	b.expect(table)
	for _, line := range strings.Split(listing, "\n") {
		if strings.Contains(line, "web-1") || strings.Contains(line, "8080") {
			if now := run(t, "nft", "list", "table", "inet", "tekton_t"); !strings.Contains(now, strings.TrimSpace(line)) || strings.Contains(now, "a } b") {
				t.Errorf("the reload lost %q or kept a foreign element:\n%s", line, now)
			}
		}
	}
}
