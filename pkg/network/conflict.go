package network

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// Clash names what on the host is in the way of ours: something in the subnet, a
// link or a table of our name. It changes nothing.
func (d *Driver) Clash() error {
	k, err := readKernel()
	if err != nil {
		return err
	}
	if err := d.subnetConflict(k); err != nil {
		return err
	}
	ours := map[int]bool{} // by index; a peer that is still on the host has no mark of its own
	for _, l := range k.Links {
		if d.ourLink(l) {
			ours[l.Index], ours[l.PeerIndex] = true, true
		}
	}
	for _, l := range k.Links {
		slot, ok := strings.CutPrefix(strings.TrimSuffix(l.Name, "p"), d.naming.LinkPrefix())
		if ok && slot != "" && strings.Trim(slot, "0123456789") == "" && !ours[l.Index] {
			return d.linkConflict(l)
		}
	}
	t, err := d.rules.read()
	if err != nil {
		return err
	}
	return d.tableConflict(t)
}

// subnetConflict names what of others uses a part of our subnet: an address, a
// route, or another installation's policy. Two daemons must not share one.
func (d *Driver) subnetConflict(k *kernel) error {
	subnet := d.naming.Subnet.Masked()
	refuse := func(what string) error {
		return resource.Taken("SubnetConflict", fmt.Errorf(
			"subnet %s overlaps %s; choose another Host.spec.subnet", subnet, what))
	}
	links := map[int]hostLink{}
	for _, l := range k.Links {
		links[l.Index] = l
	}
	for _, a := range k.Addrs {
		if a.Label != d.addressLabel() && subnet.Overlaps(a.Addr.Masked()) && !d.ourLink(links[a.Index]) {
			return refuse(fmt.Sprintf("the address %s of %s", a.Addr, describe(links[a.Index], a.Label)))
		}
	}
	for _, r := range k.Routes {
		if d.foreignRoute(r) && subnet.Overlaps(r.Dst) && !d.ourLink(links[r.Link]) {
			return refuse(fmt.Sprintf("the route to %s through %s", r.Dst, describe(links[r.Link], "")))
		}
	}
	for r := range k.Rules {
		if r.Protocol == protocol && r.Table > unix.RT_TABLE_LOCAL && r.Table != d.naming.RoutingTable() && r.Src.IsValid() && subnet.Overlaps(r.Src) {
			return refuse(fmt.Sprintf("the subnet %s of another installation on this host (ip rule %s)", r.Src, r))
		}
	}
	return d.policyConflict(k)
}

// policyConflict refuses a routing table that another instance, whose name has
// the same hash, uses: its service address still has its own label.
func (d *Driver) policyConflict(k *kernel) error {
	labels := map[netip.Addr]string{}
	for _, a := range k.Addrs {
		labels[a.Addr.Addr()] = a.Label
	}
	for r := range k.Rules {
		if r.Protocol != protocol || r.Table != d.naming.RoutingTable() || !r.Src.IsValid() {
			continue
		}
		other := resource.Naming{Subnet: r.Src}
		if label := labels[other.Service()]; strings.HasPrefix(label, "lo:tk") && label != d.addressLabel() {
			return resource.Taken("InstallationConflict", fmt.Errorf(
				"routing table %d is used by the installation with subnet %s and address label %s; give this daemon another Host.spec.instance",
				r.Table, r.Src, label))
		}
	}
	return nil
}

// foreignRoute leaves out routes that follow from addresses, that only refuse,
// and default routes.
func (d *Driver) foreignRoute(r hostRoute) bool {
	return r.Type == unix.RTN_UNICAST && r.Table != unix.RT_TABLE_LOCAL && r.Table != d.naming.RoutingTable() && r.Dst.Bits() > 0
}

func (d *Driver) ourLink(l hostLink) bool {
	_, _, _, ours := d.linkOwner(l)
	return ours
}

func describe(l hostLink, label string) string {
	name := l.Name
	if label != "" {
		name = label
	}
	if m, ok := resource.ParseMark(l.Alias); ok {
		return fmt.Sprintf("%s of installation %s", name, m.Installation)
	}
	if strings.HasPrefix(label, "lo:tk") {
		return fmt.Sprintf("%s, another instance of tekton", name)
	}
	return name
}
