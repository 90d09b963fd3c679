package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// ipRule is one policy rule; only what ours use. It is comparable, so that
// wanted and found rules are sets.
type ipRule struct {
	Priority int
	Src, Dst netip.Prefix // zero: any
	Iif      string
	Mark     uint32 // with an equal mask
	Proto    int
	Sport    int
	Dport    int
	// NotInto refuses a route into this interface group (suppress_ifgroup).
	NotInto  int
	Table    int
	Protocol int
	// Other holds what else a found rule has; ours have nothing.
	Other string
}

// readRules reads all IPv4 rules.
func readRules() (map[ipRule]bool, error) {
	var (
		found []netlink.Rule
		err   error
	)
	for range dumpTries {
		found, err = netlink.RuleList(unix.AF_INET)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read ip rules: %w", err)
	}
	rules := make(map[ipRule]bool, len(found))
	for _, r := range found {
		rules[fromKernelRule(r)] = true
	}
	return rules, nil
}

func fromKernelRule(r netlink.Rule) ipRule {
	out := ipRule{
		Priority: r.Priority, Src: fromIPNet(r.Src), Dst: fromIPNet(r.Dst), Iif: r.IifName, Mark: r.Mark,
		Proto: r.IPProto, Table: r.Table, Protocol: int(r.Protocol),
	}
	if r.SuppressIfgroup > 0 {
		out.NotInto = r.SuppressIfgroup
	}
	var other []string
	port := func(p *netlink.RulePortRange, to *int) {
		if p == nil {
			return
		}
		if *to = int(p.Start); p.Start != p.End {
			other = append(other, fmt.Sprintf("ports %d-%d", p.Start, p.End))
		}
	}
	port(r.Sport, &out.Sport)
	port(r.Dport, &out.Dport)
	if r.Mark != 0 && (r.Mask == nil || *r.Mask != r.Mark) {
		other = append(other, "mask")
	}
	if r.Invert || r.Tos != 0 || r.OifName != "" || r.Goto > 0 || r.SuppressPrefixlen > 0 || r.UIDRange != nil {
		other = append(other, "selectors that ours never have")
	}
	out.Other = strings.Join(other, ", ")
	return out
}

// toKernelRule is the message for a rule of ours.
func toKernelRule(r ipRule) *netlink.Rule {
	k := netlink.NewRule()
	k.Family = unix.AF_INET
	k.Priority, k.Table, k.Protocol = r.Priority, r.Table, uint8(r.Protocol)
	k.IifName, k.IPProto = r.Iif, r.Proto
	if r.Src.IsValid() {
		k.Src = ipNet(r.Src)
	}
	if r.Dst.IsValid() {
		k.Dst = ipNet(r.Dst)
	}
	if r.Mark != 0 {
		k.Mark, k.Mask = r.Mark, new(r.Mark)
	}
	if r.Sport != 0 {
		k.Sport = netlink.NewRulePortRange(uint16(r.Sport), uint16(r.Sport))
	}
	if r.Dport != 0 {
		k.Dport = netlink.NewRulePortRange(uint16(r.Dport), uint16(r.Dport))
	}
	if r.NotInto != 0 {
		k.SuppressIfgroup = r.NotInto
	}
	return k
}

func (d *Driver) addRule(r ipRule) error {
	if err := d.rt.RuleAdd(toKernelRule(r)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add ip rule %s: %w", r, err)
	}
	return nil
}

func (d *Driver) deleteRule(r ipRule) error {
	if err := d.rt.RuleDel(toKernelRule(r)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete ip rule %s: %w", r, err)
	}
	return nil
}

// syncRules makes have into want: adds first, so that nothing that stays
// allowed is refused meanwhile.
func (d *Driver) syncRules(have, want []ipRule) error {
	present := map[ipRule]bool{}
	for _, r := range have {
		present[r] = true
	}
	for _, r := range want {
		if present[r] {
			delete(present, r)
			continue
		}
		if err := d.addRule(r); err != nil {
			return err
		}
	}
	for _, r := range have {
		if !present[r] {
			continue
		}
		if err := d.deleteRule(r); err != nil {
			return err
		}
	}
	return nil
}

func (r ipRule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", r.Priority)
	add := func(cond bool, format string, v any) {
		if cond {
			fmt.Fprintf(&b, format, v)
		}
	}
	add(r.Src.IsValid(), " from %s", r.Src)
	add(r.Dst.IsValid(), " to %s", r.Dst)
	add(r.Iif != "", " iif %s", r.Iif)
	add(r.Mark != 0, " fwmark %#x", r.Mark)
	add(r.Proto != 0, " ipproto %d", r.Proto)
	add(r.Sport != 0, " sport %d", r.Sport)
	add(r.Dport != 0, " dport %d", r.Dport)
	add(true, " lookup %d", r.Table)
	return b.String()
}

// exceptionRules let a declared link pass the policy, both ways.
func (d *Driver) exceptionRules(e resource.Exception) []ipRule {
	base := ipRule{Priority: d.naming.RulePriority() - 1, Table: unix.RT_TABLE_MAIN, Protocol: protocol, Proto: protocolNumber(e.Protocol)}
	there, back := base, base
	there.Src, there.Dst, there.Dport = single(e.From), single(e.To), e.Port
	back.Src, back.Dst, back.Sport = single(e.To), single(e.From), e.Port
	return []ipRule{there, back}
}

// endpointRules let an endpoint reach the private networks that its egress
// names. They never lead into another machine's link.
func (d *Driver) endpointRules(e resource.Endpoint) []ipRule {
	base := ipRule{
		Priority: d.naming.RulePriority() - 1, Src: single(e.Addr),
		NotInto: d.group(), Table: unix.RT_TABLE_MAIN, Protocol: protocol,
	}
	if e.Egress == resource.EgressAll {
		return []ipRule{base}
	}
	var rules []ipRule
	seen := map[netip.Prefix]bool{}
	for _, a := range e.Allow {
		dst := a.Prefix.Masked()
		if seen[dst] || !overlapsPrivate(dst) {
			continue
		}
		seen[dst] = true
		r := base
		r.Dst = dst
		rules = append(rules, r)
	}
	return rules
}

// endpointRulesIn returns the found rules that endpointRules could have made, by address.
func (d *Driver) endpointRulesIn(rules map[ipRule]bool) map[netip.Addr][]ipRule {
	out := map[netip.Addr][]ipRule{}
	for r := range rules {
		if r.Protocol == protocol && r.Priority == d.naming.RulePriority()-1 && r.NotInto == d.group() && r.Src.IsSingleIP() {
			out[r.Src.Addr()] = append(out[r.Src.Addr()], r)
		}
	}
	return out
}

// exceptionsIn returns the exceptions of which at least one rule was found.
func (d *Driver) exceptionsIn(rules map[ipRule]bool) []resource.Exception {
	var out []resource.Exception
	for r := range rules {
		ours := r.Protocol == protocol && r.Priority == d.naming.RulePriority()-1 && r.NotInto == 0 &&
			r.Src.IsSingleIP() && r.Dst.IsSingleIP() && d.naming.Subnet.Contains(r.Src.Addr()) && protocolName(r.Proto) != ""
		switch {
		case !ours:
		case r.Dport != 0:
			out = append(out, resource.Exception{From: r.Src.Addr(), To: r.Dst.Addr(), Port: r.Dport, Protocol: protocolName(r.Proto)})
		case r.Sport != 0:
			out = append(out, resource.Exception{From: r.Dst.Addr(), To: r.Src.Addr(), Port: r.Sport, Protocol: protocolName(r.Proto)})
		}
	}
	return out
}

func fromIPNet(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
