package e2e_test

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// siege is a machine whose root attacks, and ears wherever it may be heard.
type siege struct {
	*tekton
	ears      *ears
	addr      map[string]string // of machines
	hostSide  map[string]string // the host's address on their links
	mac, gate net.HardwareAddr  // of the attacker's link: its own end and the host's
	lan       int               // PID in the neighbourhood
	sent      int               // tokens
	fired     []bullet
}

// shot is one packet, and who may hear it: while the table is there, and when
// somebody has flushed all of nft.
type shot struct {
	name          string
	frame         func(token string) []byte
	open, flushed string
}

type bullet struct {
	token, name, want string
}

// besiege has the machine "a" attack.
func (k *tekton) besiege(lan int, names ...string) *siege {
	s := &siege{tekton: k, ears: &ears{t: k.t, heard: map[string]map[string]bool{}}, addr: map[string]string{}, hostSide: map[string]string{}, lan: lan}
	s.ears.host()
	s.ears.place("lan", lan)
	for _, name := range names {
		s.addr[name] = k.get(name).Status.Address
		s.hostSide[name] = netip.MustParseAddr(s.addr[name]).Prev().String()
		if name != "a" {
			s.ears.place(name, k.leader(name))
		}
	}
	var err error
	fields := strings.Fields(mustRun(k.t, "ip", "neigh", "show", s.addr["a"]))
	s.mac, err = net.ParseMAC(fields[4]) // ADDRESS dev LINK lladdr MAC PERMANENT
	k.check(err)
	link, err := net.InterfaceByName(fields[2])
	k.check(err)
	s.gate = link.HardwareAddr
	return s
}

// token makes a new one; none is part of another.
func (s *siege) token() string {
	s.sent++
	return fmt.Sprintf("tk%d;", s.sent)
}

// fire has the attacker send all shots, and waits until what it sent afterwards
// to the internet, which is open, was heard there.
func (s *siege) fire(shots []shot, flushed bool) {
	s.t.Helper()
	var frames []string
	for _, x := range shots {
		b := bullet{s.token(), x.name, x.open}
		if flushed {
			b.want, b.name = x.flushed, x.name+", without nft"
		}
		s.fired = append(s.fired, b)
		frames = append(frames, hex.EncodeToString(x.frame(b.token)))
	}
	s.send(frames...)
	s.eventually("the internet hears the attacker", func() error {
		token := s.token()
		s.send(hex.EncodeToString(s.ip(ipv4(s.addr["a"], public, udp, datagram(uint16(1024+s.sent), 8080, token)))))
		if s.ears.where(token) == "" {
			return fmt.Errorf("%s was not heard yet", token)
		}
		return nil
	})
}

// send goes to the machine itself: the daemon may be dead.
func (s *siege) send(frames ...string) {
	s.t.Helper()
	for len(frames) > 0 {
		n := min(len(frames), 500)
		s.direct("/raw?frames=" + url.QueryEscape(strings.Join(frames[:n], " ")))
		frames = frames[n:]
	}
}

func (s *siege) direct(path string) string {
	s.t.Helper()
	var body string
	s.eventually("the attacker obeys", func() error {
		code, b, err := fetch("http://"+s.addr["a"]+":8080"+path, "")
		if err == nil && code != 200 {
			err = fmt.Errorf("%d %s", code, b)
		}
		body = b
		return err
	})
	return body
}

// judge compares what was heard of all that was fired with what may be heard.
func (s *siege) judge(when string) {
	s.t.Helper()
	for i, b := range s.fired {
		if b.want != "" {
			s.eventually(when+": "+b.name+" arrives", func() error {
				if got := s.ears.where(b.token); got != b.want {
					return fmt.Errorf("it is heard by %q, not by %q", got, b.want)
				}
				return nil
			})
		} else if got := s.ears.where(b.token); got != "" {
			s.t.Errorf("%s: %s is heard by %s", when, b.name, got)
			s.fired[i].want = got // said once
		}
	}
}

// ip is a frame from the attacker to the host.
func (s *siege) ip(packet []byte) []byte { return ether(s.gate, s.mac, etherIP, packet) }

