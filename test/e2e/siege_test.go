package e2e_test

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
)

// reach opens connections in the usual way, with answers.
func (s *siege) reach(when string, flushed bool) {
	s.t.Helper()
	want := map[string]bool{
		public + ":8080": true, s.addr["linked"] + ":8080": true, fmt.Sprintf("%s:%d", hostLAN, s.httpPort()): true,
		s.addr["linked"] + ":8081": false, s.addr["b"] + ":8080": false, s.addr["closed"] + ":8080": false,
		lanPeer + ":8080": false, metadata + ":8080": false, privates[0] + ":8080": false,
		// What only nft closes.
		s.service() + ":5432": flushed, s.service() + ":22": flushed, s.service() + ":2019": flushed,
		s.hostSide["a"] + ":7777": flushed, s.hostSide["b"] + ":7777": flushed, hostLAN + ":22": flushed, hostLAN + ":5432": flushed,
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]bool{}
	for to := range want {
		wg.Go(func() {
			_, body, err := fetch("http://"+s.addr["a"]+":8080/dial?addr="+to, "")
			mu.Lock()
			defer mu.Unlock()
			got[to] = body == "open" || body == "refused"
			if err != nil {
				s.t.Errorf("%s: ask for %s: %v", when, to, err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s: the attacker connects to (-want +got):\n%s", when, diff)
	}
}

// sockets of the host are in no machine: those of our services, and one that
// has a name and no file, which belongs to a network namespace.
func (s *siege) sockets() {
	s.t.Helper()
	abstract := "@tekton-canary-" + s.instance
	l, err := net.Listen("unix", abstract)
	s.check(err)
	s.t.Cleanup(func() { l.Close() })
	wants := map[string]string{abstract: "refused"}
	for _, pattern := range []string{s.path("run", "tekton.sock"), s.path("run", "postgres", ".s.PGSQL.5432"), s.state("*", "*", "control.sock")} {
		found, err := filepath.Glob(pattern)
		s.check(err)
		for _, path := range found {
			wants[path] = "no such file or directory"
		}
	}
	tried := 0
	for socket, want := range wants {
		c, err := net.Dial("unix", socket)
		if err != nil {
			continue
		}
		c.Close()
		tried++
		if got := s.mustAsk("a", "/dial", "network", "unix", "addr", socket); !strings.HasSuffix(got, want) {
			s.t.Errorf("the host's socket %s from inside: %s, want %s", socket, got, want)
		}
	}
	// Beside those three the supervisors of five machines, PostgreSQL and DNS.
	if tried < 3+7 {
		s.t.Errorf("the host itself reaches %d of %v", tried, wants)
	}
}

// facts are what the host knows of its neighbours and ways.
func (s *siege) facts() map[string]string {
	ours := func(text string) string {
		lines := slices.DeleteFunc(slices.Sorted(strings.Lines(text)), func(l string) bool { return !strings.Contains(l, " tk"+s.instance) })
		return strings.Join(lines, "")
	}
	return map[string]string{
		"neighbours": ours(output("ip", "neigh", "show")), "IPv6 neighbours": ours(output("ip", "-6", "neigh", "show")),
		"routes": output("ip", "route", "show", "table", "all"), "IPv6 routes": output("ip", "-6", "-o", "route", "show", "table", "all"),
		"IPv6 addresses": ours(output("ip", "-6", "-o", "address", "show")),
	}
}

// asks sends requests and claims of the address resolution protocol: the host
// tells of no address but its own on this link, and believes nothing.
func (s *siege) asks() {
	s.t.Helper()
	a, none := s.addr["a"], make([]byte, 6)
	all := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	second, err := net.ParseMAC(strings.Fields(s.direct("/heard"))[0])
	s.check(err)
	before := s.facts()
	var frames []string
	say := func(op uint16, from, to string) {
		frames = append(frames, hex.EncodeToString(ether(all, second, 0x0806, arp(op, second, from, none, to))))
	}
	secret := append([]string{hostLAN, s.service(), s.hostSide["b"], s.addr["b"], lanPeer, "127.0.0.1"}, privates...)
	for _, to := range secret {
		say(1, a, to)
		say(1, s.addr["b"], to)
		say(1, to, to) // an announcement
		say(2, to, a)  // a claim
	}
	say(2, s.hostSide["a"], a)
	say(1, a, s.hostSide["a"])
	s.send(frames...)
	answers := map[string]bool{}
	s.eventually("the host says who has its own address", func() error {
		for _, line := range strings.Fields(s.direct("/heard"))[1:] {
			b, err := hex.DecodeString(line)
			if err == nil && len(b) >= 42 && b[12] == 8 && b[13] == 6 && b[21] == 2 {
				from, _ := netip.AddrFromSlice(b[28:32])
				answers[from.String()] = true
			}
		}
		if !answers[s.hostSide["a"]] {
			return fmt.Errorf("answers: %v", answers)
		}
		return nil
	})
	for _, to := range secret {
		if answers[to] {
			s.t.Errorf("the host tells the attacker who has %s", to)
		}
	}
	if diff := cmp.Diff(before, s.facts()); diff != "" {
		s.t.Errorf("the attacker's claims were believed (-before +after):\n%s", diff)
	}
}
