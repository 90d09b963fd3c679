package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The neighbourhood of the host: a network behind a link of its own, with
// something in it, a metadata service, and a public address.
const (
	hostLAN  = "192.168.77.1"
	lanPeer  = "192.168.77.2"
	metadata = "169.254.169.254"
	public   = "203.0.113.7"
)

// neighbourhood is a namespace where a guest listens on all of these addresses.
// It returns the guest's PID.
func (k *tekton) neighbourhood() int {
	k.t.Helper()
	cmd := exec.Command(filepath.Join(k.programs, "guest"), "stubborn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	k.check(cmd.Start())
	k.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	link := "lan" + k.instance
	k.t.Cleanup(func() { exec.Command("ip", "link", "del", link).Run() })
	pid := strconv.Itoa(cmd.Process.Pid)
	in := "nsenter -n -t " + pid + " "
	for _, line := range []string{
		"ip link add " + link + " type veth peer name eth0 netns " + pid,
		// Its IPv6 address is there at once, and not when nobody else was found to have it.
		"sysctl -qw net.ipv6.conf." + link + ".accept_dad=0",
		"ip address add " + hostLAN + "/24 dev " + link, "ip link set " + link + " up",
		in + "ip link set lo up", in + "ip link set eth0 up", in + "ip address add " + lanPeer + "/24 dev eth0",
		in + "ip address add " + metadata + "/32 dev lo", in + "ip address add " + public + "/32 dev lo",
		in + "ip route add " + k.subnet + " via " + hostLAN,
		"ip route add " + metadata + " via " + lanPeer, "ip route add " + public + " via " + lanPeer,
	} {
		mustRun(k.t, strings.Fields(line)...)
	}
	for _, addr := range []string{lanPeer, metadata, public} {
		k.eventually("the host itself reaches "+addr, func() error { _, _, err := fetch("http://"+addr+":8080/ready", ""); return err })
	}
	return cmd.Process.Pid
}

// TestReach asks from inside machines what can be reached.
func TestReach(t *testing.T) {
	k := start(t)
	k.neighbourhood()
	// A service of the host on all its addresses.
	listener, err := net.Listen("tcp", ":7777")
	k.check(err)
	t.Cleanup(func() { listener.Close() })
	contained := runtimeOf(4) // the one that reaches most and the one that reaches nothing
	k.write("all.yaml",
		k.guestOf(contained, "a", "databases: [{name: main, deletionPolicy: Delete}]", "network: {links: [{to: b, port: 8080}]}"),
		k.guest("b"), k.guest("c"),
		k.guestOf(contained, "closed", "network: {egress: {mode: none}}"))
	k.ready("a", "b", "c", "closed")
	addr := map[string]string{}
	for _, name := range []string{"a", "b", "c", "closed"} {
		addr[name] = k.get(name).Status.Address
	}
	tests := []struct {
		from, to string
		open     bool
	}{
		{"a", addr["b"] + ":8080", true},  // the declared link
		{"a", addr["b"] + ":8081", false}, // not its other port
		{"b", addr["a"] + ":8080", false}, // not back
		{"a", addr["c"] + ":8080", false},
		{"a", k.service() + ":5432", true}, // its database
		{"b", k.service() + ":5432", false},
		{"a", k.service() + ":7777", false},
		{"a", hostLAN + ":7777", false},
		{"a", lanPeer + ":8080", false},
		{"a", metadata + ":8080", false},
		{"a", "127.0.0.1:7777", false},
		{"a", public + ":8080", true},
		{"closed", public + ":8080", false},
		{"closed", lanPeer + ":8080", false},
	}
	for _, tt := range tests {
		// A refusal is an answer of somebody, in the machine itself only of its own.
		got := k.mustAsk(tt.from, "/dial", "addr", tt.to)
		if reached := got == "open" || got == "refused" && !strings.HasPrefix(tt.to, "127."); reached != tt.open {
			t.Errorf("from %s to %s: %s", tt.from, tt.to, got)
		}
	}
	if got := k.mustAsk("a", "/lookup", "name", "b.tekton.internal"); got != addr["b"] {
		t.Errorf("the name of the linked object: %q", got)
	}
	for from, name := range map[string]string{"b": "a", "a": "c"} {
		if got := k.mustAsk(from, "/lookup", "name", name+".tekton.internal"); strings.HasPrefix(got, "10.") {
			t.Errorf("%s resolves %s, which it has no link to: %s", from, name, got)
		}
	}
	// From the neighbourhood nobody gets in who was not asked.
	for name, a := range addr {
		code, body, err := fetch("http://"+lanPeer+":8080/dial?addr="+a+":8080", "")
		if err != nil || code != 200 || body == "open" || body == "refused" {
			t.Errorf("the neighbour reaches %s: %d %s %v", name, code, body, err)
		}
	}
	// A link that is taken away closes, without a restart.
	pid := k.leader("a")
	k.write("all.yaml", k.guestOf(contained, "a", "databases: [{name: main, deletionPolicy: Delete}]"), k.guest("b"), k.guest("c"),
		k.guestOf(contained, "closed", "network: {egress: {mode: internet}, ports: [{hostPort: "+strconv.Itoa(k.publishedPort())+", port: 8080, hostIP: "+hostLAN+"}]}"))
	k.eventually("the link is closed", func() error {
		if got, err := k.ask("a", "/dial", "addr", addr["b"]+":8080"); err != nil || got == "open" {
			return fmt.Errorf("%s %v", got, err)
		}
		return nil
	})
	k.eventually("the published port answers the neighbour", func() error {
		_, body, err := fetch("http://"+lanPeer+":8080/dial?addr="+hostLAN+":"+strconv.Itoa(k.publishedPort()), "")
		if err == nil && body != "open" {
			err = fmt.Errorf("it is %s", body)
		}
		return err
	})
	k.ready("a", "b", "c", "closed")
	if k.leader("a") != pid {
		t.Error("taking a link away has restarted the machine")
	}
}

func (k *tekton) publishedPort() int { return 19000 + k.n }

// privates are further networks behind the neighbour.
var privates = []string{"10.250.0.9", "172.16.0.9", "100.64.0.9", "198.18.0.9"}

// listen has the host serve ports on all its addresses, or on one.
func (k *tekton) listen(addrs ...string) {
	k.t.Helper()
	for _, addr := range addrs {
		l, err := net.Listen("tcp4", addr)
		k.check(err)
		k.t.Cleanup(func() { l.Close() })
	}
}

// TestIsolation has the root of an untrusted machine write packets byte by
// byte, and listens where they must not arrive: with the daemon, without it,
// without nft, and while both come back.
func TestIsolation(t *testing.T) {
	k := start(t)
	lan := k.neighbourhood()
	for _, far := range privates {
		mustRun(t, "ip", "route", "add", far, "via", lanPeer)
		t.Cleanup(func() { exec.Command("ip", "route", "del", far).Run() })
	}
	k.listen(":22", ":2019", ":7777", hostLAN+":5432")
	k.write("all.yaml", k.guest("a", "network: {links: [{to: linked, port: 8080}]}"), k.guest("b"), k.guest("linked"),
		k.guest("closed", "network: {egress: {mode: none}}"), k.guest("data", "databases: [{name: main, deletionPolicy: Delete}]"))
	k.ready("a", "b", "linked", "closed", "data")
	s := k.besiege(lan, "a", "b", "linked", "closed")
	s.controls()
	before := s.facts()
	all := func(when string, flushed bool) {
		t.Helper()
		s.fire(s.all(), flushed)
		s.judge(when)
		s.reach(when, flushed)
		if diff := cmp.Diff(before, s.facts()); diff != "" {
			t.Errorf("%s: the attacker has changed what the host knows (-before +after):\n%s", when, diff)
		}
	}
	all("with the daemon", false)
	s.asks()
	s.sockets()
	// The loose check of sources, which some distributions have: the kernel takes
	// the larger one of this and a link's own.
	const loose = "net.ipv4.conf.all.rp_filter"
	mustRun(t, "sysctl", "-qw", loose+"=2")
	k.signal(syscall.SIGKILL)
	k.up()
	k.settled()
	if log, err := os.ReadFile(k.path("log")); err != nil || !strings.Contains(string(log), loose) {
		t.Errorf("the daemon does not say that %s is 2 (%v)", loose, err)
	}
	all("with the loose check of sources", false)
	mustRun(t, "sysctl", "-qw", loose+"=0")
	k.signal(syscall.SIGKILL)
	all("the daemon is dead", false)
	mustRun(t, "nft", "flush", "ruleset")
	all("the daemon is dead and nft flushed", true)
	k.up()
	k.settled()
	all("after the repair", false)

	// While the daemon goes and comes, all is as it was.
	k.check(k.daemon.Process.Signal(syscall.SIGTERM))
	s.fire(s.all(), false)
	k.awaitEnd()
	k.launch()
	k.eventually("the daemon has converged again", func() error {
		s.fire(s.all(), false)
		_, err := k.run("plan")
		return err
	})
	all("after a restart of the daemon", false)

	// While the daemon repairs, the second layer holds what is its.
	for range 5 {
		mustRun(t, "nft", "flush", "ruleset")
		s.fire(sealed(s.all()), false)
	}
	k.settled()
	all("after all repairs", false)
}

// sealed are the shots that nobody hears, with nft or without.
func sealed(shots []shot) []shot {
	return slices.DeleteFunc(shots, func(x shot) bool { return x.open != "" || x.flushed != "" })
}
