package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
)

// TestListeners finds sockets of its own, by address, and who has them.
func TestListeners(t *testing.T) {
	for _, at := range []struct{ network, listen, asked, other string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1", "127.0.0.2"}, {"tcp4", "0.0.0.0:0", "127.0.0.9", ""},
	} {
		l, err := net.Listen(at.network, at.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		all, err := Listeners("/proc")
		if err != nil {
			t.Fatal(err)
		}
		var mine []Listener
		for _, x := range all {
			if x.Takes("tcp", netip.MustParseAddr(at.asked), port) {
				mine = append(mine, x)
			}
			if x.Takes("udp", netip.Addr{}, port) && x.Protocol == "tcp" {
				t.Errorf("%s is taken for UDP", x.Addr)
			}
			if at.other != "" && x.Takes("tcp", netip.MustParseAddr(at.other), port) {
				t.Errorf("%s is taken for %s", x.Addr, at.other)
			}
		}
		if len(mine) != 1 {
			t.Fatalf("%s: %v", at.listen, mine)
		}
		if who := Holder("/proc", mine); who == "" || who != fmt.Sprintf("%s (process %d)", comm(t), os.Getpid()) {
			t.Errorf("%s: %q", at.listen, who)
		}
		if who := Holder("/proc", mine, os.Getpid()); who != "" {
			t.Errorf("ours is taken for %q", who)
		}
	}
	if who := Holder("/proc", nil); who != "" {
		t.Errorf("nobody's socket is %q's", who)
	}
}

func comm(t *testing.T) string {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return string(name[:len(name)-1])
}

func TestSocketAddr(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:0035": "127.0.0.1:53", "00000000:0050": "0.0.0.0:80",
		"00000000000000000000000001000000:1F90": "[::1]:8080", "0000000000000000FFFF0000E1FFFF0A:1538": "10.255.255.225:5432",
	} {
		if got, ok := socketAddr(text); !ok || got.String() != want {
			t.Errorf("%s: %s %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "01:2", "0100007F", "zz00007F:0035"} {
		if got, ok := socketAddr(text); ok {
			t.Errorf("%q: %s", text, got)
		}
	}
}
