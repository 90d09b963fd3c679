package ingress

import (
	"errors"
	"fmt"
	"strings"

	"tekton.host/pkg/resource"
)

// Reasons of conditions that this package sets.
const (
	reasonRefused       = "RouteRefused"
	reasonTLSConflict   = "TLSConflict"
	reasonTLSOff        = "TLSUnavailable"
	reasonNoCertificate = "CertificateMissing"
	reasonDown          = "IngressDown"
	reasonPort          = "PortInUse"
	reasonUser          = "UserMissing"
	reasonProxy         = "ProxyRefused"
	reasonCaddyfile     = "CaddyfileRefused"
	reasonImport        = "ImportMissing"
	reasonConflict      = "RouteConflict"
)

// checkRoute refuses what must not reach a Caddyfile, whoever let it through.
func checkRoute(v resource.Route) error {
	host, _ := strings.CutPrefix(v.Host, wild)
	if err := errors.Join(checkHost(host), checkPath(v.Path)); err != nil {
		return resource.Terminal(reasonRefused, err)
	}
	if !v.Backend.IsValid() || v.Backend.Port() == 0 {
		return resource.Terminal(reasonRefused, fmt.Errorf("backend %s of host %q is no address with a port", v.Backend, v.Host))
	}
	if v.Gate != "" && (checkHost(v.Gate) != nil || v.GatePort <= 0) {
		return resource.Terminal(reasonRefused, fmt.Errorf("gate %q of host %q is no name with a port", v.Gate, v.Host))
	}
	return nil
}

// wild begins a host that stands for every name one label below the rest.
const wild = "*."

func checkHost(host string) error {
	bad := host == "" || len(host) > 253
	for l := range strings.SplitSeq(host, ".") {
		bad = bad || l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-'
		bad = bad || strings.ContainsFunc(l, func(r rune) bool { return r != '-' && (!isAlnum(r) || r >= 'A' && r <= 'Z') })
	}
	if bad {
		return fmt.Errorf("route host %q must be a DNS name in lower case", host)
	}
	return nil
}

// checkPath admits the characters of a URL path (RFC 3986 pchar) but "%" and
// "*": what matches is the decoded path, and nothing here is a pattern.
func checkPath(path string) error {
	ok := strings.HasPrefix(path, "/") && len(path) <= 1024
	for _, r := range path {
		ok = ok && (isAlnum(r) || strings.ContainsRune("/-._~!$&'()+,;=:@", r))
	}
	for s := range strings.SplitSeq(path, "/") {
		ok = ok && s != "." && s != ".."
	}
	if !ok || strings.Contains(path, "//") {
		return fmt.Errorf("route path %q must begin with / and consist of letters, digits and -._~!$&'()+,;=:@ without empty, . or .. segments", path)
	}
	return nil
}

// checkTLS says whether the proxy can serve the route's TLS mode.
func (g *generation) checkTLS(v resource.Route) error {
	switch v.TLS {
	case resource.TLSOff:
		return nil
	case resource.TLSInternal, resource.TLSFiles, resource.TLSACME:
	default:
		return resource.Terminal(reasonRefused, fmt.Errorf("TLS mode %q of host %q is unknown", v.TLS, v.Host))
	}
	if g.Proxy.HTTPSPort == 0 {
		return resource.Terminal(reasonTLSOff, fmt.Errorf("host %q asks for TLS %q, but the ingress serves no TLS: set Host.spec.ingress.httpsPort", v.Host, v.TLS))
	}
	if v.TLS == resource.TLSACME && g.Proxy.ACME.Directory == "" {
		return resource.Because(reasonTLSOff, fmt.Errorf("host %q asks for a certificate of an authority, and the ingress has none yet", v.Host))
	}
	if v.TLS == resource.TLSACME && strings.HasPrefix(v.Host, wild) {
		return resource.Terminal(reasonRefused, fmt.Errorf("host %q: an authority proves such names by DNS only", v.Host))
	}
	if v.TLS == resource.TLSFiles {
		_, err := g.certificate(v.Host)
		return err
	}
	return nil
}

// certificate returns the first usable certificate for host.
func (g *generation) certificate(host string) (certificate, error) {
	var why error
	for _, want := range g.Proxy.Certificates {
		if !covers(want, host) {
			continue
		}
		c, ok := g.imported(want)
		if !ok {
			why = errors.Join(why, fmt.Errorf("certificate %s with key %s cannot be used", want.Cert, want.Key))
			continue
		}
		if err := c.valid(host); err != nil {
			why = errors.Join(why, fmt.Errorf("certificate %s: %w", want.Cert, err))
			continue
		}
		return c, nil
	}
	if why != nil { // files may be repaired without any change of a spec
		return certificate{}, resource.Because(reasonNoCertificate, fmt.Errorf("host %q: %w", host, why))
	}
	return certificate{}, resource.Terminal(reasonNoCertificate,
		fmt.Errorf("no entry of Host.spec.ingress.certificates matches host %q: add one, or use tls: internal", host))
}

func covers(c resource.Certificate, host string) bool {
	for _, pattern := range c.Hosts {
		parent, isWild := strings.CutPrefix(pattern, wild)
		_, rest, _ := strings.Cut(host, ".")
		if pattern == host || isWild && rest == parent {
			return true
		}
	}
	return false
}

// tlsConflicts returns an error for each route of names whose host has another
// TLS mode by a route that came before: one that is not among names, else the
// first by name.
func (g *generation) tlsConflicts(names []string) map[string]error {
	mode := map[string]entry{}
	fresh := make(map[string]bool, len(names))
	for _, n := range names {
		fresh[n] = true
	}
	for _, e := range g.sorted() {
		if _, ok := mode[e.Route.Host]; !ok && !fresh[e.Name] {
			mode[e.Route.Host] = e
		}
	}
	refused := map[string]error{}
	for _, e := range g.sorted() {
		first, ok := mode[e.Route.Host]
		if !ok {
			mode[e.Route.Host] = e
		} else if first.Route.TLS != e.Route.TLS {
			refused[e.Name] = resource.Taken(reasonTLSConflict, fmt.Errorf("host %q has TLS %q by the route %s of %s; %q on the same host is not possible",
				e.Route.Host, first.Route.TLS, first.Name, first.Route.Label, e.Route.TLS))
		}
	}
	return refused
}
