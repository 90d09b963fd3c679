package v1alpha1

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (v *containerCheck) routes() {
	list := specPath.Child("routes")
	if len(v.spec.Routes) > 0 && v.host.Ingress.Mode == "none" {
		v.forbidden(list, "this host has no ingress (Host spec.ingress.mode is none)")
	}
	seen, modes := unique{}, map[string]string{}
	for i, r := range v.spec.Routes {
		p := list.Index(i)
		v.routeHost(p.Child("host"), r.Host)
		v.routePath(p.Child("path"), r)
		if r.Host != "" {
			v.unique(seen, r.PathType+" "+r.Host+r.Path, p)
		}
		v.routeTLS(p.Child("tls"), r, v.host)
		if mode, known := modes[r.Host]; known && mode != r.TLS {
			v.invalid(p.Child("tls"), r.TLS, "differs from the %s of another route on %s; a host name has one TLS mode", mode, r.Host)
		}
		modes[r.Host] = r.TLS
	}
}

func (v *containerCheck) routeHost(p *field.Path, host string) {
	if host == "" {
		v.required(p, "name the DNS name that requests ask for")
		return
	}
	v.hostPattern(p, host)
}

func (v *checker) routePath(p *field.Path, r Route) {
	switch {
	case hasControl(r.Path):
		v.forbidden(p, "holds a control character; a path is printable text on one line")
	case len(r.Path) > maxPath:
		v.forbidden(p, "has %d bytes; at most %d are possible", len(r.Path), maxPath)
	case !strings.HasPrefix(r.Path, "/"):
		v.invalid(p, r.Path, "must begin with '/'")
	case !urlPath.MatchString(r.Path):
		v.invalid(p, r.Path, "may hold letters, digits and ._~!$&'()+,;=:@/- only; '*' is not needed: Prefix matches all below the path")
	case r.Path != "/" && r.PathType == "Prefix" && strings.HasSuffix(r.Path, "/"):
		v.invalid(p, r.Path, "ends with '/'; write %q, which matches it and all below", strings.TrimRight(r.Path, "/"))
	case strings.TrimSuffix(path.Clean(r.Path), "/") != strings.TrimSuffix(r.Path, "/"):
		v.invalid(p, r.Path, "must be written in its shortest form: %q", path.Clean(r.Path))
	}
}

func (v *checker) routeTLS(p *field.Path, r Route, h *HostSpec) {
	if r.TLS != "off" && h.Ingress.HTTPSPort != nil && *h.Ingress.HTTPSPort == 0 {
		v.invalid(p, r.TLS, "is not possible: the ingress of this host serves no TLS (Host spec.ingress.httpsPort is 0); write off")
		return
	}
	if r.TLS == "acme" && strings.HasPrefix(r.Host, "*.") {
		v.invalid(p, r.TLS, "is not possible for %q: an authority proves such names by DNS only; write files, or name the hosts one by one", r.Host)
	}
	if r.TLS != "files" {
		return
	}
	for _, cert := range h.Ingress.Certificates {
		for _, pattern := range cert.Hosts {
			if MatchHost(pattern, r.Host) {
				return
			}
		}
	}
	v.invalid(p, r.TLS, "needs a certificate for %q, and no entry of Host spec.ingress.certificates covers it; add one, or write internal", r.Host)
}

func (v *containerCheck) network() {
	v.egress(specPath.Child("network", "egress"))
	list, seen := specPath.Child("network", "links"), unique{}
	for i, l := range v.spec.Network.Links {
		p := list.Index(i)
		v.otherObject(p.Child("to"), l.To, "link to")
		v.unique(seen, fmt.Sprintf("%s:%d/%s", l.To, l.Port, l.Protocol), p)
	}
	v.ports()
}

