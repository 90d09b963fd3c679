package v1alpha1

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Destination is an entry of network.egress.allow. Port 0 stands for all
// ports, and then Protocol is empty.
type Destination struct {
	Prefix   netip.Prefix
	Port     int
	Protocol string
}

// ParseDestination reads ADDRESS[/BITS][:PORT[/PROTOCOL]], IPv4.
func ParseDestination(s string) (Destination, error) {
	where, rest, hasPort := strings.Cut(s, ":")
	if strings.Contains(rest, ":") || strings.HasPrefix(s, "[") {
		return Destination{}, errors.New("IPv6 is closed for machines; name an IPv4 destination")
	}
	prefix, err := parsePrefix(where)
	if err != nil {
		return Destination{}, err
	}
	d := Destination{Prefix: prefix}
	if !hasPort {
		return d, nil
	}
	port, protocol, hasProtocol := strings.Cut(rest, "/")
	if d.Port, err = strconv.Atoi(port); err != nil || d.Port < 1 || d.Port > 65535 {
		return Destination{}, fmt.Errorf("%q is not a port (1 to 65535)", port)
	}
	d.Protocol = "tcp"
	if hasProtocol {
		d.Protocol = protocol
	}
	if d.Protocol != "tcp" && d.Protocol != "udp" {
		return Destination{}, fmt.Errorf("%q is not a protocol; write tcp or udp", protocol)
	}
	return d, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	const shape = "must be an IPv4 address or network such as 192.168.1.5 or 10.1.2.0/24, with a port where only that is meant (192.168.1.5:443, 1.2.3.4:53/udp)"
	if addr, err := netip.ParseAddr(s); err == nil {
		if !addr.Is4() {
			return netip.Prefix{}, errors.New("IPv6 is closed for machines; name an IPv4 destination")
		}
		return netip.PrefixFrom(addr, 32), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil || !prefix.Addr().Is4() {
		return netip.Prefix{}, errors.New(shape)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("has bits set beyond its mask; did you mean %s?", prefix.Masked())
	}
	return prefix, nil
}

// nonPublic are the ranges that are not the internet (RFC 6890).
var nonPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

// Public reports whether every address of the destination is a public one.
func (d Destination) Public() bool {
	for _, p := range nonPublic {
		if p.Overlaps(d.Prefix) {
			return false
		}
	}
	return true
}

// ParseCPUQuota reads "150%", the percentage of one CPU.
func ParseCPUQuota(s string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
	if err != nil || n < 1 || n > 100_000 || !strings.HasSuffix(s, "%") {
		hint := ""
		if cpus, err := strconv.ParseFloat(s, 64); err == nil && cpus > 0 && cpus <= 1000 {
			hint = fmt.Sprintf("; for %s CPUs write %q", s, fmt.Sprintf("%.0f%%", cpus*100))
		}
		return 0, fmt.Errorf("must be a percentage of one CPU such as %q (one and a half CPUs)%s", "150%", hint)
	}
	return n, nil
}

// ParsePortRange reads "8000-8999" or "25".
func ParsePortRange(s string) (first, last int, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	first, errFirst := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	if errFirst != nil || errLast != nil || first < 1 || last > 65535 || first > last {
		return 0, 0, fmt.Errorf("must be a port or a range of ports such as %q or %q", "25", "8000-8999")
	}
	return first, last, nil
}

// MatchHost reports whether pattern covers host. "*.example.org" covers each
// name one label below example.org, as a wildcard certificate does, and itself.
func MatchHost(pattern, host string) bool {
	if pattern == host {
		return true
	}
	domain, wild := strings.CutPrefix(pattern, "*.")
	_, parent, _ := strings.Cut(host, ".")
	return wild && parent == domain
}

// ParseUser reads the user of a command: a name, or UID[:GID].
func ParseUser(s string) (name string, uid, gid int, err error) {
	if userName.MatchString(s) {
		return s, 0, 0, nil
	}
	first, second, hasGroup := strings.Cut(s, ":")
	if !hasGroup {
		second = first
	}
	uid, errUID := strconv.Atoi(first)
	gid, errGID := strconv.Atoi(second)
	if errUID != nil || errGID != nil || uid < 0 || gid < 0 || uid > maxID || gid > maxID {
		return "", 0, 0, fmt.Errorf("must be a user name of the system, or UID or UID:GID from 0 to %d", maxID)
	}
	return "", uid, gid, nil
}
