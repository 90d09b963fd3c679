package network

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// cut matches the tracked connections that a change takes away. The rules
// do not ask an established connection again, so it is forgotten here.
type cut struct {
	all  map[netip.Addr]bool    // machines that are no longer known
	from map[netip.Addr]bool    // machines that may reach less
	to   map[netip.Addr]bool    // machines that publish less
	link map[[2]netip.Addr]bool // declared links that are gone
}

var _ netlink.CustomConntrackFilter = (*cut)(nil)

// newCut collects what the changes take away.
func newCut(all []pending) *cut {
	c := &cut{all: map[netip.Addr]bool{}, from: map[netip.Addr]bool{}, to: map[netip.Addr]bool{}, link: map[[2]netip.Addr]bool{}}
	for _, p := range all {
		kept := map[identity]bool{}
		wider := map[netip.Addr]bool{}
		for _, e := range p.change.add {
			kept[e.identity()] = e.Set.data == nil
			if a, _ := e.owner(); e.Set == setEverywhere {
				wider[a] = true
			}
		}
		for _, e := range p.change.remove {
			if !kept[e.identity()] {
				c.lose(e, wider)
			}
		}
	}
	return c
}

func (c *cut) lose(e element, wider map[netip.Addr]bool) {
	a, _ := e.owner()
	switch e.Set {
	case setBound:
		c.all[a] = true
	case setPublish, setPublishAny:
		c.to[a] = true
	case setLinks:
		x := exceptionOf(e)
		c.link[[2]netip.Addr{x.From, x.To}] = true
	case setCovered:
	default:
		if !wider[a] {
			c.from[a] = true
		}
	}
}

func (c *cut) empty() bool { return len(c.all)+len(c.from)+len(c.to)+len(c.link) == 0 }

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (c *cut) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	addr := func(ip []byte) netip.Addr {
		a, _ := netip.AddrFromSlice(ip)
		return a.Unmap()
	}
	src, dst, answering := addr(f.Forward.SrcIP), addr(f.Forward.DstIP), addr(f.Reverse.SrcIP)
	published := c.to[answering] && dst != answering
	return c.all[src] || c.all[answering] || c.from[src] || published || c.link[[2]netip.Addr{src, answering}]
}

// cutConnections forgets the connections that the steps take away.
func (d *Driver) cutConnections(all []pending) {
	c := newCut(all)
	if c.empty() {
		return
	}
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, c)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		d.log.Info("connections that are no longer allowed may go on until they end", "reason", err.Error())
	}
}
