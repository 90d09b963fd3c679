package network

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
)

// Traffic is what has gone through a machine's link, as the machine sees it.
type Traffic struct{ Received, Sent uint64 }

// Traffic reads the counters of all links of ours, by name.
func (d *Driver) Traffic() (map[string]Traffic, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("read the counters of links: %w", err)
	}
	out := map[string]Traffic{}
	for _, l := range links {
		a := l.Attrs()
		if strings.HasPrefix(a.Name, d.naming.LinkPrefix()) && a.Statistics != nil {
			// What the host's end sends, the machine receives.
			out[a.Name] = Traffic{Received: a.Statistics.TxBytes, Sent: a.Statistics.RxBytes}
		}
	}
	return out, nil
}
