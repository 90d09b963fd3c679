package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

const (
	// attachedWord ends the alias of a link whose peer is in its machine, with
	// everything that belongs there.
	attachedWord = "attached"
	// deleteTogether is from how many links on deletions share one grace period
	// of the kernel (about 20 ms each otherwise).
	deleteTogether = 2
)

func (d *Driver) alias(owner string, v resource.Link, attached bool) string {
	s := comment(d.mark(owner), v.Label)
	if attached {
		s += " " + attachedWord
	}
	return s
}

// putLink makes the pair, or repairs it in place.
func (d *Driver) putLink(v resource.Link, owner string) error {
	if slot, ok := d.slot(v.Name); !ok || d.naming.HostAddr(slot) != v.HostAddr || d.naming.Addr(slot) != v.Addr || v.Label == "" {
		return fmt.Errorf("link %q with addresses %s and %s and label %q does not follow the naming of instance %q", v.Name, v.HostAddr, v.Addr, v.Label, d.naming.Instance)
	}
	l, present, err := readLink(v.Name)
	if err != nil {
		return err
	}
	if !present {
		return d.makeLink(v, owner)
	}
	was, label, attached, ours := d.linkOwner(l)
	if !ours {
		return d.linkConflict(l)
	}
	lost := l.PeerAway && !(attached && was == owner && label == v.Label)
	if lost || l.MAC != string(resource.MAC(v.HostAddr)) {
		// Nothing can be put right at the other end from here.
		if err := d.deleteLink(l); err != nil {
			return err
		}
		return d.makeLink(v, owner)
	}
	return d.repairLink(l, v, owner, attached && l.PeerAway)
}

func (d *Driver) linkConflict(l hostLink) error {
	whose := "no mark of tekton"
	if m, ok := resource.ParseMark(l.Alias); ok {
		whose = "the mark of installation " + m.Installation
	} else if l.Alias != "" {
		whose = fmt.Sprintf("the alias %q", l.Alias)
	}
	return resource.Terminal("InterfaceConflict", fmt.Errorf(
		"interface %s exists and has %s: it is left alone; remove it or give this daemon another Host.spec.instance", l.Name, whose))
}

func (d *Driver) makeLink(v resource.Link, owner string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Group = v.Name, resource.MAC(v.HostAddr), uint32(d.group())
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: v.Peer, PeerHardwareAddr: resource.MAC(v.Addr)}
	err := d.rt.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) {
		for _, name := range []string{v.Name, v.Peer} {
			if l, present, readErr := readLink(name); readErr == nil && present {
				return d.linkConflict(l)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("make link %s: %w", v.Name, err)
	}
	if err := d.configureLink(pair.Index, v, owner, false); err != nil {
		return err
	}
	d.log.V(1).Info("link made", "name", v.Name, "machine", v.Label)
	return nil
}

// configureLink gives the host's end all that it has, in an order that loses no
// packet: the peer has no address before all of this is there.
func (d *Driver) configureLink(index int, v resource.Link, owner string, attached bool) error {
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index, Name: v.Name}}
	if err := d.rt.LinkSetAlias(link, d.alias(owner, v, attached)); err != nil {
		return fmt.Errorf("mark link %s: %w", v.Name, err)
	}
	if err := secureLink(v.Name); err != nil {
		return err
	}
	if err := d.rt.AddrReplace(link, &netlink.Addr{IPNet: ipNet(single(v.HostAddr))}); err != nil {
		return fmt.Errorf("give link %s the address %s: %w", v.Name, v.HostAddr, err)
	}
	if err := d.rt.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", v.Name, err)
	}
	if err := d.rt.NeighSet(permanent(index, v.Addr)); err != nil {
		return fmt.Errorf("name the neighbour %s of link %s: %w", v.Addr, v.Name, err)
	}
	route := &netlink.Route{
		LinkIndex: index, Dst: ipNet(single(v.Addr)), Src: v.HostAddr.AsSlice(),
		Scope: netlink.SCOPE_LINK, Protocol: protocol, Table: unix.RT_TABLE_MAIN,
	}
	if err := d.rt.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to link %s: %w", v.Addr, v.Name, err)
	}
	return nil
}

