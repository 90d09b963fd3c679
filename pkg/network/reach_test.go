package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

const (
	// dialOpen bounds a connection that must come about, dialClosed one that must not.
	dialOpen   = 5 * time.Second
	dialClosed = 200 * time.Millisecond
)

// The addresses around the host: its network, a metadata service and a public
// address are all in one namespace.
const (
	hostLAN    = "192.168.50.1"
	hostPublic = "198.51.100.1"
	lanPeer    = "192.168.50.2"
	metadata   = "169.254.169.254"
	internet   = "203.0.113.7"
)

// town is a host with a network around it and machines in it.
type town struct {
	bed
	lan      int
	machines map[string]int // name → PID
	addrs    map[string]string
}

// newTown starts machines a (internet), n (none), e (everything private too),
// x (internet and an exception list, the database, and a link to a), each
// answering on ports 80 and 81; a publishes its port 80.
func newTown(t *testing.T) *town {
	w := &town{bed: newBed(t, "t", "10.87.0.0/16"), machines: map[string]int{}, addrs: map[string]string{}}
	w.lan = newMachine(t)
	pid := itoa(w.lan)
	for _, argv := range []string{
		"ip link add lan0 type veth peer name eth0 netns " + pid,
		"ip address add " + hostLAN + "/24 dev lan0", "ip link set lan0 up",
		"ip address add " + hostPublic + "/32 dev lan0",
		"nsenter -n -t " + pid + " ip link set lo up", "nsenter -n -t " + pid + " ip link set eth0 up",
		"nsenter -n -t " + pid + " ip address add " + lanPeer + "/24 dev eth0",
		"nsenter -n -t " + pid + " ip address add " + metadata + "/32 dev lo",
		"nsenter -n -t " + pid + " ip address add " + internet + "/32 dev lo",
		"nsenter -n -t " + pid + " ip route add " + hostPublic + " via " + hostLAN,
		"nsenter -n -t " + pid + " ip route add 10.87.0.0/16 via " + hostLAN,
		"ip route add " + metadata + " via " + lanPeer, "ip route add default via " + lanPeer,
	} {
		run(t, strings.Fields(argv)...)
	}
	t.Cleanup(func() { run(t, "ip", "link", "del", "lan0") })
	w.put(w.standard()...)
	publish := []resource.Publish{
		{HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr(hostLAN), HostPort: 8081, Port: 81, Protocol: "tcp"},
	}
	w.start(1, "a", func(e *resource.Endpoint) { e.Publish = publish })
	w.start(2, "n", func(e *resource.Endpoint) { e.Egress = resource.EgressNone })
	w.start(3, "e", func(e *resource.Endpoint) { e.Egress = resource.EgressAll })
	w.start(4, "x", func(e *resource.Endpoint) {
		e.Database = true
		e.Allow = []resource.PeerRule{
			{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, // never other machines
			{Prefix: netip.MustParsePrefix(lanPeer + "/32"), Port: 80, Protocol: "tcp"},
		}
	})
	w.put(w.exception(4, 1, 81))
	w.serve(0, "0.0.0.0", 22, 53, 80, 2019, 5432)
	w.serve(w.lan, "0.0.0.0", 80, 81)
	return w
}

func (w *town) start(slot int, name string, change func(*resource.Endpoint)) {
	pid := newMachine(w.t)
	w.put(w.endpoint(slot, change))
	w.put(w.link(slot))
	w.put(w.attachment(slot, pid))
	w.machines[name], w.addrs[name] = pid, w.naming.Addr(slot).String()
	w.serve(pid, "0.0.0.0", 80, 81)
}

// serve accepts connections in a namespace; 0 is the host's.
func (w *town) serve(pid int, ip string, ports ...int) {
	w.t.Helper()
	for _, port := range ports {
		err := w.in(pid, func() error {
			l, err := net.Listen("tcp4", net.JoinHostPort(ip, itoa(port)))
			if err != nil {
				return err
			}
			w.t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			}()
			return nil
		})
		if err != nil {
			w.t.Fatalf("serve port %d: %v", port, err)
		}
	}
}

func (w *town) in(pid int, f func() error) error {
	if pid == 0 {
		return f()
	}
	return within(w.t, pid, f)
}

func (w *town) pid(name string) int {
	switch name {
	case "host":
		return 0
	case "lan":
		return w.lan
	}
	return w.machines[name]
}

