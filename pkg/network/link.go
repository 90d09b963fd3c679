package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

const (
	// attachedWord ends the alias of a link whose peer is in its machine, with
	// everything that belongs there.
	attachedWord = "attached"
	// lookEvery is how often a link is looked at that is about to come or go.
	lookEvery = 100 * time.Microsecond
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
		_, err := d.makeLink(v, owner, onHost)
		return err
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
		_, err := d.makeLink(v, owner, onHost)
		return err
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
	return resource.Taken("InterfaceConflict", fmt.Errorf(
		"interface %s exists and has %s: it is left alone; remove it or give this daemon another Host.spec.instance", l.Name, whose))
}

// onHost is where a new peer goes that has no machine yet.
const onHost = netns.NsHandle(-1)

// makeLink makes the pair, with the peer on the host or, under its final name,
// in a machine's namespace.
func (d *Driver) makeLink(v resource.Link, owner string, inside netns.NsHandle) (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Group = v.Name, resource.MAC(v.HostAddr), uint32(d.group())
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: v.Peer, PeerHardwareAddr: resource.MAC(v.Addr)}
	names := []string{v.Name, v.Peer}
	if inside != onHost {
		pair.PeerName, pair.PeerNamespace = insideName, netlink.NsFd(inside)
		names = names[:1]
	}
	err = d.rt.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) {
		for _, name := range names {
			if l, present, readErr := readLink(name); readErr == nil && present {
				return 0, d.linkConflict(l)
			}
		}
	}
	if err != nil {
		return 0, fmt.Errorf("make link %s: %w", v.Name, err)
	}
	if err := d.configureLink(pair.Index, v, owner, false); err != nil {
		return 0, err
	}
	return pair.Index, nil
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

// linkSettings close the host's end of a link; index is where a link's message
// has the setting (IPV4_DEVCONF_RP_FILTER-1 ..., DEVCONF_DISABLE_IPV6 ...).
var linkSettings = []struct {
	family, key string
	index       int
	value       uint32
}{
	{"ipv6", "disable_ipv6", 26, 1},
	{"ipv6", "accept_ra", 3, 0},
	{"ipv4", "route_localnet", 25, 0},
	// The source check asks with the packet's mark, so that it agrees with the
	// route of what nft marked.
	{"ipv4", "src_valid_mark", 23, 1},
	{"ipv4", "rp_filter", 7, 1},
	// Requests are answered for the address on this link alone: by default a host
	// tells everybody which addresses it has anywhere.
	{"ipv4", "arp_ignore", 18, 1},
	{"ipv4", "accept_redirects", 3, 0},
	{"ipv4", "accept_source_route", 8, 0},
}

func secureLink(name string) error {
	for _, s := range linkSettings {
		path := filepath.Join("/proc/sys/net", s.family, "conf", name, s.key)
		err := os.WriteFile(path, strconv.AppendUint(nil, uint64(s.value), 10), 0)
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

// removeLink deletes the pair from the host's end: a namespace can outlive its
// processes. Deleting an attachment is the same.
func (d *Driver) removeLink(r resource.Resource) error {
	l, present, err := readLink(r.Name)
	if err != nil || !present {
		return err
	}
	owner, _, _, ours := d.linkOwner(l)
	if !ours {
		return d.linkConflict(l)
	}
	if owner != "" && r.Owner != "" && owner != r.Owner {
		return fmt.Errorf("link %s belongs to %s by now, not to %s: %w", r.Name, owner, r.Owner, resource.ErrStale)
	}
	return d.deleteLink(l)
}

// deleteLink returns as soon as the pair is gone. The kernel answers the
// request itself only after grace periods, about 20 ms later and without its
// lock: nobody has to wait for those.
func (d *Driver) deleteLink(l hostLink) error {
	answer := make(chan error, 1)
	go func() { answer <- netlink.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}) }()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for answered := false; ; {
		now, present, err := readLink(l.Name)
		if err != nil {
			return err
		}
		if !present || now.Index != l.Index {
			return nil
		}
		if answered {
			return fmt.Errorf("delete link %s: the kernel said yes, but it is still there", l.Name)
		}
		select {
		case err := <-answer:
			if err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("delete link %s: %w", l.Name, err)
			}
			answered = true
		case <-look.C:
		}
	}
}
