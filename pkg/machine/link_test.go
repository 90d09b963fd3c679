package machine_test

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tekton.host/pkg/resource"
)

// attach does what the network driver does: a veth pair with the peer inside.
func (r *rig) attach(i resource.Instance, leader int) {
	r.t.Helper()
	if err := r.tryAttach(i, leader); err != nil {
		r.t.Fatalf("attach %s: %v", i.Name, err)
	}
}

func (r *rig) tryAttach(i resource.Instance, leader int) error {
	name, peer := r.naming.Link(i.Slot), r.naming.Peer(i.Slot)
	if old, err := netlink.LinkByName(name); err == nil {
		netlink.LinkDel(old)
	}
	hostMAC, guestMAC := resource.MAC(r.naming.HostAddr(i.Slot)), resource.MAC(i.Addr)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: hostMAC}, PeerName: peer, PeerHardwareAddr: guestMAC}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := configure(nil, link, r.naming.HostAddr(i.Slot), i.Addr, guestMAC, false); err != nil {
		return err
	}
	ns, err := netns.GetFromPid(leader)
	if err != nil {
		return err
	}
	defer ns.Close()
	p, err := netlink.LinkByName(peer)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsFd(p, int(ns)); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	if p, err = h.LinkByName(peer); err != nil {
		return err
	}
	if err := h.LinkSetName(p, "host0"); err != nil {
		return err
	}
	return configure(h, p, i.Addr, r.naming.HostAddr(i.Slot), hostMAC, true)
}

// configure sets one end of a link up; h nil is the test's own namespace.
func configure(h *netlink.Handle, l netlink.Link, own, other netip.Addr, mac net.HardwareAddr, defaultRoute bool) error {
	if h == nil {
		var err error
		if h, err = netlink.NewHandle(); err != nil {
			return err
		}
		defer h.Close()
	}
	single := func(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }
	if err := h.AddrAdd(l, &netlink.Addr{IPNet: single(own)}); err != nil {
		return err
	}
	if err := h.LinkSetUp(l); err != nil {
		return err
	}
	index := l.Attrs().Index
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Dst: single(other), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: index, IP: other.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}); err != nil {
		return err
	}
	if !defaultRoute {
		return nil
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: other.AsSlice()})
}
