package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// insideName is the name of a machine's interface.
const insideName = "host0"

// putAttachment moves the peer into the machine and configures it there; the
// address comes last: the machine's first process waits for it.
func (d *Driver) putAttachment(v resource.Attachment, owner string) error {
	l, present, err := readLink(v.Link.Name)
	if err != nil {
		return err
	}
	if !present {
		return fmt.Errorf("attach link %s: it is not there: %w", v.Link.Name, resource.ErrStale)
	}
	was, label, attached, ours := d.linkOwner(l)
	switch {
	case !ours:
		return d.linkConflict(l)
	case was != owner || label != v.Link.Label:
		return fmt.Errorf("attach link %s: it belongs to %s (%s): %w", l.Name, was, label, resource.ErrStale)
	case l.PeerAway && attached:
		return nil
	case l.PeerAway:
		return fmt.Errorf("attach link %s: its peer is in another namespace, not configured; the link is to be made anew: %w", l.Name, resource.ErrStale)
	}
	inside, err := machineNamespace(v)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := moveLink(l.PeerIndex, inside, insideName); err != nil {
		return fmt.Errorf("move the peer of link %s into machine %s (PID %d): %w", l.Name, v.Link.Label, v.Leader, err)
	}
	h, err := netlink.NewHandleAt(inside, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket in machine %s (PID %d): %w", v.Link.Label, v.Leader, err)
	}
	defer h.Close()
	if err := configureInside(h, v); err != nil {
		return fmt.Errorf("configure %s of machine %s: %w", insideName, v.Link.Label, err)
	}
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}
	if err := d.rt.LinkSetAlias(link, d.alias(owner, v.Link, true)); err != nil {
		return fmt.Errorf("mark link %s as attached: %w", l.Name, err)
	}
	d.log.V(1).Info("machine attached", "name", l.Name, "machine", v.Link.Label)
	return nil
}

// machineNamespace opens the network namespace of the machine's first process.
func machineNamespace(v resource.Attachment) (netns.NsHandle, error) {
	if v.Leader <= 0 {
		return netns.None(), fmt.Errorf("attach link %s: machine %s has no first process yet: %w", v.Link.Name, v.Link.Label, resource.ErrStale)
	}
	inside, err := netns.GetFromPid(v.Leader)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return netns.None(), fmt.Errorf("attach link %s: the first process %d of machine %s has ended: %w", v.Link.Name, v.Leader, v.Link.Label, resource.ErrStale)
	}
	if err != nil {
		return netns.None(), fmt.Errorf("open the network namespace of machine %s (PID %d): %w", v.Link.Label, v.Leader, err)
	}
	host, err := netns.Get()
	if err != nil {
		return netns.None(), errors.Join(fmt.Errorf("open the host's network namespace: %w", err), inside.Close())
	}
	defer host.Close()
	if inside.Equal(host) {
		return netns.None(), errors.Join(resource.Because("NoNetworkNamespace", fmt.Errorf(
			"attach link %s: the first process %d of machine %s is in the host's network namespace; it is not given an address there",
			v.Link.Name, v.Leader, v.Link.Label)), inside.Close())
	}
	return inside, nil
}

// moveLink moves an interface into a namespace and renames it, in one message.
func moveLink(index int, to netns.NsHandle, name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(index)
	req.AddData(header)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// delGroup deletes all interfaces of a group in one message.
func delGroup(group uint32) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func configureInside(h *netlink.Handle, v resource.Attachment) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	link, err := h.LinkByName(insideName)
	if err != nil {
		return fmt.Errorf("find %s: %w", insideName, err)
	}
	// IPv6 is closed at the host's end: without an address nothing waits for it.
	if err := h.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("keep IPv6 addresses away: %w", err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	index := link.Attrs().Index
	if err := h.NeighSet(permanent(index, v.Link.HostAddr)); err != nil {
		return fmt.Errorf("name the neighbour %s: %w", v.Link.HostAddr, err)
	}
	host := single(v.Link.HostAddr)
	if err := h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(host), Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("route %s: %w", host, err)
	}
	def := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if err := h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(def), Gw: v.Link.HostAddr.AsSlice()}); err != nil {
		return fmt.Errorf("route all through %s: %w", v.Link.HostAddr, err)
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(single(v.Link.Addr))}); err != nil {
		return fmt.Errorf("give it the address %s: %w", v.Link.Addr, err)
	}
	return nil
}