// secureLink closes IPv6 and checks sources on the host's end.
func secureLink(name string) error {
	for _, s := range []struct{ family, key, value string }{
		{"ipv6", "disable_ipv6", "1"},
		{"ipv6", "accept_ra", "0"},
		{"ipv4", "rp_filter", "1"},
	} {
		path := filepath.Join("/proc/sys/net", s.family, "conf", name, s.key)
		err := os.WriteFile(path, []byte(s.value), 0)
		if errors.Is(err, os.ErrNotExist) && s.family == "ipv6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("secure link %s: %w", name, err)
		}
	}
	return nil
}

func permanent(index int, a netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: a.AsSlice(), HardwareAddr: net.HardwareAddr(resource.MAC(a)),
	}
}

// repairLink changes only what differs.
func (d *Driver) repairLink(l hostLink, v resource.Link, owner string, attached bool) error {
	k, err := readKernel()
	if err != nil {
		return err
	}
	facts := d.linkFacts(k)
	if d.linkValue(facts, l, v.Label) == v && l.Alias == d.alias(owner, v, attached) {
		return nil
	}
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index, Name: l.Name}}
	if l.Group != uint32(d.group()) {
		if err := d.rt.LinkSetGroup(link, d.group()); err != nil {
			return fmt.Errorf("put link %s into our interface group: %w", l.Name, err)
		}
	}
	for _, a := range facts.addrs[l.Index] {
		if a == single(v.HostAddr) {
			continue
		}
		if err := d.rt.AddrDel(link, &netlink.Addr{IPNet: ipNet(a)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the address %s from link %s: %w", a, l.Name, err)
		}
	}
	d.log.Info("link repaired", "name", v.Name, "machine", v.Label)
	return d.configureLink(l.Index, v, owner, attached)
}

// deleteLinks deletes the pairs of the steps at the given indexes. A namespace
// can outlive its processes, so the host's end is always deleted from here.
func (d *Driver) deleteLinks(steps []resource.Step, indexes []int, errs []error) {
	var going []hostLink
	var at []int
	seen := map[string]bool{}
	for _, i := range indexes {
		r := steps[i].Resource
		l, present, err := readLink(r.Name)
		if err != nil || !present {
			errs[i] = err
			continue
		}
		owner, _, _, ours := d.linkOwner(l)
		switch {
		case !ours:
			errs[i] = d.linkConflict(l)
		case owner != "" && r.Owner != "" && owner != r.Owner:
			errs[i] = fmt.Errorf("link %s belongs to %s by now, not to %s: %w", r.Name, owner, r.Owner, resource.ErrStale)
		case !seen[l.Name]:
			seen[l.Name] = true
			going, at = append(going, l), append(at, i)
		}
	}
	if len(going) >= deleteTogether && d.deleteGroup(going) == nil {
		going = going[:0]
	}
	for n, l := range going {
		errs[at[n]] = d.deleteLink(l)
	}
}

// deleteGroup deletes links in one request. The nft table filters the group
// that they go through like our own.
func (d *Driver) deleteGroup(links []hostLink) error {
	for _, l := range links {
		if err := d.rt.LinkSetGroup(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}, d.leavingGroup()); err != nil && !gone(err) {
			return err
		}
	}
	if err := d.onlyInGroup(links); err != nil {
		return err
	}
	if err := delGroup(uint32(d.leavingGroup())); err != nil && !gone(err) {
		return err
	}
	for _, l := range links {
		if now, present, err := readLink(l.Name); err != nil || present && now.Index == l.Index {
			return fmt.Errorf("link %s is still there: %w", l.Name, err)
		}
	}
	return nil
}

// onlyInGroup makes sure that the group holds nothing but the given links.
func (d *Driver) onlyInGroup(links []hostLink) error {
	k, err := readKernel()
	if err != nil {
		return err
	}
	for _, found := range k.Links {
		if found.Group == uint32(d.leavingGroup()) && !slices.ContainsFunc(links, func(l hostLink) bool { return l.Index == found.Index }) {
			return fmt.Errorf("interface %s is in group %d and not ours", found.Name, found.Group)
		}
	}
	return nil
}

func (d *Driver) deleteLink(l hostLink) error {
	err := d.rt.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}})
	if err != nil && !gone(err) {
		return fmt.Errorf("delete link %s: %w", l.Name, err)
	}
	now, present, err := readLink(l.Name)
	if err != nil {
		return err
	}
	if present && now.Index == l.Index {
		return fmt.Errorf("delete link %s: the kernel said yes, but it is still there", l.Name)
	}
	return nil
}

func gone(err error) bool { return errors.Is(err, unix.ENODEV) }