func (v *containerCheck) egress(p *field.Path) {
	e := v.spec.Network.Egress
	if e.Mode == "all" {
		v.needsTrust(p.Child("mode"), "reaching private networks (all)")
	}
	seen := unique{}
	subnet, _ := netip.ParsePrefix(v.host.Subnet)
	for i, entry := range e.Allow {
		at := p.Child("allow").Index(i)
		v.unique(seen, entry, at)
		d, err := ParseDestination(entry)
		switch {
		case err != nil:
			v.invalid(at, entry, "%v", err)
		case subnet.IsValid() && below4(subnet, d.Prefix):
			v.invalid(at, entry, "is a machine of this host (%s); name it in network.links", subnet)
		case d.Prefix.Addr().IsLoopback():
			v.invalid(at, entry, "is the loopback network, which every machine has its own of")
		case !d.Public():
			if !v.trusted() {
				v.invalid(at, entry, "is not on the public internet; it needs trust: trusted")
			}
		}
	}
}

// below4 reports whether p lies within the network.
func below4(network, p netip.Prefix) bool {
	return network.Contains(p.Addr()) && p.Bits() >= network.Bits()
}

type published struct {
	addr     netip.Addr
	port     int
	protocol string
	at       *field.Path
}

func (v *containerCheck) ports() {
	var taken []published
	if v.host.Ingress.Mode == "managed" {
		at := field.NewPath("the host's ingress")
		taken = append(taken, published{netip.IPv4Unspecified(), v.host.Ingress.HTTPPort, "tcp", at})
		if https := v.host.Ingress.HTTPSPort; https != nil && *https != 0 {
			taken = append(taken, published{netip.IPv4Unspecified(), *https, "tcp", at})
		}
	}
	for i, port := range v.spec.Network.Ports {
		p := specPath.Child("network", "ports").Index(i)
		if port.HostIP == "" {
			v.required(p.Child("hostIP"), "say on which address of the host it is published (0.0.0.0 for all, the internet included), or set Host spec.publishAddress")
			continue
		}
		addr, err := netip.ParseAddr(port.HostIP)
		if err != nil || !addr.Is4() {
			v.invalid(p.Child("hostIP"), port.HostIP, "must be an IPv4 address of the host, or 0.0.0.0 for all")
			continue
		}
		if addr.IsLoopback() {
			v.invalid(p.Child("hostIP"), port.HostIP, "cannot be a loopback address: the kernel does not route from it to a machine; on this host use the machine's own address (tekton get -o wide)")
			continue
		}
		mine := published{addr, port.HostPort, port.Protocol, p}
		for _, other := range taken {
			if mine.meets(other) {
				v.invalid(p.Child("hostPort"), port.HostPort, "on %s/%s is already used by %s", addr, port.Protocol, other.at)
				break
			}
		}
		taken = append(taken, mine)
	}
}

func (a published) meets(b published) bool {
	sameAddr := a.addr == b.addr || a.addr.IsUnspecified() || b.addr.IsUnspecified()
	return sameAddr && a.port == b.port && a.protocol == b.protocol
}

// probe checks how an instance answers; routed says that there is a route whose
// port is asked where the probe names none.
func (v *checker) probe(p *field.Path, probe *Probe, routed bool) {
	if probe == nil {
		return
	}
	switch {
	case probe.HTTP != nil && probe.TCP != nil:
		v.forbidden(p, "has http and tcp; an instance answers one probe")
	case probe.HTTP == nil && probe.TCP == nil && !routed:
		v.required(p, "say what answers: http: {path, port} or tcp: {port}; there is no route whose port could be taken")
	}
	if probe.HTTP != nil {
		at := p.Child("http", "path")
		if !strings.HasPrefix(probe.HTTP.Path, "/") {
			v.invalid(at, probe.HTTP.Path, "must begin with '/'")
		} else if strings.ContainsFunc(probe.HTTP.Path, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			v.forbidden(at, "holds a space or a control character; write it as %%20 and the like")
		}
	}
	least := Duration{time.Millisecond}
	v.duration(p.Child("timeout"), probe.Timeout, least)
	v.duration(p.Child("deadline"), probe.Deadline, least)
	v.duration(p.Child("interval"), probe.Interval, Duration{100 * time.Millisecond})
	if probe.Timeout != nil && probe.Deadline != nil && probe.Timeout.Duration > probe.Deadline.Duration {
		v.invalid(p.Child("timeout"), probe.Timeout.String(), "of one try must not be longer than the deadline for all (%s)", probe.Deadline)
	}
}