// dial reports whether a connection from a place to an address comes about. A
// refused one did reach its target.
func (w *town) dial(from, to string, wait time.Duration) bool {
	err := w.in(w.pid(from), func() error {
		c, err := net.DialTimeout("tcp4", to, wait)
		if err == nil {
			c.Close()
		}
		return err
	})
	return err == nil
}

// reach checks lines "FROM TARGET": the open ones and the closed ones.
func (w *town) reach(when string, open, closed []string) {
	w.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]bool{}
	want := map[string]bool{}
	for i, line := range append(append([]string{}, open...), closed...) {
		from, to, _ := strings.Cut(line, " ")
		host, port, _ := strings.Cut(to, ":")
		if a, ok := w.addrs[host]; ok {
			host = a
		}
		want[line] = i < len(open)
		wait := dialClosed
		if want[line] {
			wait = dialOpen
		}
		wg.Go(func() {
			ok := w.dial(from, net.JoinHostPort(host, port), wait)
			mu.Lock()
			defer mu.Unlock()
			got[line] = ok
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s: reachable (-want +got):\n%s", when, diff)
	}
}

const service = "10.87.0.1"

// always holds with and without the nft table.
var (
	alwaysOpen = []string{
		"host a:80", "host n:80", "host e:80", "host x:81", // probes and ingress
		"x a:81", // the declared link
		"x " + service + ":5432", "a " + service + ":53", "n " + service + ":53",
		"a " + internet + ":80", "x " + internet + ":80",
		"e " + lanPeer + ":80",
	}
	alwaysClosed = []string{
		"a " + lanPeer + ":80", "a " + metadata + ":80", "n " + lanPeer + ":80", "n " + metadata + ":80", "x " + metadata + ":80",
		"a n:80", "a x:80", "n a:80", "e a:80", "e n:81", "x n:80", "x a:80", "x e:81", "a x:81", "lan " + service + ":5433",
	}
)

func TestReachability(t *testing.T) {
	w := newTown(t)
	open := append([]string{
		"e " + metadata + ":80", "x " + lanPeer + ":80",
		"a " + service + ":80", "a " + hostLAN + ":80", "x " + hostPublic + ":80", "e " + hostLAN + ":80", // the ingress
		"lan " + hostLAN + ":8080", "lan " + hostPublic + ":8080", "lan " + hostLAN + ":8081", // published
		"host " + hostLAN + ":8080", "host " + hostPublic + ":8080", "host " + hostLAN + ":8081",
		"e " + hostLAN + ":8080", "e " + hostPublic + ":8080", "x " + hostPublic + ":8080", // published, where egress leads
		"a " + hostPublic + ":8080", // a machine's own published port
		"x " + hostLAN + ":8081",    // not its egress, but its declared link
		"lan " + hostLAN + ":22",
	}, alwaysOpen...)
	closed := append([]string{
		"n " + internet + ":80", "x " + lanPeer + ":81",
		"a " + hostLAN + ":22", "a " + hostPublic + ":22", "a " + service + ":22", "a " + service + ":5432", "a " + service + ":2019",
		"a " + hostLAN + ":5432", "a 10.87.0.2:22", "a 10.87.0.2:5432", "n " + service + ":80", "n " + hostLAN + ":80", "n " + service + ":5432",
		"e " + service + ":5432", "e " + hostLAN + ":22", "x " + hostLAN + ":5432",
		"x " + hostLAN + ":8080", "n " + hostPublic + ":8080", "e " + hostLAN + ":81",
		"lan a:80", "lan a:81", "lan n:80", "lan " + service + ":5432", "lan " + service + ":53", "lan " + hostLAN + ":8082", "host 127.0.0.1:8080",
	}, alwaysClosed...)
	w.reach("with the table", open, closed)

	run(t, "nft", "add table inet foreign; add chain inet foreign f { type filter hook forward priority 0; policy accept; }; add rule inet foreign f accept; "+
		"add chain inet foreign i { type filter hook input priority 0; policy accept; }; add rule inet foreign i accept")
	w.reach("with a foreign table that accepts all", open, closed)
	w.put(w.standard()...)
	w.reach("after the table was put again", alwaysOpen, alwaysClosed)

	run(t, "nft", "flush", "ruleset")
	// Without nft nothing is translated: the stand-in for the internet has a route back.
	w.reach("without nft", alwaysOpen, alwaysClosed)

	w.repair()
	w.reach("after the repair", open, closed)

	// What is taken away is closed at once.
	w.delete(w.exception(4, 1, 81))
	w.put(w.endpoint(1, nil), w.endpoint(3, func(e *resource.Endpoint) { e.Egress = resource.EgressNone }))
	w.reach("after taking away", []string{"a " + internet + ":80"}, []string{"x a:81", "lan " + hostLAN + ":8080", "e " + lanPeer + ":80", "e " + internet + ":80"})
}

// repair puts what the planner would put after a look.
func (w *town) repair() {
	w.t.Helper()
	w.put(w.standard()...)
	w.put(
		w.endpoint(1, func(e *resource.Endpoint) {
			e.Publish = []resource.Publish{
				{HostIP: netip.IPv4Unspecified(), HostPort: 8080, Port: 80, Protocol: "tcp"},
				{HostIP: netip.MustParseAddr(hostLAN), HostPort: 8081, Port: 81, Protocol: "tcp"},
			}
		}),
		w.endpoint(2, func(e *resource.Endpoint) { e.Egress = resource.EgressNone }),
		w.endpoint(3, func(e *resource.Endpoint) { e.Egress = resource.EgressAll }),
		w.endpoint(4, func(e *resource.Endpoint) {
			e.Database = true
			e.Allow = []resource.PeerRule{
				{Prefix: netip.MustParsePrefix("10.0.0.0/8")},
				{Prefix: netip.MustParsePrefix(lanPeer + "/32"), Port: 80, Protocol: "tcp"},
			}
		}), w.exception(4, 1, 81))
}

// A datagram with another machine's, or no machine's, source does not arrive:
// not at the host, not outside, with nft or without.
func TestForgedSource(t *testing.T) {
	w := newTown(t)
	host, lan := w.hear(0), w.hear(w.lan)
	check := func(when string) {
		t.Helper()
		for source, want := range map[string]bool{w.addrs["a"]: true, w.addrs["n"]: false, "203.0.113.99": false, hostLAN: false} {
			for to, heard := range map[string]chan string{service + ":53": host, internet + ":53": lan} {
				text := fmt.Sprintf("%s %s to %s", when, source, to)
				if err := w.forge("a", source, to, text); err != nil {
					// The sender's own kernel refuses to use an address of the host.
					t.Logf("%s: %v", text, err)
					continue
				}
				if got := arrives(heard, text, want); got != want {
					t.Errorf("%s: a datagram with source %s to %s arrived: %v, want %v", when, source, to, got, want)
				}
			}
		}
	}
	check("with the table")
	run(t, "nft", "flush", "ruleset")
	check("without nft")
}

// hear receives datagrams on port 53 of a namespace.
func (w *town) hear(pid int) chan string {
	heard := make(chan string, 64)
	err := w.in(pid, func() error {
		c, err := net.ListenPacket("udp4", "0.0.0.0:53")
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 512)
			for {
				n, _, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				heard <- string(buf[:n])
			}
		}()
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return heard
}

func (w *town) forge(from, source, to, text string) error {
	pid := itoa(w.machines[from])
	if source != w.addrs[from] {
		run(w.t, "nsenter", "-n", "-t", pid, "ip", "address", "add", source+"/32", "dev", "lo")
		defer run(w.t, "nsenter", "-n", "-t", pid, "ip", "address", "del", source+"/32", "dev", "lo")
	}
	return w.in(w.machines[from], func() error {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(source)}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(text))
		return err
	})
}

