package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// field is the type of one part of a set's key or data.
type field int

const (
	fieldName  field = iota // interface name
	fieldAddr               // IPv4 address
	fieldProto              // transport protocol
	fieldPort               // transport port
)

// size of a field in a concatenation: a multiple of a 32-bit register.
func (f field) size() int {
	if f == fieldName {
		return unix.IFNAMSIZ
	}
	return 4
}

// typeName in nft's language.
func (f field) typeName() string {
	return [...]string{"ifname", "ipv4_addr", "inet_proto", "inet_service"}[f]
}

// setSpec describes one of the sets that hold what machines may do.
type setSpec struct {
	name     string
	key      []field
	data     []field // of a map
	interval bool
	// owner is the index of the machine's address in key, or in data of a map; -1: none.
	owner   int
	purpose string
}

// The sets of the table. Their names must not be words of nft's language.
var (
	setBound      = &setSpec{name: "bound", key: []field{fieldName, fieldAddr}, owner: 1, purpose: "the address that a link may use, and whose it is"}
	setInternet   = &setSpec{name: "internet", key: []field{fieldAddr}, purpose: "egress to public addresses"}
	setEverywhere = &setSpec{name: "everywhere", key: []field{fieldAddr}, purpose: "egress to private networks too"}
	setAllow      = &setSpec{name: "allowed", key: []field{fieldAddr, fieldAddr}, interval: true, purpose: "destinations beyond the egress mode"}
	setAllowPort  = &setSpec{name: "allowed_port", key: []field{fieldAddr, fieldAddr, fieldProto, fieldPort}, interval: true, purpose: "destinations beyond the egress mode, one port"}
	setCovered    = &setSpec{name: "covered", key: []field{fieldAddr, fieldAddr, fieldAddr, fieldProto, fieldPort}, purpose: "declared, but within a wider entry (network, mask)"}
	setDatabase   = &setSpec{name: "database", key: []field{fieldAddr}, purpose: "may reach the database"}
	setLinks      = &setSpec{name: "links", key: []field{fieldAddr, fieldAddr, fieldProto, fieldPort}, owner: -1, purpose: "declared links between machines"}
	setPublish    = &setSpec{name: "publish", key: []field{fieldAddr, fieldProto, fieldPort}, data: []field{fieldAddr, fieldPort}, purpose: "ports of one host address"}
	setPublishAny = &setSpec{name: "publish_any", key: []field{fieldProto, fieldPort}, data: []field{fieldAddr, fieldPort}, purpose: "ports of every host address"}
)

// elementSets are all of them, in the order of the table's text.
func elementSets() []*setSpec {
	return []*setSpec{
		setBound, setInternet, setEverywhere, setAllow, setAllowPort, setCovered, setDatabase, setLinks, setPublish, setPublishAny,
	}
}

// element is one element of a set. It is comparable: Key, End and Data hold
// the kernel's bytes. End is the last key of an interval.
type element struct {
	Set            *setSpec
	Key, End, Data string
	Comment        string
}

// identity is what makes an element unique within its set.
type identity struct {
	Set      *setSpec
	Key, End string
}

func (e element) identity() identity { return identity{e.Set, e.Key, e.End} }

// owner is the address of the machine that the element is about.
func (e element) owner() (netip.Addr, bool) {
	if e.Set.owner < 0 {
		return netip.Addr{}, false
	}
	raw, fields := e.Key, e.Set.key
	if e.Set.data != nil {
		raw, fields = e.Data, e.Set.data
	}
	v, ok := decode(raw, fields)
	if !ok {
		return netip.Addr{}, false
	}
	a, ok := v[e.Set.owner].(netip.Addr)
	return a, ok
}

// encode is the kernel's form of the values of fields.
func encode(fields []field, values ...any) string {
	var b []byte
	for i, f := range fields {
		part := make([]byte, f.size())
		switch v := values[i].(type) {
		case string:
			copy(part, v)
		case netip.Addr:
			copy(part, v.AsSlice())
		case int:
			if f == fieldProto {
				part[0] = byte(v)
			} else {
				binary.BigEndian.PutUint16(part, uint16(v))
			}
		}
		b = append(b, part...)
	}
	return string(b)
}

// decode is the inverse of encode.
func decode(raw string, fields []field) ([]any, bool) {
	values := make([]any, 0, len(fields))
	for _, f := range fields {
		if len(raw) < f.size() {
			// A single field has its own length, not a register's.
			raw += strings.Repeat("\x00", f.size()-len(raw))
		}
		part := raw[:f.size()]
		raw = raw[f.size():]
		switch f {
		case fieldName:
			values = append(values, unix.ByteSliceToString([]byte(part)))
		case fieldAddr:
			a, _ := netip.AddrFromSlice([]byte(part))
			values = append(values, a)
		case fieldProto:
			values = append(values, int(part[0]))
		case fieldPort:
			values = append(values, int(part[0])<<8|int(part[1]))
		}
	}
	return values, raw == ""
}

// declaration is the set in nft's language, with its elements.
func (s *setSpec) declaration(elements []element) string {
	var b strings.Builder
	kind := "set"
	if s.data != nil {
		kind = "map"
	}
	fmt.Fprintf(&b, "\t%s %s {\n\t\ttype %s", kind, s.name, typeNames(s.key))
	if s.data != nil {
		fmt.Fprintf(&b, " : %s", typeNames(s.data))
	}
	b.WriteString("\n")
	if s.interval {
		b.WriteString("\t\tflags interval\n")
	}
	fmt.Fprintf(&b, "\t\tcomment %q\n", s.purpose)
	if len(elements) > 0 {
		b.WriteString("\t\telements = {\n")
		for _, e := range elements {
			fmt.Fprintf(&b, "\t\t\t%s,\n", e)
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n")
	return b.String()
}

func typeNames(fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.typeName()
	}
	return strings.Join(names, " . ")
}

// String is the element in nft's language.
func (e element) String() string {
	text := join(e.Key, e.End, e.Set.key)
	if e.Comment != "" {
		text += fmt.Sprintf(" comment %q", e.Comment)
	}
	if e.Set.data != nil {
		text += " : " + join(e.Data, "", e.Set.data)
	}
	return text
}

func join(raw, end string, fields []field) string {
	first, _ := decode(raw, fields)
	last := first
	if end != "" {
		last, _ = decode(end, fields)
	}
	parts := make([]string, len(fields))
	for i := range fields {
		parts[i] = fieldText(fields[i], first[i])
		if end != "" && first[i] != last[i] {
			parts[i] += "-" + fieldText(fields[i], last[i])
		}
	}
	return strings.Join(parts, " . ")
}

func fieldText(f field, v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case int:
		if name := protocolName(v); f == fieldProto && name != "" {
			return name
		}
		return strconv.Itoa(v)
	default:
		return fmt.Sprint(v)
	}
}

func protocolNumber(name string) int {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP
	case "udp":
		return unix.IPPROTO_UDP
	}
	return 0
}

func protocolName(number int) string {
	switch number {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	}
	return ""
}

// lastAddr is the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	v := binary.BigEndian.Uint32(b[:]) | uint32(uint64(1)<<(32-p.Bits())-1)
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}
