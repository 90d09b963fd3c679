package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// endpoint renders what the firewall knows of an instance. Only the instance
// that is to stay publishes host ports.
func (c *compiler) endpoint(u *unitOf, s *v1alpha1.ContainerSpec, i *Incarnation, publishes bool) resource.Endpoint {
	e := resource.Endpoint{
		Link: i.Link, Addr: c.Naming.Addr(i.Slot), Egress: resource.EgressMode(s.Network.Egress.Mode), Database: len(c.madeFor(u, i, s).Databases) > 0,
	}
	for _, a := range s.Network.Egress.Allow {
		if d, err := v1alpha1.ParseDestination(a); err == nil { // validated with the spec
			e.Allow = append(e.Allow, resource.PeerRule(d))
		}
	}
	slices.SortFunc(e.Allow, func(a, b resource.PeerRule) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	e.Allow = slices.Compact(e.Allow)
	if publishes {
		e.Publish = c.publish(u, s)
	}
	return e
}

// publish claims the host ports of a spec and returns those that are ours.
func (c *compiler) publish(u *unitOf, s *v1alpha1.ContainerSpec) []resource.Publish {
	var out []resource.Publish
	for _, p := range s.Network.Ports {
		ip, err := netip.ParseAddr(cmp.Or(p.HostIP, c.Host.PublishAddress))
		if err != nil {
			continue // refused by validation
		}
		pub := resource.Publish{HostIP: ip, HostPort: p.HostPort, Port: cmp.Or(p.Port, p.HostPort), Protocol: p.Protocol}
		if by := c.ports.conflict(c, pub, u.Record.UID); by != "" {
			u.note(v1alpha1.ConditionNetworkReady, v1alpha1.ConditionFalse, "PortConflict",
				"port %d/%s of %s is taken by %s; choose another hostPort", p.HostPort, p.Protocol, ip, by)
			continue
		}
		c.wantRecord(portKey(pub), u.Record.UID, nil)
		c.ports.add(pub, u.Record.UID)
		out = append(out, pub)
	}
	slices.SortFunc(out, func(a, b resource.Publish) int {
		return cmp.Or(a.HostIP.Compare(b.HostIP), cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

func portKey(p resource.Publish) string {
	return fmt.Sprintf("%s%s:%d/%s", portPrefix, p.HostIP, p.HostPort, p.Protocol)
}

// portTable finds the owner of a host port. 0.0.0.0 overlaps every address.
type portTable map[string][]portClaim

type portClaim struct {
	ip    netip.Addr
	owner string
}

func (t portTable) add(p resource.Publish, owner string) {
	k := fmt.Sprintf("%d/%s", p.HostPort, p.Protocol)
	t[k] = append(t[k], portClaim{p.HostIP, owner})
}

func (t portTable) conflict(c *compiler, p resource.Publish, uid string) string {
	if p.Protocol == "tcp" && c.Host.Ingress.Mode != "none" {
		https := 0
		if c.Host.Ingress.HTTPSPort != nil {
			https = *c.Host.Ingress.HTTPSPort
		}
		if p.HostPort == c.Host.Ingress.HTTPPort || p.HostPort == https {
			return "the ingress"
		}
	}
	for _, o := range t[fmt.Sprintf("%d/%s", p.HostPort, p.Protocol)] {
		if o.owner != uid && (o.ip == p.HostIP || o.ip.IsUnspecified() || p.HostIP.IsUnspecified()) {
			return c.nameOf(o.owner)
		}
	}
	return ""
}

// readPorts fills the table from the ledger, and, should that have lost a claim,
// from the firewall: the first claim wins.
func (c *compiler) readPorts() portTable {
	t := portTable{}
	for key, e := range c.Claims.All {
		rest, ok := strings.CutPrefix(key, portPrefix)
		if !ok {
			continue
		}
		addr, protocol, _ := strings.Cut(rest, "/")
		ap, err := netip.ParseAddrPort(addr)
		if err != nil {
			continue
		}
		t.add(resource.Publish{HostIP: ap.Addr(), HostPort: int(ap.Port()), Protocol: protocol}, e.Owner)
	}
	for _, r := range c.Observed[resource.KindEndpoint].Items {
		for _, p := range r.Value.(resource.Endpoint).Publish {
			if r.Owner != "" {
				t.add(p, r.Owner)
			}
		}
	}
	return t
}

// emitExceptions opens the declared links, from each of the object's instances
// to each instance of the target.
func (c *compiler) emitExceptions(u *unitOf) {
	for _, l := range u.effective.Network.Links {
		t := c.targets[l.To]
		if t == nil {
			u.note(v1alpha1.ConditionNetworkReady, v1alpha1.ConditionFalse, "LinkTargetMissing",
				"network.links names %q, but there is no such object (yet); the link opens when it appears", l.To)
			continue
		}
		for _, from := range u.incarnations() {
			for _, to := range t.incarnations() {
				e := resource.Exception{From: c.Naming.Addr(from.Slot), To: c.Naming.Addr(to.Slot), Port: l.Port, Protocol: l.Protocol}
				r := resource.New(u.Record.UID, "", resource.ExceptionName(e.From, e.To, e.Port, e.Protocol), e)
				// A slot that is not durably claimed may yet become somebody else's.
				if !c.durable(from) || !c.durable(to) {
					c.hold(r.ID)
					continue
				}
				c.want(r)
			}
		}
	}
}

// hostNeeds is what the objects of a host need of the host itself.
type hostNeeds struct {
	machines, routes, databases bool
	acme                        bool // a route whose certificate an authority gives
	activator                   bool // an object that may sleep
}

// addNeeds adds what an object needs.
func (c *compiler) addNeeds(h *hostNeeds, u *unitOf) {
	if u.RunsNoMachine() {
		return
	}
	h.machines = true
	h.databases = h.databases || len(u.Unused) > 0
	specs := []*v1alpha1.ContainerSpec{u.Spec, u.effective}
	// What runs, or serves again, may have been made for another spec.
	for _, i := range u.incarnations() {
		specs = append(specs, c.specOf(u, &i))
	}
	for _, s := range specs {
		if s != nil {
			h.routes = h.routes || len(s.Routes) > 0
			h.databases = h.databases || len(s.Databases) > 0
			h.activator = h.activator || len(s.Routes) > 0 && s.SleepAfter != nil && s.SleepAfter.Duration > 0
			h.acme = h.acme || slices.ContainsFunc(s.Routes, func(r v1alpha1.Route) bool { return r.TLS == string(resource.TLSACME) })
		}
	}
}

// hostResources are wanted as long as some object, also one that is being
// deleted, needs them. A host without objects is as it was before tekton.
func (c *compiler) hostResources(need hostNeeds) []resource.Resource {
	n, h := c.Naming, c.Host
	add := func(name string, v resource.Value) resource.Resource {
		return resource.New(resource.HostOwner, "", name, v)
	}
	cluster := add("postgres", resource.Cluster{Listen: netip.AddrPortFrom(n.Service(), uint16(h.Postgres.Port)), MaxConnections: h.Postgres.MaxConnections})
	if !need.machines && c.mute() {
		return []resource.Resource{cluster}
	}
	if !need.machines {
		return nil
	}
	table := resource.Table{Subnet: n.Subnet.Masked(), Service: n.Service()}
	rs := []resource.Resource{
		add("net.ipv4.ip_forward", resource.Sysctl{Key: "net.ipv4.ip_forward", Value: "1"}),
		add(n.Service().String(), resource.Address{Addr: n.Service()}),
		add("policy", resource.Policy{Subnet: n.Subnet.Masked(), Table: n.RoutingTable(), Priority: n.RulePriority()}),
	}
	if h.DNS.Mode != "none" {
		table.DNSPort = dnsPort
		rs = append(rs, add("dns", resource.Resolver{Listen: netip.AddrPortFrom(n.Service(), dnsPort), Domain: h.DNS.Domain, Upstreams: h.DNS.Upstreams, Resolved: h.DNS.Resolved}))
	}
	if h.Postgres.Mode != "none" {
		table.DatabasePort = h.Postgres.Port
		if need.databases || c.mute() {
			rs = append(rs, cluster)
		}
	}
	if h.Ingress.Mode != "none" {
		table.IngressPorts = []int{h.Ingress.HTTPPort}
		// Caddy's reload opens new listeners beside the old ones (SO_REUSEPORT).
		// Without this setting the kernel resets what waits to be accepted at the old ones.
		rs = append(rs, add(migrateSetting, resource.Sysctl{Key: migrateSetting, Value: "1"}))
		if need.routes {
			rs = append(rs, add("caddy", c.proxy(need.acme)))
		}
		if need.activator {
			rs = append(rs, add("activator", resource.Activator{Listen: netip.AddrPortFrom(n.Service(), resource.ActivatorPort)}))
		}
		if h.Ingress.HTTPSPort != nil && *h.Ingress.HTTPSPort != 0 {
			table.IngressPorts = append(table.IngressPorts, *h.Ingress.HTTPSPort)
		}
	}
	return append(rs, add(n.Table(), table))
}

// mute reports whether there is a PostgreSQL that cannot say what is in it: it
// is down, perhaps in the middle of its removal. It may go only when nothing of
// an object is in it any more, so it is brought up first.
func (c *compiler) mute() bool {
	cluster, roles := c.Observed[resource.KindCluster], c.Observed[resource.KindRole]
	return cluster.Err == nil && len(cluster.Items) > 0 && roles.Err != nil
}

const (
	dnsPort        = 53
	migrateSetting = "net.ipv4.tcp_migrate_req"
)

func (c *compiler) proxy(acme bool) resource.Proxy {
	p := resource.Proxy{HTTPPort: c.Host.Ingress.HTTPPort, Domain: c.Host.Domain}
	if c.Host.Ingress.HTTPSPort != nil {
		p.HTTPSPort = *c.Host.Ingress.HTTPSPort
	}
	if c.Host.Ingress.GracePeriod != nil {
		p.GracePeriod = resource.Duration(c.Host.Ingress.GracePeriod.Duration)
	}
	if a := c.Host.Ingress.ACME; acme {
		p.ACME = resource.ACME{Directory: a.Directory, Email: a.Email, Roots: a.RootsFile}
	}
	for _, cert := range c.Host.Ingress.Certificates {
		p.Certificates = append(p.Certificates, resource.Certificate{Hosts: cert.Hosts, Cert: cert.CertFile, Key: cert.KeyFile})
	}
	return p
}

// keepHostClaim keeps the ledger's host-wide entries that outlive objects: the
// originals of settings while they are changed, and whose data lies around.
func (c *compiler) keepHostClaim(key string) {
	e := c.Claims.All[key]
	id := resource.ID{Kind: resource.KindClaim, Name: key}
	if _, wanted := c.out.Desired.Present[id]; wanted || e.Owner != resource.HostOwner || strings.HasPrefix(key, slotPrefix) {
		return
	}
	if rest, isData := strings.CutPrefix(key, dataPrefix); isData {
		if !c.dataGone(rest) || !c.trashed[rest] && !c.unused(rest) {
			c.wantRecord(key, resource.HostOwner, c.Claims.Data[rest]) // its source may have another name now
		}
		return
	}
	if name, isSysctl := strings.CutPrefix(key, SysctlKey("")); isSysctl {
		if _, present, known := observed[resource.Sysctl](c, name); known && !present && !c.wanted(resource.KindSysctl, name) {
			return
		}
	}
	c.want(resource.New(resource.HostOwner, "", key, e))
}

func (c *compiler) wanted(kind resource.Kind, name string) bool {
	_, found := c.out.Desired.Present[resource.ID{Kind: kind, Name: name}]
	return found
}

// unused reports whether the claim on data that is not there is of no use. While
// data is retained, its claim says whose source may adopt it; without, it is for
// an object that is about to make it. What PostgreSQL retains cannot be seen.
func (c *compiler) unused(key string) bool {
	d := c.Claims.Data[key]
	isDatabase := strings.HasPrefix(key, string(resource.KindDatabase)+"/")
	return !isDatabase && !c.Unread && !slices.ContainsFunc(c.Objects, func(o Object) bool { return o.Record.Kind == d.Kind && o.Record.Name == d.Name })
}

// dataGone reports whether data has left the host.
func (c *compiler) dataGone(key string) bool {
	kind, name, _ := strings.Cut(key, "/")
	_, present, known := c.Observed.Get(resource.ID{Kind: resource.Kind(kind), Name: name})
	return known && !present
}
