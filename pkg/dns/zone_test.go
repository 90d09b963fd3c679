package dns

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"

	"tekton.host/pkg/resource"
)

var (
	subnet  = netip.MustParsePrefix("10.99.0.0/16")
	naming  = resource.Naming{Instance: "t", Subnet: subnet}
	web, db = naming.Addr(1), naming.Addr(2)
	other   = naming.Addr(3)
)

func testZone() zone {
	return zone{
		Version: zoneVersion, Installation: "0123456789ab", Subnet: subnet,
		Resolver: resource.Resolver{Listen: netip.AddrPortFrom(naming.Service(), 53), Domain: "tekton.internal"},
		Records: []record{
			{Value: resource.Record{Label: "db", Addr: db, Clients: []netip.Addr{web}, NoForward: []netip.Addr{db}}, Owner: "u2", Instance: "db-1"},
			{Value: resource.Record{Label: "web", Addr: web}, Owner: "u1"},
		},
	}
}

func TestAnswer(t *testing.T) {
	const nameError, success = dns.RcodeNameError, dns.RcodeSuccess
	cases := []struct {
		reason string
		name   string
		qtype  uint16
		from   netip.Addr
		want   string // the answer's data, "" none
		code   int
		ours   bool
	}{
		{"a linked name", "db.tekton.internal.", dns.TypeA, web, db.String(), success, true},
		{"whatever its case", "Db.TEKTON.internal.", dns.TypeA, web, db.String(), success, true},
		{"the machine's own name", "db.tekton.internal.", dns.TypeA, db, db.String(), success, true},
		{"a name that is not linked", "db.tekton.internal.", dns.TypeA, other, "", nameError, true},
		{"links have a direction", "web.tekton.internal.", dns.TypeA, db, "", nameError, true},
		{"no IPv6", "db.tekton.internal.", dns.TypeAAAA, web, "", success, true},
		{"no IPv6 tells nothing", "db.tekton.internal.", dns.TypeAAAA, other, "", nameError, true},
		{"no such name", "x.tekton.internal.", dns.TypeA, web, "", nameError, true},
		{"below a name", "x.db.tekton.internal.", dns.TypeA, web, "", nameError, true},
		{"the domain itself", "tekton.internal.", dns.TypeA, web, "", success, true},
		{"a linked address", "5.0.99.10.in-addr.arpa.", dns.TypePTR, web, "db.tekton.internal.", success, true},
		{"another's address", "5.0.99.10.in-addr.arpa.", dns.TypePTR, other, "", nameError, true},
		{"an unused address of ours", "9.9.99.10.in-addr.arpa.", dns.TypePTR, web, "", nameError, true},
		{"an address elsewhere", "8.8.8.8.in-addr.arpa.", dns.TypePTR, web, "", success, false},
		{"a name elsewhere", "example.org.", dns.TypeA, web, "", success, false},
		{"a name that only ends alike", "nottekton.internal.", dns.TypeA, web, "", success, false},
	}
	table := newTable(testZone())
	for _, c := range cases {
		got := table.answer(dns.Question{Name: c.name, Qtype: c.qtype, Qclass: dns.ClassINET}, c.from)
		if (got != nil) != c.ours {
			t.Errorf("%s: ours = %v, want %v", c.reason, got != nil, c.ours)
		}
		if got == nil {
			continue
		}
		if got.Rcode != c.code || data(got) != c.want {
			t.Errorf("%s: %s %q, want %s %q", c.reason, dns.RcodeToString[got.Rcode], data(got), dns.RcodeToString[c.code], c.want)
		}
		if len(got.Answer) == 0 && len(got.Ns) != 1 {
			t.Errorf("%s: an empty answer without SOA is remembered for as long as the client likes", c.reason)
		}
	}
}

