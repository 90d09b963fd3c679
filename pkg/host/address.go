package host

import (
	"fmt"
	"net"
	"net/netip"
)

// HasAddress reports whether an interface of the host has the address.
func HasAddress(want netip.Addr) (bool, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == want {
			return true, nil
		}
	}
	return false, nil
}
