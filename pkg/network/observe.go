package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// Observe implements resource.Driver: five dumps, and the nft sets when their
// generation changed.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	out := map[resource.Kind]resource.Domain{resource.KindSysctl: d.observeSysctls()}
	unknown := func(err error, kinds ...resource.Kind) {
		for _, k := range kinds {
			out[k] = resource.Unknown(err)
		}
	}
	k, err := readKernel()
	if err != nil {
		unknown(err, resource.KindAddress, resource.KindPolicy, resource.KindEndpoint, resource.KindException, resource.KindLink, resource.KindAttachment)
	} else {
		out[resource.KindAddress] = d.observeAddress(k)
		out[resource.KindPolicy] = d.observePolicy(k)
		out[resource.KindLink], out[resource.KindAttachment] = d.observeLinks(k)
	}
	t, tableErr := d.rules.read()
	if tableErr != nil {
		unknown(tableErr, resource.KindTable, resource.KindEndpoint, resource.KindException)
		return out
	}
	out[resource.KindTable] = d.observeTable(t)
	if err == nil {
		out[resource.KindEndpoint], out[resource.KindException] = d.observeAllowed(t, k.Rules)
	}
	return out
}

// allowed keeps what was made of one reading of table and rules.
type allowed struct {
	mu                    sync.Mutex
	table                 *table
	rules                 map[ipRule]bool
	endpoints, exceptions resource.Domain
}

// observeAllowed makes endpoints and exceptions of the elements and rules, or
// returns what it made of the same ones before: on a host with many machines
// that is most of a pass.
func (d *Driver) observeAllowed(t *table, rules map[ipRule]bool) (endpoints, exceptions resource.Domain) {
	a := &d.allowed
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.table != t || !maps.Equal(a.rules, rules) {
		a.table, a.rules = t, rules
		a.endpoints, a.exceptions = d.observeEndpoints(t, rules), d.observeExceptions(t, rules)
	}
	return resource.Domain{Items: maps.Clone(a.endpoints.Items)}, resource.Domain{Items: maps.Clone(a.exceptions.Items)}
}

func (d *Driver) hostResource(name string, v resource.Value) resource.Resource {
	return resource.New(resource.HostOwner, "", name, v)
}

func (d *Driver) observeTable(t *table) resource.Domain {
	if !t.present || !d.owns(t) {
		return resource.Known()
	}
	v, digest, ok := parseAbout(t.notes)
	if !ok || digest != t.digest {
		v = resource.Table{}
	}
	return resource.Known(d.hostResource(d.naming.Table(), v))
}

// owns reports whether the table carries our installation's mark.
func (d *Driver) owns(t *table) bool {
	m, ok := resource.ParseMark(t.comment)
	return ok && m.Installation == d.installation
}

// observeEndpoints groups the elements and rules by address, so that what is
// left of an endpoint is seen also when its main element is gone.
func (d *Driver) observeEndpoints(t *table, rules map[ipRule]bool) resource.Domain {
	var elements map[netip.Addr][]element
	if d.owns(t) {
		elements = t.machines
	}
	found := d.endpointRulesIn(rules)
	addrs := slices.Collect(maps.Keys(elements))
	for a := range found {
		if _, ok := elements[a]; !ok && d.naming.Subnet.Contains(a) {
			addrs = append(addrs, a)
		}
	}
	items := make([]resource.Resource, 0, len(addrs))
	for _, a := range addrs {
		e, note := endpointOf(a, elements[a])
		d.withoutRules(&e, found[a])
		owner, instance := parseComment(note, d.installation)
		items = append(items, resource.New(owner, instance, d.linkName(a), e))
	}
	return resource.Known(items...)
}

// withoutRules takes out of an observed endpoint what its ip rules do not give it.
func (d *Driver) withoutRules(e *resource.Endpoint, found []ipRule) {
	want := d.endpointRules(*e)
	for _, r := range want {
		if slices.Contains(found, r) {
			continue
		}
		if e.Egress == resource.EgressAll {
			e.Egress = ""
			return
		}
		e.Allow = slices.DeleteFunc(e.Allow, func(a resource.PeerRule) bool { return a.Prefix == r.Dst })
	}
	if slices.ContainsFunc(found, func(r ipRule) bool { return !slices.Contains(want, r) }) {
		e.Egress = "" // more is open than the elements say
	}
}

// linkName is the name of the link whose machine has the address.
func (d *Driver) linkName(a netip.Addr) string {
	if !d.naming.Subnet.Contains(a) {
		return a.String()
	}
	base, at := d.naming.Subnet.Masked().Addr().As4(), a.As4()
	offset := 0
	for i := range at {
		offset = offset<<8 + int(at[i]) - int(base[i])
	}
	return d.naming.Link(offset / 2)
}

