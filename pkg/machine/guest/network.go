package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
)

// waitNetwork returns once the machine's end of its link has the address, is up
// and carries the default route. The subscription comes before the first look,
// so that nothing is missed.
func waitNetwork(addr netip.Addr) error {
	if !addr.IsValid() {
		return nil
	}
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(events)
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV4_ROUTE)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		ok, err := networkReady(addr)
		if ok || err != nil {
			return err
		}
		// The content does not matter: look again. An overrun says the same.
		_, _, err = unix.Recvfrom(events, buf, 0)
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
}

func networkReady(addr netip.Addr) (bool, error) {
	ifi, err := net.InterfaceByName(handover.Interface)
	if err != nil {
		return false, nil // not moved in yet
	}
	if ifi.Flags&net.FlagUp == 0 {
		return false, nil
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return false, nil // gone between the two calls: an event follows
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(addr.AsSlice()) {
			return defaultRoute(ifi.Index)
		}
	}
	return false, nil
}

// defaultRoute reports whether IPv4's default route leads through the interface.
func defaultRoute(index int) (bool, error) {
	b, err := syscall.NetlinkRIB(unix.RTM_GETROUTE, unix.AF_INET)
	if err != nil {
		return false, err
	}
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return false, err
	}
	for _, m := range msgs {
		// rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg || m.Data[1] != 0 || m.Data[4] != unix.RT_TABLE_MAIN {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return false, err
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.RTA_OIF && len(a.Value) == 4 && int(binary.NativeEndian.Uint32(a.Value)) == index {
				return true, nil
			}
		}
	}
	return false, nil
}

// loopbackUp brings lo up unless nspawn did.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return err
	}
	if req.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