// transports are the three ways to say a token to an address.
func (s *siege) transports(from, to string, port uint16) map[string]func(string) []byte {
	source := func() uint16 { return uint16(20000 + s.sent%40000) } // no tracked connection twice
	return map[string]func(string) []byte{
		"tcp":  func(t string) []byte { sp := source(); return s.ip(ipv4(from, to, tcp, syn(from, to, sp, port, t))) },
		"udp":  func(t string) []byte { return s.ip(ipv4(from, to, udp, datagram(source(), port, t))) },
		"icmp": func(t string) []byte { return s.ip(ipv4(from, to, icmp, echo(t))) },
	}
}

// whole is a row for each transport.
func (s *siege) whole(from, to string, port uint16, open, flushed string) []shot {
	var out []shot
	for name, frame := range s.transports(from, to, port) {
		out = append(out, shot{fmt.Sprintf("%s from %s to %s port %d", name, from, to, port), frame, open, flushed})
	}
	return out
}

func (s *siege) one(kind, from, to string, port uint16, open, flushed string) shot {
	return shot{fmt.Sprintf("%s from %s to %s port %d", kind, from, to, port), s.transports(from, to, port)[kind], open, flushed}
}

func (s *siege) all() []shot { return slices.Concat(s.own(), s.forged(), s.tricks()) }

// own are packets with the attacker's own address.
func (s *siege) own() []shot {
	a := s.addr["a"]
	shots := s.whole(a, public, 8080, "lan", "lan")
	for _, name := range []string{"b", "closed"} {
		shots = append(shots, s.whole(a, s.addr[name], 8080, "", "")...)
		shots = append(shots, s.one("tcp", a, s.addr[name], 22, "", ""))
	}
	shots = append(shots,
		s.one("tcp", a, s.addr["linked"], 8080, "linked", "linked"), // the declared link
		s.one("tcp", a, s.addr["linked"], 8081, "", ""),
		s.one("udp", a, s.addr["linked"], 8080, "", ""),
		s.one("icmp", a, s.addr["linked"], 0, "", ""),
		s.one("udp", a, s.service(), 53, "host", "host"),
		s.one("tcp", a, hostLAN, uint16(s.httpPort()), "host", "host"), // the ingress
	)
	for _, far := range append([]string{lanPeer, metadata}, privates...) {
		shots = append(shots, s.whole(a, far, 8080, "", "")...)
	}
	// The host's own addresses are the one thing that only nft closes.
	for _, here := range []string{s.service(), s.hostSide["a"], s.hostSide["b"], hostLAN} {
		for _, port := range []uint16{22, 2019, 5432, 7777} {
			shots = append(shots, s.one("tcp", a, here, port, "", "host"))
		}
		shots = append(shots, s.one("udp", a, here, 7777, "", "host"), s.one("icmp", a, here, 0, "", "host"))
	}
	for _, all := range []string{"255.255.255.255", "224.0.0.1"} {
		shots = append(shots, s.one("udp", a, all, 7777, "", "host"), s.one("icmp", a, all, 0, "", "host"))
	}
	for _, nowhere := range []string{"127.0.0.1", "127.1.2.3", "0.0.0.0"} {
		shots = append(shots, s.whole(a, nowhere, 7777, "", "")...)
	}
	return shots
}

// forged are packets with every address but the attacker's own.
func (s *siege) forged() []shot {
	var shots []shot
	sources := []string{
		s.addr["b"], s.addr["linked"], s.addr["closed"], s.hostSide["a"], s.hostSide["b"], s.service(), hostLAN, lanPeer, metadata, public,
		"198.51.100.9", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.250.0.9",
	}
	for _, from := range sources {
		shots = append(shots,
			s.one("udp", from, s.addr["b"], 8080, "", ""), s.one("tcp", from, s.addr["linked"], 8080, "", ""),
			s.one("udp", from, lanPeer, 8080, "", ""), s.one("icmp", from, public, 0, "", ""), s.one("tcp", from, public, 8080, "", ""),
			s.one("udp", from, s.service(), 53, "", ""), s.one("tcp", from, s.service(), 5432, "", ""), s.one("tcp", from, hostLAN, 22, "", ""))
	}
	return shots
}