// TestHostAsks: the host hears of all names of ours when it is to, and of no others.
func TestHostAsks(t *testing.T) {
	z := testZone()
	ask := func() (own *dns.Msg, forwards bool) {
		t := newTable(z)
		return t.answer(dns.Question{Name: "db.tekton.internal.", Qtype: dns.TypeA, Qclass: dns.ClassINET}, naming.Service()), t.mayForward(naming.Service())
	}
	if own, forwards := ask(); own.Rcode != dns.RcodeNameError || !forwards {
		t.Errorf("without: %v, forwards %v", own, forwards)
	}
	z.Resolver.Resolved = true
	if own, forwards := ask(); data(own) != db.String() || forwards {
		t.Errorf("with: %v, forwards %v", own, forwards)
	}
	if got := newTable(z).answer(dns.Question{Name: "db.tekton.internal.", Qtype: dns.TypeA, Qclass: dns.ClassINET}, other); got.Rcode != dns.RcodeNameError {
		t.Errorf("a machine that is not linked hears %v", got)
	}
}

func TestParseServers(t *testing.T) {
	global, links := parseServers("Global:\nLink 2 (eth0): 192.0.2.1 2001:db8::1\nLink 3 (tk1):\n")
	if diff := cmp.Diff([][]string{nil, {"192.0.2.1", "2001:db8::1"}}, [][]string{global, links}); diff != "" {
		t.Error(diff)
	}
	if global, links = parseServers("Global: 1.1.1.1 10.99.0.1\n"); len(global) != 2 || len(links) != 0 {
		t.Errorf("global %v, links %v", global, links)
	}
}

// data is the first answer's content.
func data(m *dns.Msg) string {
	if len(m.Answer) == 0 {
		return ""
	}
	switch rr := m.Answer[0].(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.PTR:
		return rr.Ptr
	}
	return m.Answer[0].String()
}

func TestZoneRoundTrip(t *testing.T) {
	z := testZone()
	b, err := z.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeZone(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(z, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "{", "[]", `{"version": 2}`, `{"version": 0}`} {
		if _, err := decodeZone([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestUpstreams(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	u := &upstreams{file: file}
	z := testZone()
	if got := u.of(z); len(got) != 0 {
		t.Errorf("upstreams without any file: %v", got)
	}
	content := "nameserver 10.99.0.1\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions edns0\n"
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"192.0.2.1:53", "[2001:db8::1]:53"}
	if diff := cmp.Diff(want, u.of(z)); diff != "" {
		t.Errorf("the host's, without ourselves (-want +got):\n%s", diff)
	}
	os.Remove(file)
	if diff := cmp.Diff(want, u.of(z)); diff != "" {
		t.Errorf("last good (-want +got):\n%s", diff)
	}
	z.Resolver.Upstreams = []string{"192.0.2.9:5353", "10.99.0.1"}
	if diff := cmp.Diff([]string{"192.0.2.9:5353"}, u.of(z)); diff != "" {
		t.Errorf("configured (-want +got):\n%s", diff)
	}
}

func TestLimits(t *testing.T) {
	l := newLimits()
	allowed := 0
	for range 2 * queriesBurst {
		if l.query(web) {
			allowed++
		}
	}
	if allowed < queriesBurst || allowed == 2*queriesBurst {
		t.Errorf("%d of %d queries at once were allowed, want about %d", allowed, 2*queriesBurst, queriesBurst)
	}
	if !l.query(db) {
		t.Error("another source pays for the first")
	}
	var done []func()
	for range forwardsEach {
		d, ok := l.forward(web)
		if !ok {
			t.Fatal("refused below the limit")
		}
		done = append(done, d)
	}
	if _, ok := l.forward(web); ok {
		t.Error("a source may open more forwards than its share")
	}
	if _, ok := l.forward(db); !ok {
		t.Error("another source pays for the first")
	}
	done[0]()
	if _, ok := l.forward(web); !ok {
		t.Error("a forward that ended still counts")
	}
	for i := range 2 * sourcesKept {
		l.query(netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}))
	}
	if len(l.sources) > sourcesKept {
		t.Errorf("%d sources are kept, want at most %d", len(l.sources), sourcesKept)
	}
	if _, ok := l.forward(web); ok {
		t.Error("a source with open forwards was forgotten")
	}
}

func TestSourceOf(t *testing.T) {
	for _, a := range []net.Addr{&net.UDPAddr{IP: net.IPv4(10, 99, 0, 3), Port: 1}, &net.TCPAddr{IP: net.IPv4(10, 99, 0, 3).To16(), Port: 1}} {
		if got := sourceOf(a); got != web {
			t.Errorf("sourceOf(%v) = %v, want %v", a, got, web)
		}
	}
}
