package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// emitRecord lets the object itself and those that declare a link to it resolve its name.
func (c *compiler) emitRecord(u *unitOf) {
	i := cmp.Or(u.Serving, u.Target)
	if i == nil || c.Host.DNS.Mode == "none" {
		return
	}
	if u.Serving == nil && c.answersUnknown() {
		c.hold(resource.ID{Kind: resource.KindRecord, Name: u.Record.Name})
		return
	}
	r := resource.Record{Label: u.Record.Name, Addr: c.Naming.Addr(i.Slot)}
	for _, from := range append([]*unitOf{u}, u.linkers...) {
		for _, fi := range from.incarnations() {
			r.Clients = append(r.Clients, c.Naming.Addr(fi.Slot))
		}
	}
	slices.SortFunc(r.Clients, netip.Addr.Compare)
	r.Clients = slices.Compact(r.Clients)
	// Names of the outside are a way out, too.
	if u.Spec.Network.Egress.Mode == string(resource.EgressNone) {
		for _, own := range u.incarnations() {
			r.NoForward = append(r.NoForward, c.Naming.Addr(own.Slot))
		}
	}
	c.want(resource.New(u.Record.UID, "", r.Label, r))
}

// emitRoutes claims (host, path) pairs and serves them once an incarnation has answered.
func (c *compiler) emitRoutes(u *unitOf) {
	spec := c.servingSpec(u)
	enabled := !u.Spec.Disabled()
	if u.Serving == nil && c.answersUnknown() {
		c.keepRoutes(u, enabled)
	}
	for _, r := range spec.Routes {
		exact := r.PathType == "Exact"
		name := resource.RouteName(r.Host, r.Path, exact)
		if owner := c.routedFor(name); owner != "" && owner != u.Record.UID {
			u.note(v1alpha1.ConditionRouteReady, v1alpha1.ConditionFalse, "RouteConflict",
				"%s%s is served for %s; remove the route there or here", r.Host, r.Path, c.nameOf(owner))
			continue
		}
		c.wantRecord(routePrefix+name, u.Record.UID, nil)
		u.URLs = append(u.URLs, c.Host.URL(r))
		if !enabled {
			continue
		}
		if u.Serving == nil {
			if c.answersUnknown() {
				c.hold(resource.ID{Kind: resource.KindRoute, Name: name})
			}
			continue
		}
		route := resource.Route{
			Host: r.Host, Path: r.Path, Exact: exact, StripPrefix: r.StripPrefix, TLS: resource.TLSMode(r.TLS),
			Backend: netip.AddrPortFrom(c.Naming.Addr(u.Serving.Slot), uint16(r.Port)),
			Label:   u.Record.Kind + "/" + u.Record.Name,
		}
		if u.gated() {
			route.Backend = netip.AddrPortFrom(c.Naming.Service(), resource.ActivatorPort)
			route.Gate, route.GatePort = u.Record.Name, r.Port
		}
		c.want(resource.New(u.Record.UID, "", name, route))
	}
}

// servingSpec is that of the incarnation that routes point to.
func (c *compiler) servingSpec(u *unitOf) *v1alpha1.ContainerSpec {
	return c.servedSpec(u, cmp.Or(u.Serving, u.Target))
}

// servedSpec is that of what an incarnation serves: of the target what is wanted,
// unless that is not set up yet.
func (c *compiler) servedSpec(u *unitOf, i *Incarnation) *v1alpha1.ContainerSpec {
	if u.Target == nil || i.Machine == u.Target.Machine && i.Served == nil {
		return u.effective
	}
	return c.specOf(u, i)
}

// keepRoutes keeps all routes that an object has claimed: it cannot be seen which
// incarnation serves, and thereby which of its specs holds. A disabled object
// keeps only the claims.
func (c *compiler) keepRoutes(u *unitOf, enabled bool) {
	for key, e := range c.Claims.All {
		name, isRoute := strings.CutPrefix(key, routePrefix)
		if !isRoute || e.Owner != u.Record.UID {
			continue
		}
		c.want(resource.New(e.Owner, "", key, e))
		if enabled {
			c.hold(resource.ID{Kind: resource.KindRoute, Name: name})
		}
	}
}

// answersUnknown reports whether it cannot be seen who has answered.
func (c *compiler) answersUnknown() bool {
	d, seen := c.Observed[resource.KindAnswer]
	return !seen || d.Err != nil
}

// routedFor is the owner of a route's claim: in the ledger, wanted earlier in this
// pass, or, should the ledger have lost it, whom the proxy serves it for.
func (c *compiler) routedFor(name string) string {
	if e, found := c.Claims.All[routePrefix+name]; found {
		return e.Owner
	}
	if r, found := c.out.Desired.Present[resource.ID{Kind: resource.KindClaim, Name: routePrefix + name}]; found {
		return r.Owner
	}
	r, _, _ := c.Observed.Get(resource.ID{Kind: resource.KindRoute, Name: name})
	return r.Owner
}

func (c *compiler) nameOf(uid string) string {
	if r, found := c.Claims.ByUID[uid]; found {
		return r.Kind + "/" + r.Name
	}
	for _, o := range c.Objects {
		if o.Record.UID == uid {
			return o.Record.Kind + "/" + o.Record.Name
		}
	}
	return "an object that is being deleted"
}
