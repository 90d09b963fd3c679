package network

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"tekton.host/pkg/resource"
)

// privateRanges are the destinations that "internet" does not mean, and that the
// policy's table blackholes.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

func overlapsPrivate(p netip.Prefix) bool {
	return slices.ContainsFunc(privateRanges, p.Overlaps)
}

// comment says on an element whose it is: the mark, and the instance.
func comment(m resource.Mark, instance string) string {
	if instance == "" {
		return m.String()
	}
	return m.String() + " " + instance
}

// parseComment reads what comment wrote.
func parseComment(s, installation string) (owner, instance string) {
	m, ok := resource.ParseMark(s)
	if !ok || m.Installation != installation {
		return "", ""
	}
	_, instance, _ = strings.Cut(s, " ")
	return m.Owner, instance
}

// endpointElements are the elements that make an endpoint.
func endpointElements(e resource.Endpoint, note string) []element {
	add := func(s *setSpec, values ...any) element { return element{Set: s, Key: encode(s.key, values...)} }
	bound := add(setBound, e.Link, e.Addr)
	bound.Comment = note
	out := []element{bound}
	switch e.Egress {
	case resource.EgressInternet:
		out = append(out, add(setInternet, e.Addr))
	case resource.EgressAll:
		out = append(out, add(setEverywhere, e.Addr))
	}
	if e.Database {
		out = append(out, add(setDatabase, e.Addr))
	}
	for i, a := range e.Allow {
		out = append(out, allowElement(e.Addr, a, covered(e.Allow, i)))
	}
	for _, p := range e.Publish {
		el := add(setPublishAny, protocolNumber(p.Protocol), p.HostPort)
		if !p.HostIP.IsUnspecified() {
			el = add(setPublish, p.HostIP, protocolNumber(p.Protocol), p.HostPort)
		}
		el.Data = encode(el.Set.data, e.Addr, p.Port)
		out = append(out, el)
	}
	return out
}

// covered reports whether a wider rule of the same set holds rule i. The kernel
// refuses overlapping intervals in one set, so such a rule is only noted.
func covered(rules []resource.PeerRule, i int) bool {
	return slices.ContainsFunc(rules, func(w resource.PeerRule) bool {
		return w.Port == rules[i].Port && w.Protocol == rules[i].Protocol &&
			w.Prefix.Bits() < rules[i].Prefix.Bits() && w.Prefix.Overlaps(rules[i].Prefix)
	})
}

func allowElement(from netip.Addr, a resource.PeerRule, covered bool) element {
	first, last, proto := a.Prefix.Masked().Addr(), lastAddr(a.Prefix), protocolNumber(a.Protocol)
	switch {
	case covered:
		mask := lastAddr(netip.PrefixFrom(netip.IPv4Unspecified(), a.Prefix.Bits()))
		return element{Set: setCovered, Key: encode(setCovered.key, from, first, mask, proto, a.Port)}
	case a.Port == 0:
		return element{Set: setAllow, Key: encode(setAllow.key, from, first), End: encode(setAllow.key, from, last)}
	default:
		return element{
			Set: setAllowPort, Key: encode(setAllowPort.key, from, first, proto, a.Port),
			End: encode(setAllowPort.key, from, last, proto, a.Port),
		}
	}
}

// endpointOf is the inverse of endpointElements: the endpoint that the elements
// of one address make, and the note on it. What is missing is missing in the
// value too.
func endpointOf(addr netip.Addr, elements []element) (e resource.Endpoint, note string) {
	e = resource.Endpoint{Addr: addr, Egress: resource.EgressNone}
	for _, el := range elements {
		key, _ := decode(el.Key, el.Set.key)
		switch el.Set {
		case setBound:
			e.Link, note = key[0].(string), el.Comment
		case setInternet:
			e.Egress = resource.EgressInternet
		case setEverywhere:
			e.Egress = resource.EgressAll
		case setDatabase:
			e.Database = true
		case setAllow, setAllowPort, setCovered:
			e.Allow = append(e.Allow, peerRuleOf(el, key))
		case setPublish, setPublishAny:
			e.Publish = append(e.Publish, publishOf(el, key))
		}
	}
	slices.SortFunc(e.Allow, ComparePeerRules)
	slices.SortFunc(e.Publish, ComparePublish)
	if len(endpointElements(e, note)) != len(elements) {
		e.Egress = "" // two elements contradict each other
	}
	return e, note
}

func peerRuleOf(el element, key []any) resource.PeerRule {
	if el.Set == setCovered {
		return resource.PeerRule{
			Prefix: netip.PrefixFrom(key[1].(netip.Addr), hostBits(key[2].(netip.Addr))),
			Port:   key[4].(int), Protocol: protocolName(key[3].(int)),
		}
	}
	last, _ := decode(el.End, el.Set.key)
	first := key[1].(netip.Addr)
	p := resource.PeerRule{Prefix: rangePrefix(first, last[1].(netip.Addr))}
	if el.Set == setAllowPort {
		p.Protocol, p.Port = protocolName(key[2].(int)), key[3].(int)
	}
	return p
}

func publishOf(el element, key []any) resource.Publish {
	data, _ := decode(el.Data, el.Set.data)
	p := resource.Publish{HostIP: netip.IPv4Unspecified(), Port: data[1].(int)}
	if el.Set == setPublish {
		p.HostIP, key = key[0].(netip.Addr), key[1:]
	}
	p.Protocol, p.HostPort = protocolName(key[0].(int)), key[1].(int)
	return p
}

// rangePrefix is the prefix that begins and ends with the given addresses.
func rangePrefix(first, last netip.Addr) netip.Prefix {
	a, b := first.As4(), last.As4()
	var differ int
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			differ = 8*(3-i) + bits.Len8(x)
			break
		}
	}
	return netip.PrefixFrom(first, 32-differ)
}

// hostBits reads the prefix length out of an inverted mask's address.
func hostBits(mask netip.Addr) int {
	return rangePrefix(netip.IPv4Unspecified(), mask).Bits()
}

// ComparePeerRules is the order of Endpoint.Allow.
func ComparePeerRules(a, b resource.PeerRule) int {
	return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

// ComparePublish is the order of Endpoint.Publish.
func ComparePublish(a, b resource.Publish) int {
	return cmp.Or(a.HostIP.Compare(b.HostIP), cmp.Compare(a.HostPort, b.HostPort),
		cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// exceptionElement is the nft half of an exception.
func exceptionElement(e resource.Exception, note string) element {
	return element{Set: setLinks, Key: encode(setLinks.key, e.From, e.To, protocolNumber(e.Protocol), e.Port), Comment: note}
}

func exceptionOf(el element) resource.Exception {
	v, _ := decode(el.Key, el.Set.key)
	return resource.Exception{
		From: v[0].(netip.Addr), To: v[1].(netip.Addr), Protocol: protocolName(v[2].(int)), Port: v[3].(int),
	}
}

func exceptionName(e resource.Exception) string {
	return resource.ExceptionName(e.From, e.To, e.Port, e.Protocol)
}
