package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// insideName is the name of a machine's interface.
const insideName = "host0"

// workingPatience bounds the wait for both ends of a link to be up. Root of a
// machine can keep its end down, and all other changes wait meanwhile.
const workingPatience = time.Second

// putAttachment puts the peer into the machine and configures it there. The
// pair is made anew for that, with its peer in the machine: to move a peer
// holds the kernel's lock for links for a grace period (15 ms measured, for
// each machine one after the other), to make a pair takes less than one.
func (d *Driver) putAttachment(ctx context.Context, v resource.Attachment, owner string) error {
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
	}
	inside, err := machineNamespace(v)
	if err != nil {
		return err
	}
	defer inside.Close()
	h, err := netlink.NewHandleAt(inside, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket in machine %s (PID %d): %w", v.Link.Label, v.Leader, err)
	}
	defer h.Close()
	if err := d.deleteLink(l); err != nil {
		return err
	}
	index, err := d.makeLink(v.Link, owner, inside)
	if err != nil {
		return err
	}
	if err := configureInside(ctx, h, v.Link); err != nil {
		return fmt.Errorf("configure %s of machine %s: %w", insideName, v.Link.Label, err)
	}
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
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

// configureInside sets up the machine's end. The address comes last: the
// machine's first process waits for it, and finds everything else done.
func configureInside(ctx context.Context, h *netlink.Handle, v resource.Link) error {
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
	if err := h.NeighSet(permanent(index, v.HostAddr)); err != nil {
		return fmt.Errorf("name the neighbour %s: %w", v.HostAddr, err)
	}
	host := single(v.HostAddr)
	if err := h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(host), Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("route %s: %w", host, err)
	}
	def := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if err := h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(def), Gw: v.HostAddr.AsSlice()}); err != nil {
		return fmt.Errorf("route all through %s: %w", v.HostAddr, err)
	}
	if err := awaitWorking(ctx, h, v.Name); err != nil {
		return err
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(single(v.Addr))}); err != nil {
		return fmt.Errorf("give it the address %s: %w", v.Addr, err)
	}
	return nil
}

// awaitWorking waits, usually well below a millisecond, until the kernel has
// taken note that both ends are up. Before that it drops what is sent, and the
// first connection would be tried again only after a second: what takes longer
// than that is not waited for.
func awaitWorking(ctx context.Context, h *netlink.Handle, name string) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	enough := time.After(workingPatience)
	for {
		outside, present, err := readLink(name)
		if err != nil {
			return err
		}
		if !present {
			return fmt.Errorf("its other end is gone: %w", resource.ErrStale)
		}
		inside, err := h.LinkByName(insideName)
		if err != nil {
			return fmt.Errorf("look at it: %w", err)
		}
		if outside.Working && inside.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until both ends are up: %w", ctx.Err())
		case <-enough:
			return nil
		case <-look.C:
		}
	}
}
