package dns

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"tekton.host/pkg/resource"
)

// zoneVersion of the file between driver and server. A server reads its own
// version and older ones, and keeps its last good zone when it meets a newer.
const zoneVersion = 1

// zoneFile is the name of the zone in the service's directory.
const zoneFile = "zone.json"

// zone is what the server answers.
type zone struct {
	Version      int               `json:"version"`
	Installation string            `json:"installation"`
	Subnet       netip.Prefix      `json:"subnet"`
	Resolver     resource.Resolver `json:"resolver"`
	Records      []record          `json:"records"` // sorted by label
}

// record is one name and whose it is.
type record struct {
	Value    resource.Record `json:"value"`
	Owner    string          `json:"owner"`
	Instance string          `json:"instance,omitempty"`
}

func (z zone) encode() ([]byte, error) {
	slices.SortFunc(z.Records, func(a, b record) int { return strings.Compare(a.Value.Label, b.Value.Label) })
	b, err := json.MarshalIndent(z, "", "  ")
	return append(b, '\n'), err
}

func decodeZone(b []byte) (zone, error) {
	var z zone
	if err := json.Unmarshal(b, &z); err != nil {
		return zone{}, fmt.Errorf("read %s: %w", zoneFile, err)
	}
	if z.Version < 1 || z.Version > zoneVersion {
		return zone{}, fmt.Errorf("read %s: version %d is not known to this program, which knows %d", zoneFile, z.Version, zoneVersion)
	}
	return z, nil
}

// table is a zone made ready for questions.
type table struct {
	zone
	apex   string // fully qualified, lower case
	labels map[string]record
	addrs  map[netip.Addr]record
	inside map[netip.Addr]bool // may not ask for names outside
}

func newTable(z zone) *table {
	t := &table{zone: z, apex: dns.CanonicalName(z.Resolver.Domain), labels: map[string]record{}, addrs: map[netip.Addr]record{}, inside: map[netip.Addr]bool{}}
	for _, r := range z.Records {
		t.labels[strings.ToLower(r.Value.Label)] = r
		t.addrs[r.Value.Addr] = r
		for _, addr := range r.Value.NoForward {
			t.inside[addr] = true
		}
	}
	return t
}

// ttl of our own answers, in seconds: an address may move at any moment.
const ttl = 1

// visible reports whether a source may know the record.
func (t *table) visible(r record, from netip.Addr) bool {
	return t.isHost(from) || r.Value.Addr == from || slices.Contains(r.Value.Clients, from)
}

// mayAsk reports whether a source is one of our machines, or the host.
func (t *table) mayAsk(from netip.Addr) bool { return from.IsLoopback() || t.Subnet.Contains(from) }

// mayForward reports whether a source may ask for names outside.
func (t *table) mayForward(from netip.Addr) bool { return !t.inside[from] && !t.isHost(from) }

// isHost reports whether a source is the host's systemd-resolved, which asks us
// for our domain. It hears of all our names, and nothing of others: those we
// would ask it for.
func (t *table) isHost(from netip.Addr) bool {
	return t.Resolver.Resolved && (from.IsLoopback() || from == t.Resolver.Listen.Addr())
}

// answer is pure: the reply to a question about our names or addresses; nil
// when the question is about somebody else's.
func (t *table) answer(q dns.Question, from netip.Addr) *dns.Msg {
	name := dns.CanonicalName(q.Name)
	if dns.IsSubDomain(t.apex, name) {
		return t.forward(q, name, from)
	}
	if addr, ok := reverseAddr(name); ok && t.Subnet.Contains(addr) {
		return t.reverse(q, addr, from)
	}
	return nil
}

// forward answers for a name in our domain: A where there is one, no data for other types.
func (t *table) forward(q dns.Question, name string, from netip.Addr) *dns.Msg {
	if name == t.apex {
		return t.noData()
	}
	r, ok := t.labels[strings.TrimSuffix(name, "."+t.apex)]
	if !ok || !t.visible(r, from) {
		return t.noName()
	}
	if q.Qtype != dns.TypeA {
		return t.noData()
	}
	m := &dns.Msg{}
	m.Answer = []dns.RR{&dns.A{Hdr: header(q.Name, dns.TypeA), A: r.Value.Addr.AsSlice()}}
	return m
}

func (t *table) reverse(q dns.Question, addr netip.Addr, from netip.Addr) *dns.Msg {
	r, ok := t.addrs[addr]
	if !ok || !t.visible(r, from) {
		return t.noName()
	}
	if q.Qtype != dns.TypePTR {
		return t.noData()
	}
	m := &dns.Msg{}
	m.Answer = []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: r.Value.Label + "." + t.apex}}
	return m
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// noName and noData carry an SOA, so that nobody remembers them for longer than ttl.
func (t *table) noName() *dns.Msg {
	m := t.noData()
	m.Rcode = dns.RcodeNameError
	return m
}

func (t *table) noData() *dns.Msg {
	m := &dns.Msg{}
	m.Ns = []dns.RR{&dns.SOA{
		Hdr: header(t.apex, dns.TypeSOA), Ns: t.apex, Mbox: "root." + t.apex,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}}
	return m
}

// reverseAddr reads 5.0.99.10.in-addr.arpa. as 10.99.0.5.
func reverseAddr(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa.")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(digits, ".")
	slices.Reverse(parts)
	addr, err := netip.ParseAddr(strings.Join(parts, "."))
	return addr, err == nil && addr.Is4()
}