func arrives(heard chan string, text string, want bool) bool {
	wait := dialClosed
	if want {
		wait = dialOpen
	}
	for end := time.After(wait); ; {
		select {
		case got := <-heard:
			if got == text {
				return true
			}
		case <-end:
			return false
		}
	}
}

// The first packet after an attachment is not lost: no neighbour has to be asked for.
func TestFirstPacket(t *testing.T) {
	w := newTown(t)
	for slot := 10; slot < 15; slot++ {
		w.start(slot, "m", nil)
		if !w.dial("host", w.addrs["m"]+":80", 900*time.Millisecond) {
			t.Errorf("the first connection to %s was lost", w.addrs["m"])
		}
		if !w.dial("m", service+":53", 900*time.Millisecond) {
			t.Errorf("the first connection from %s was lost", w.addrs["m"])
		}
	}
	if out := run(t, "nsenter", "-n", "-t", itoa(w.machines["m"]), "ip", "-6", "-o", "address", "show", "dev", insideName); out != "" {
		t.Errorf("a machine has an IPv6 address:\n%s", out)
	}
	// Traffic, also that which fills the rate limit's set, is not a change.
	w.quietly(func() {
		if !w.dial("m", service+":53", dialOpen) {
			t.Error("the resolver's port is closed")
		}
		w.observe()
	})
}
