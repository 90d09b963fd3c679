package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// policyName is the resource name of the one policy.
const policyName = "policy"

// policyRules lead what machines send to our table. What the host itself sends
// (iif lo, also its reverse path checks) and what belongs to a connection that
// nft let through (the mark) goes by the main table.
func (d *Driver) policyRules(v resource.Policy) []ipRule {
	subnet := v.Subnet.Masked()
	return []ipRule{
		{Priority: v.Priority - 1, Src: subnet, Mark: throughMark, Table: unix.RT_TABLE_MAIN, Protocol: protocol},
		{Priority: v.Priority, Src: subnet, Iif: "lo", Table: unix.RT_TABLE_MAIN, Protocol: protocol},
		{Priority: v.Priority + 1, Src: subnet, Table: v.Table, Protocol: protocol},
	}
}

// ownPolicyRules are the found rules of a policy of ours, whatever its subnet
// and priority: our table's number is a hash of the instance. The others are
// known by the subnets of those.
func (d *Driver) ownPolicyRules(k *kernel) []ipRule {
	subnets := map[netip.Prefix]bool{d.naming.Subnet.Masked(): true}
	var out []ipRule
	for r := range k.Rules {
		if r.Protocol == protocol && r.Table == d.naming.RoutingTable() {
			out = append(out, r)
			subnets[r.Src] = true
		}
	}
	for r := range k.Rules {
		if r.Protocol == protocol && r.Table == unix.RT_TABLE_MAIN && subnets[r.Src] && (r.Iif == "lo" || r.Mark == throughMark) {
			out = append(out, r)
		}
	}
	return out
}

func (d *Driver) ownPolicyRoutes(k *kernel) []hostRoute {
	var out []hostRoute
	for _, r := range k.Routes {
		if r.Table == d.naming.RoutingTable() {
			out = append(out, r)
		}
	}
	return out
}

// policyRoutes are the routes of our table.
func (d *Driver) policyRoutes() []hostRoute {
	base := hostRoute{Table: d.naming.RoutingTable(), Type: unix.RTN_BLACKHOLE, Protocol: protocol}
	var out []hostRoute
	for _, p := range privateRanges {
		r := base
		r.Dst = p
		out = append(out, r)
	}
	last := base
	last.Type, last.Dst = unix.RTN_THROW, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	return append(out, last)
}

func (d *Driver) observePolicy(k *kernel) resource.Domain {
	rules, routes := d.ownPolicyRules(k), d.ownPolicyRoutes(k)
	if len(rules) == 0 && len(routes) == 0 {
		return resource.Known()
	}
	return resource.Known(d.hostResource(policyName, d.policyOf(rules, routes)))
}

// policyOf is the policy that rules and routes make whole, else a zero one.
func (d *Driver) policyOf(rules []ipRule, routes []hostRoute) resource.Policy {
	var v resource.Policy
	for _, r := range rules {
		if r.Table == d.naming.RoutingTable() {
			v = resource.Policy{Subnet: r.Src, Table: r.Table, Priority: r.Priority - 1}
		}
	}
	if !sameSet(rules, d.policyRules(v)) || !sameSet(routes, d.policyRoutes()) {
		return resource.Policy{}
	}
	return v
}

func sameSet[T comparable](a, b []T) bool {
	in := make(map[T]bool, len(a))
	for _, x := range a {
		in[x] = true
	}
	for _, x := range b {
		if !in[x] {
			return false
		}
	}
	return len(a) == len(b)
}

// putPolicy fills the table before a rule leads to it.
func (d *Driver) putPolicy(v resource.Policy) error {
	if v.Table != d.naming.RoutingTable() {
		return fmt.Errorf("policy with routing table %d does not follow the naming of instance %q", v.Table, d.naming.Instance)
	}
	k, err := readKernel()
	if err != nil {
		return err
	}
	rules, routes := d.ownPolicyRules(k), d.ownPolicyRoutes(k)
	if d.policyOf(rules, routes) == v {
		return nil
	}
	if err := d.subnetConflict(k); err != nil {
		return err
	}
	if err := d.syncRoutes(routes, d.policyRoutes()); err != nil {
		return err
	}
	if err := d.syncRules(rules, d.policyRules(v)); err != nil {
		return err
	}
	d.log.Info("policy set", "subnet", v.Subnet.String(), "table", v.Table)
	return nil
}

// deletePolicy takes the rules away before the table that they lead to.
func (d *Driver) deletePolicy() error {
	k, err := readKernel()
	if err != nil {
		return err
	}
	if err := d.syncRules(d.ownPolicyRules(k), nil); err != nil {
		return err
	}
	return d.syncRoutes(d.ownPolicyRoutes(k), nil)
}

func (d *Driver) syncRoutes(have, want []hostRoute) error {
	present := map[hostRoute]bool{}
	for _, r := range have {
		present[r] = true
	}
	keep := map[hostRoute]bool{}
	for _, r := range want {
		keep[r] = true
	}
	for _, r := range have {
		if keep[r] {
			continue
		}
		if err := d.rt.RouteDel(r.message()); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route %s of table %d: %w", r.Dst, r.Table, err)
		}
	}
	for _, r := range want {
		if present[r] {
			continue
		}
		if err := d.rt.RouteReplace(r.message()); err != nil {
			return fmt.Errorf("add route %s to table %d: %w", r.Dst, r.Table, err)
		}
	}
	return nil
}

func (r hostRoute) message() *netlink.Route {
	return &netlink.Route{
		Table: r.Table, Dst: ipNet(r.Dst), Type: r.Type, Scope: netlink.Scope(r.Scope),
		Protocol: netlink.RouteProtocol(r.Protocol), LinkIndex: r.Link,
	}
}
