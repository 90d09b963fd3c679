package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// protocol is our routing protocol number: it marks our routes and ip rules.
	protocol = 0x74
	// dumpTries bounds the repetitions of a dump that changes interrupted.
	dumpTries = 5
	// skipStats (RTEXT_FILTER_SKIP_STATS) halves a link's message.
	skipStats = 1 << 3
	// inetConf is IFLA_INET_CONF below AF_INET of IFLA_AF_SPEC, inet6Conf is
	// IFLA_INET6_CONF below AF_INET6.
	inetConf  = 1
	inet6Conf = 2
)

// hostLink is a network interface of the host as the kernel shows it.
type hostLink struct {
	Index     int
	Name      string
	Alias     string
	Group     uint32
	Up        bool
	MAC       string // bytes
	PeerIndex int
	PeerAway  bool // the other end is in another network namespace
	Secured   bool // has all linkSettings
	Working   bool // both ends are up and the kernel lets packets through
}

type hostAddr struct {
	Index int
	Addr  netip.Prefix
	Label string
}

type hostRoute struct {
	Table    int
	Dst      netip.Prefix
	Type     int
	Scope    int
	Protocol int
	Link     int
	Src      netip.Addr
}

// neighbour is a permanent neighbour entry.
type neighbour struct {
	Link int
	Addr netip.Addr
	MAC  string // bytes
}

// kernel is one reading of the host's IPv4 network.
type kernel struct {
	Links  []hostLink
	Addrs  []hostAddr
	Routes []hostRoute
	Neighs map[neighbour]bool
	Rules  map[ipRule]bool
}

// readKernel reads links, addresses, routes, permanent neighbours and ip rules,
// each with one dump.
func readKernel() (*kernel, error) {
	k := &kernel{Neighs: map[neighbour]bool{}}
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	mask := nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats))
	err := dump("links", unix.RTM_GETLINK, unix.RTM_NEWLINK, func() { k.Links = nil }, func(m []byte) {
		k.Links = append(k.Links, parseLink(m))
	}, header, mask)
	if err != nil {
		return nil, err
	}
	inet := nl.NewIfInfomsg(unix.AF_INET)
	err = dump("addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, func() { k.Addrs = nil }, func(m []byte) {
		k.Addrs = append(k.Addrs, parseAddr(m))
	}, inet)
	if err != nil {
		return nil, err
	}
	err = dump("routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, func() { k.Routes = nil }, func(m []byte) {
		k.Routes = append(k.Routes, parseRoute(m))
	}, inet)
	if err != nil {
		return nil, err
	}
	err = dump("neighbours", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, func() { clear(k.Neighs) }, func(m []byte) {
		if n, ok := parseNeighbour(m); ok {
			k.Neighs[n] = true
		}
	}, inet)
	if err != nil {
		return nil, err
	}
	k.Rules, err = readRules()
	return k, err
}

// readLink reads one interface by its name.
func readLink(name string) (l hostLink, present bool, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.ENODEV) {
		return hostLink{}, false, nil
	}
	if err != nil {
		return hostLink{}, false, fmt.Errorf("read link %s: %w", name, err)
	}
	if len(msgs) == 0 {
		return hostLink{}, false, fmt.Errorf("read link %s: the kernel sent no answer", name)
	}
	return parseLink(msgs[0]), true, nil
}

// dump asks for all of something and hands each message to add. A dump that a
// change interrupted starts again, after reset.
func dump(what string, request int, answer uint16, reset func(), add func([]byte), data ...nl.NetlinkRequestData) error {
	var err error
	for range dumpTries {
		reset()
		req := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
		for _, d := range data {
			req.AddData(d)
		}
		err = req.ExecuteIter(unix.NETLINK_ROUTE, answer, func(m []byte) bool { add(m); return true })
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

// attributes walks the netlink attributes in b.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
}

func parseLink(m []byte) hostLink {
	l := hostLink{
		Index: int(binary.NativeEndian.Uint32(m[4:])),
		Up:    binary.NativeEndian.Uint32(m[8:])&unix.IFF_UP != 0,
	}
	for kind, v := range attributes(m[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(v)
		case unix.IFLA_IFALIAS:
			l.Alias = unix.ByteSliceToString(v)
		case unix.IFLA_ADDRESS:
			l.MAC = string(v)
		case unix.IFLA_GROUP:
			l.Group = binary.NativeEndian.Uint32(v)
		case unix.IFLA_LINK:
			l.PeerIndex = int(binary.NativeEndian.Uint32(v))
		case unix.IFLA_LINK_NETNSID:
			l.PeerAway = true
		case unix.IFLA_AF_SPEC:
			l.Secured = parseSecured(v)
		case unix.IFLA_OPERSTATE:
			l.Working = v[0] == netlink.OperUp
		}
	}
	return l
}

// parseSecured compares what a link's message has of linkSettings. A kernel
// without IPv6 has nothing of it there.
func parseSecured(spec []byte) bool {
	var v4, v6 []byte
	for family, af := range attributes(spec) {
		for kind, conf := range attributes(af) {
			switch {
			case family == unix.AF_INET && kind == inetConf:
				v4 = conf
			case family == unix.AF_INET6 && kind == inet6Conf:
				v6 = conf
			}
		}
	}
	for _, s := range linkSettings {
		conf := v4
		if s.family == "ipv6" {
			if conf = v6; conf == nil {
				continue
			}
		}
		if len(conf) < 4*(s.index+1) || binary.NativeEndian.Uint32(conf[4*s.index:]) != s.value {
			return false
		}
	}
	return true
}

func parseAddr(m []byte) hostAddr {
	a := hostAddr{Index: int(binary.NativeEndian.Uint32(m[4:]))}
	bits := int(m[1])
	for kind, v := range attributes(m[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			ip, _ := netip.AddrFromSlice(v)
			a.Addr = netip.PrefixFrom(ip, bits)
		case unix.IFA_LABEL:
			a.Label = unix.ByteSliceToString(v)
		}
	}
	return a
}

func parseRoute(m []byte) hostRoute {
	r := hostRoute{Table: int(m[4]), Protocol: int(m[5]), Scope: int(m[6]), Type: int(m[7])}
	dst := netip.IPv4Unspecified()
	for kind, v := range attributes(m[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_TABLE:
			r.Table = int(binary.NativeEndian.Uint32(v))
		case unix.RTA_OIF:
			r.Link = int(binary.NativeEndian.Uint32(v))
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(v)
		}
	}
	r.Dst = netip.PrefixFrom(dst, int(m[1]))
	return r
}

func parseNeighbour(m []byte) (neighbour, bool) {
	const header = 12 // struct ndmsg
	n := neighbour{Link: int(binary.NativeEndian.Uint32(m[4:]))}
	for kind, v := range attributes(m[header:]) {
		switch kind {
		case unix.NDA_DST:
			n.Addr, _ = netip.AddrFromSlice(v)
		case unix.NDA_LLADDR:
			n.MAC = string(v)
		}
	}
	return n, binary.NativeEndian.Uint16(m[8:])&netlink.NUD_PERMANENT != 0
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// single is the prefix that holds one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