// tricks are packets that are not what they look like.
func (s *siege) tricks() []shot {
	a, b, bMAC := s.addr["a"], s.addr["b"], s.macOf("b")
	toB := func(t string) []byte { return ipv4(a, b, udp, datagram(7, 8080, t)) }
	forged := func(t string) []byte { return ipv4(b, s.service(), udp, datagram(7, 53, t)) }
	out := func(t string) []byte { return ipv4(a, public, udp, datagram(uint16(s.sent), 8080, t)) }
	strangers := map[string]net.HardwareAddr{"of b": bMAC, "of nobody": {2, 3, 4, 5, 6, 7}, "of all": {255, 255, 255, 255, 255, 255}}
	shots := []shot{
		{"a fragment", func(t string) []byte { return s.ip(fragment(toB(t), 0, true)) }, "", ""},
		{"a later fragment", func(t string) []byte { return s.ip(fragment(toB(t), 800, false)) }, "", ""},
		{"a source route over the host to b", func(t string) []byte {
			via := append([]byte{131, 7, 4}, netip.MustParseAddr(b).AsSlice()...)
			return s.ip(ipv4(a, hostLAN, udp, datagram(7, 8080, t), append(via, 1)...))
		}, "", ""},
		{"a packet in a packet", func(t string) []byte { return s.ip(ipv4(a, s.hostSide["a"], ipip, toB(t))) }, "", "host"},
		{"a packet in GRE", func(t string) []byte {
			return s.ip(ipv4(a, s.hostSide["a"], gre, append([]byte{0, 0, 8, 0}, toB(t)...)))
		}, "", "host"},
		{"an ICMP redirect", func(t string) []byte {
			return s.ip(ipv4(a, s.hostSide["a"], icmp, icmpOf(5, append(netip.MustParseAddr(a).AsSlice(), ipv4(hostLAN, lanPeer, udp, datagram(7, 7, t))...))))
		}, "", "host"},
		{"a priority tag to the internet", func(t string) []byte { return ether(s.gate, s.mac, etherIP, out(t), 0x8100, 0) }, "lan", "lan"},
	}
	for name, mac := range strangers {
		shots = append(shots,
			shot{"to b from the MAC " + name, func(t string) []byte { return ether(s.gate, mac, etherIP, toB(t)) }, "", ""},
			shot{"as b from the MAC " + name, func(t string) []byte { return ether(s.gate, mac, etherIP, forged(t)) }, "", ""},
			shot{"to b at the MAC " + name, func(t string) []byte { return ether(mac, s.mac, etherIP, toB(t)) }, "", ""})
	}
	for _, tags := range [][]uint16{{0x8100, 0}, {0x8100, 1}, {0x88a8, 1}, {0x88a8, 0, 0x8100, 1}} {
		shots = append(shots,
			shot{fmt.Sprintf("to b with tags %x", tags), func(t string) []byte { return ether(s.gate, s.mac, etherIP, toB(t), tags...) }, "", ""},
			shot{fmt.Sprintf("as b with tags %x", tags), func(t string) []byte { return ether(s.gate, s.mac, etherIP, forged(t), tags...) }, "", ""})
	}
	return append(shots, s.sixes(s.gate, s.mac)...)
}