func (d *Driver) observeExceptions(t *table, rules map[ipRule]bool) resource.Domain {
	found := map[resource.Exception]resource.Resource{}
	for _, e := range d.exceptionsIn(rules) {
		// Only one half of it, unless the element below completes it.
		found[e] = resource.New("", "", exceptionName(e), resource.Exception{From: e.From, To: e.To})
	}
	if d.owns(t) {
		for _, el := range t.links {
			e := exceptionOf(el)
			owner, instance := parseComment(el.Comment, d.installation)
			r := resource.New(owner, instance, exceptionName(e), e)
			if slices.ContainsFunc(d.exceptionRules(e), func(w ipRule) bool { return !rules[w] }) {
				r.Value = resource.Exception{From: e.From, To: e.To}
			}
			found[e] = r
		}
	}
	return resource.Known(slices.Collect(maps.Values(found))...)
}

// observeLinks reads our veth pairs. One missing fact makes the value differ.
func (d *Driver) observeLinks(k *kernel) (links, attachments resource.Domain) {
	var ls, as []resource.Resource
	facts := d.linkFacts(k)
	for _, l := range k.Links {
		owner, label, attached, ours := d.linkOwner(l)
		if !ours {
			continue
		}
		v := d.linkValue(facts, l, label)
		if l.PeerAway && !attached {
			v.Peer = "" // lost, or on its way when a daemon died
		}
		ls = append(ls, resource.New(owner, label, l.Name, v))
		if l.PeerAway && attached {
			as = append(as, resource.New(owner, label, l.Name, resource.Attachment{Link: v, Service: d.naming.Service()}))
		}
	}
	return resource.Known(ls...), resource.Known(as...)
}

// linkFacts indexes what links have.
type linkFacts struct {
	addrs  map[int][]netip.Prefix
	routes map[int][]hostRoute
	neighs map[neighbour]bool
}

func (d *Driver) linkFacts(k *kernel) linkFacts {
	f := linkFacts{addrs: map[int][]netip.Prefix{}, routes: map[int][]hostRoute{}, neighs: k.Neighs}
	for _, a := range k.Addrs {
		f.addrs[a.Index] = append(f.addrs[a.Index], a.Addr)
	}
	for _, r := range k.Routes {
		if r.Protocol == protocol && r.Table == unix.RT_TABLE_MAIN && r.Link != 0 {
			f.routes[r.Link] = append(f.routes[r.Link], r)
		}
	}
	return f
}

// linkValue is the link as far as the kernel has its facts.
func (d *Driver) linkValue(f linkFacts, l hostLink, label string) resource.Link {
	slot, ok := d.slot(l.Name)
	if !ok {
		return resource.Link{Name: l.Name, Label: label}
	}
	host, addr := d.naming.HostAddr(slot), d.naming.Addr(slot)
	v := resource.Link{Name: l.Name, Peer: d.naming.Peer(slot), Label: label}
	if slices.Equal(f.addrs[l.Index], []netip.Prefix{single(host)}) && l.Up && l.Group == uint32(d.group()) &&
		l.Secured && l.MAC == string(resource.MAC(host)) {
		v.HostAddr = host
	}
	route := slices.ContainsFunc(f.routes[l.Index], func(r hostRoute) bool { return r.Dst == single(addr) && r.Src == host })
	if route && f.neighs[neighbour{l.Index, addr, string(resource.MAC(addr))}] {
		v.Addr = addr
	}
	return v
}

// linkOwner says whose link it is. A link of ours that has no alias yet, made
// when a daemon died, is known by its group and hardware address.
func (d *Driver) linkOwner(l hostLink) (owner, label string, attached, ours bool) {
	slot, ok := d.slot(l.Name)
	if !ok {
		return "", "", false, false
	}
	if l.Alias == "" {
		return "", "", false, l.Group == uint32(d.group()) && l.MAC == string(resource.MAC(d.naming.HostAddr(slot)))
	}
	m, ok := resource.ParseMark(l.Alias)
	if !ok || m.Installation != d.installation {
		return "", "", false, false
	}
	words := strings.Fields(l.Alias)
	if len(words) > 1 {
		label = words[1]
	}
	return m.Owner, label, len(words) > 2 && words[2] == attachedWord, true
}

// slot is the number in a link's name.
func (d *Driver) slot(name string) (int, bool) {
	rest, ok := strings.CutPrefix(name, d.naming.LinkPrefix())
	if !ok || rest == "" || len(rest) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range rest {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, d.naming.Link(n) == name
}