// sixes are IPv6 packets that hosts take from any neighbour, on the link of two MACs.
func (s *siege) sixes(to, from net.HardwareAddr) []shot {
	const all, me = "ff02::1", "fe80::bad"
	every := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	frame := func(mac net.HardwareAddr, dst string, kind byte, rest func(string) []byte) func(string) []byte {
		return func(t string) []byte { return ether(mac, from, etherV6, ipv6(me, dst, kind, rest(t))) }
	}
	target := netip.MustParseAddr(me).AsSlice()
	neighbour := func(t string) []byte { return append(append(make([]byte, 4), target...), option6(t)...) }
	return []shot{
		// Lifetime 0: where it is believed, in the control, it changes nothing.
		{"a router advertisement", frame(every, all, 134, func(t string) []byte { return append(make([]byte, 12), option6(t)...) }), "", ""},
		{"a neighbour advertisement", frame(every, all, 136, neighbour), "", ""},
		{"a neighbour solicitation", frame(every, all, 135, neighbour), "", ""},
		{"a router solicitation", frame(every, all, 133, func(t string) []byte { return append(make([]byte, 4), option6(t)...) }), "", ""},
		{"an IPv6 redirect", frame(every, all, 137, func(t string) []byte {
			return append(append(make([]byte, 4), slices.Repeat(target, 2)...), option6(t)...)
		}), "", ""},
		{"an echo request to all nodes", frame(every, all, 128, func(t string) []byte { return append(make([]byte, 4), t...) }), "", ""},
		{"an IPv6 packet in IPv4", func(t string) []byte {
			return ether(to, from, etherIP, ipv4(s.addr["a"], s.hostSide["a"], 41, ipv6(me, all, 128, append(make([]byte, 4), t...))))
		}, "", "host"},
	}
}

func (s *siege) macOf(name string) net.HardwareAddr {
	s.t.Helper()
	mac, err := net.ParseMAC(strings.Fields(mustRun(s.t, "ip", "neigh", "show", s.addr[name]))[4])
	s.check(err)
	return mac
}

// controls are heard where the attacker is not: the ears work, the places have
// the addresses, and only the way from the attacker is closed.
func (s *siege) controls() {
	s.t.Helper()
	say := func(network, to string) func(string) error {
		return func(token string) error {
			c, err := net.Dial(network, to)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(token))
			return err
		}
	}
	ping := func(to string) func(string) error {
		return func(token string) error {
			c, err := net.Dial("ip4:icmp", to)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(echo(token))
			return err
		}
	}
	control := func(what, place string, f func(string) error) {
		s.eventually("control: "+what+" is heard by "+place, func() error {
			token := s.token()
			if err := f(token); err != nil {
				return err
			}
			if got := s.ears.where(token); !strings.Contains(" "+got+" ", " "+place+" ") {
				return fmt.Errorf("heard by %q", got)
			}
			return nil
		})
	}
	for _, name := range []string{"b", "closed", "linked"} {
		control("the host", name, say("udp", s.addr[name]+":8080"))
		control("the host", name, say("tcp", s.addr[name]+":8080"))
		control("the host", name, ping(s.addr[name]))
	}
	for _, far := range append([]string{lanPeer, metadata}, privates...) {
		control("the host to "+far, "lan", say("udp", far+":8080"))
		control("the host to "+far, "lan", ping(far))
	}
	for _, here := range []string{s.service(), s.hostSide["a"], s.hostSide["b"], hostLAN, "127.0.0.1"} {
		control("the host itself at "+here, "host", say("udp", here+":7777"))
		control("the host itself at "+here, "host", say("tcp", here+":7777"))
		control("the host itself at "+here, "host", ping(here))
	}
	neighbour := func(f func(string) error) func(string) error {
		return func(token string) error { return inNamespace(s.lan, func() error { return f(token) }) }
	}
	for _, port := range []string{"22", "2019", "5432", "7777"} {
		control("the neighbour to port "+port, "host", neighbour(say("tcp", hostLAN+":"+port)))
	}
	control("the neighbour", "host", neighbour(ping(hostLAN)))
	// The same IPv6 packets over a link that has it.
	link, err := net.InterfaceByName("lan" + s.instance)
	s.check(err)
	for _, x := range s.sixes(link.HardwareAddr, net.HardwareAddr{2, 0, 0, 0, 0, 1}) {
		if x.flushed != "" {
			continue // what is in IPv4
		}
		control(x.name+" of the neighbour", "host", func(token string) error { return s.inject(x.frame(token)) })
	}
}

// inject writes a frame to the neighbour's end of the host's link.
func (s *siege) inject(frame []byte) error {
	return inNamespace(s.lan, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index})
	})
}
