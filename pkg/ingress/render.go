package ingress

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/resource"
)

// adminHost is what our requests to the admin socket name as host. Set as
// origin it is accepted by every version; 2.6 wants an empty one otherwise,
// which Go's client cannot send.
const adminHost = "tekton"

// errorPages serves every error of a server: errors raised in any site go to
// the error routes of the site without a host. It is text without placeholders
// but the label, which is ours.
const errorPages = `	handle_errors {
		header Content-Type "text/html; charset=utf-8"
		header Cache-Control no-store
		header X-Content-Type-Options nosniff
		@missing vars {http.error.status_code} 404
		handle @missing {
			respond "<!doctype html><title>Not found</title><h1>404 Not found</h1><p>Nothing is served at this address." 404
		}
		handle {
			header Retry-After 5
			respond "<!doctype html><title>Not available</title><h1>503 Not available</h1><p>{http.vars.label} does not answer at the moment." 503
		}
	}
`

// draft collects text and the first error.
type draft struct {
	strings.Builder
	err error
}

func (d *draft) linef(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *draft) quote(s string) string {
	q, err := quote(s)
	d.err = cmp.Or(d.err, err)
	return q
}

// files renders the generation's directory.
func (g *generation) files() (map[string]string, error) {
	main, errMain := g.main()
	manifest, errManifest := json.MarshalIndent(g, "", "  ")
	files := map[string]string{manifestFile: string(manifest) + "\n"}
	hosts := g.hosts()
	if len(hosts) > 0 {
		main += "\n"
	}
	for _, h := range slices.Sorted(maps.Keys(hosts)) {
		site, err := g.site(hosts[h])
		errMain = errors.Join(errMain, err)
		name := siteFile(h)
		files[name] = site
		main += "import " + name + "\n"
	}
	name := mainFile
	if g.Importer != "" {
		name = importedFile
	}
	files[name] = main
	return files, errors.Join(errMain, errManifest)
}

// siteFile of a host. An import takes "*" for a pattern; no name of a host has "_".
func siteFile(host string) string {
	return path.Join("sites", strings.Replace(host, "*", "_", 1)+".caddy")
}

// text renders the same configuration in one piece, as Caddy's admin API takes it.
func (g *generation) text() (string, error) {
	main, err := g.main()
	var b strings.Builder
	b.WriteString(main)
	hosts := g.hosts()
	for _, h := range slices.Sorted(maps.Keys(hosts)) {
		site, errSite := g.site(hosts[h])
		err = errors.Join(err, errSite)
		b.WriteString("\n" + site)
	}
	return b.String(), err
}

// hosts returns the routes by host name, in the order in which they are to match.
func (g *generation) hosts() map[string][]entry {
	hosts := map[string][]entry{}
	for _, e := range g.sorted() {
		hosts[e.Route.Host] = append(hosts[e.Route.Host], e)
	}
	for _, routes := range hosts {
		slices.SortStableFunc(routes, matchOrder)
	}
	return hosts
}

// matchOrder puts exact routes before prefixes and longer paths before shorter ones.
func matchOrder(a, b entry) int {
	if a.Route.Exact != b.Route.Exact {
		if a.Route.Exact {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(len(b.Route.Path), len(a.Route.Path)), cmp.Compare(a.Route.Path, b.Route.Path))
}

// main renders all but the sites.
func (g *generation) main() (string, error) {
	d := &draft{}
	d.linef("# %s", resource.Mark{Installation: g.Installation, Owner: resource.HostOwner})
	d.linef("# Written by tekton; what is changed here is overwritten.")
	secure := g.secureHosts()
	if g.Importer == "" {
		g.server(d, len(secure) > 0)
	}
	if len(secure) == 0 {
		return d.String(), d.err
	}
	for i, host := range secure {
		secure[i] = g.address("http", host)
	}
	port := ""
	if g.Proxy.HTTPSPort != 443 {
		port = fmt.Sprintf(":%d", g.Proxy.HTTPSPort)
	}
	d.linef("\n%s {\n\tredir https://{http.request.host}%s{http.request.uri} 308\n}", strings.Join(secure, ", "), port)
	return d.String(), d.err
}

// server is what belongs to no site: of a Caddy that is ours.
func (g *generation) server(d *draft, secure bool) {
	g.options(d)
	d.linef("(pages) {\n%s}\n", errorPages)
	d.linef("http:// {\n\timport pages\n\terror 404\n}")
	if secure {
		d.linef("\nhttps:// {\n\timport pages\n\terror 404\n}")
		g.unknownHosts(d)
	}
}

// address of a site. The ports of the host's own Caddy are said to it; ours has
// them in its options.
func (g *generation) address(scheme, host string) string {
	switch {
	case g.Importer == "":
		return scheme + "://" + host
	case scheme == "http":
		return fmt.Sprintf("http://%s:%d", host, g.Proxy.HTTPPort)
	}
	return fmt.Sprintf("https://%s:%d", host, g.Proxy.HTTPSPort)
}

func (g *generation) options(d *draft) {
	d.linef("{")
	d.linef("\tadmin %s {\n\t\torigins %s\n\t}", d.quote("unix/"+g.AdminSocket), adminHost)
	if atLeast(g.Caddy, 2, 7) {
		d.linef("\tpersist_config off")
	}
	d.linef("\tstorage file_system %s", d.quote(g.Storage))
	d.linef("\thttp_port %d", g.Proxy.HTTPPort)
	if g.Proxy.HTTPSPort != 0 {
		d.linef("\thttps_port %d", g.Proxy.HTTPSPort)
	}
	// local_certs: without it a name that no certificate covers would be asked of a public authority.
	d.linef("\tauto_https disable_redirects\n\tlocal_certs\n\tskip_install_trust")
	d.linef("\tgrace_period %s", time.Duration(g.Proxy.GracePeriod))
	d.linef("\tlog {\n\t\toutput stderr\n\t\tlevel WARN\n\t}")
	d.linef("\tservers {\n\t\tprotocols h1 h2\n\t}")
	d.linef("}\n")
}

// unknownHosts lets names below our domain have our 404 over TLS too.
func (g *generation) unknownHosts(d *draft) {
	if g.Proxy.Domain == "" || slices.Contains(g.secureHosts(), wild+g.Proxy.Domain) {
		return
	}
	tls := "internal"
	if c, err := g.certificate("unknown." + g.Proxy.Domain); err == nil {
		tls = c.tls(d)
	}
	if checkHost(g.Proxy.Domain) == nil {
		d.linef("\nhttps://*.%s {\n\ttls %s\n\terror 404\n}", g.Proxy.Domain, tls)
	}
}

// secureHosts returns the hosts that are served with TLS, sorted.
func (g *generation) secureHosts() []string {
	var hosts []string
	for _, e := range g.sorted() {
		if e.Route.TLS != resource.TLSOff {
			hosts = append(hosts, e.Route.Host)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// site renders the file of one host name; routes are in matching order.
func (g *generation) site(routes []entry) (string, error) {
	d := &draft{}
	for _, e := range routes {
		d.linef("# %s %s %s", resource.Mark{Installation: g.Installation, Owner: comment(e.Owner)}, comment(e.Route.Label), comment(e.Name))
	}
	first := routes[0].Route
	switch first.TLS {
	case resource.TLSOff:
		d.linef("%s {", g.address("http", first.Host))
	case resource.TLSInternal:
		d.linef("%s {\n\ttls internal", g.address("https", first.Host))
	case resource.TLSACME:
		d.linef("%s {", g.address("https", first.Host))
		g.issuer(d)
	default:
		c, err := g.certificate(first.Host)
		if err != nil {
			return "", err
		}
		d.linef("%s {\n\ttls %s", g.address("https", first.Host), c.tls(d))
	}
	if g.Importer != "" { // no catch-all site of ours is there to have them for all
		d.WriteString(errorPages)
	}
	if len(routes) == 1 && isRoot(first) {
		g.proxyTo(d, "\t", first)
	} else {
		g.handlers(d, routes)
	}
	d.linef("}")
	return d.String(), d.err
}

// issuer names the authority, and no other one: a name must not get its
// certificate from where the operator does not expect it.
func (g *generation) issuer(d *draft) {
	a := g.Proxy.ACME
	tls := "tls"
	if atLeast(g.Caddy, 2, 10) { // else the certificate of our own for *.DOMAIN would do for it
		tls = "tls force_automate"
	}
	d.linef("\t%s {\n\t\tissuer acme {\n\t\t\tdir %s", tls, d.quote(a.Directory))
	if a.Email != "" {
		d.linef("\t\t\temail %s", d.quote(a.Email))
	}
	if a.Roots != "" {
		d.linef("\t\t\ttrusted_roots %s", d.quote(a.Roots))
	}
	if g.Importer == "" { // the challenges come to our ports, whatever their numbers are
		d.linef("\t\t\talt_http_port %d\n\t\t\talt_tlsalpn_port %d", g.Proxy.HTTPPort, g.Proxy.HTTPSPort)
	}
	d.linef("\t\t}\n\t}")
}

func isRoot(v resource.Route) bool { return v.Path == "/" && !v.Exact }

func (g *generation) handlers(d *draft, routes []entry) {
	d.linef("\troute {") // keeps our order; Caddy would sort the handlers otherwise
	root := false
	for i, e := range routes {
		if isRoot(e.Route) {
			root = true
			d.linef("\t\thandle {")
		} else {
			d.linef("\t\t@r%d path_regexp %s\n\t\thandle @r%d {", i, d.quote(pattern(e.Route)), i)
		}
		if e.Route.StripPrefix && e.Route.Path != "/" {
			d.linef("\t\t\turi strip_prefix %s", d.quote(strings.TrimSuffix(e.Route.Path, "/")))
		}
		g.proxyTo(d, "\t\t\t", e.Route)
		d.linef("\t\t}")
	}
	if !root {
		d.linef("\t\thandle {\n\t\t\terror 404\n\t\t}")
	}
	d.linef("\t}")
}

// pattern is a regular expression because Caddy's path matcher does not tell
// upper case from lower, so that /API could be taken from the owner of /api.
func pattern(v resource.Route) string {
	if v.Exact {
		return "^" + regexp.QuoteMeta(v.Path) + "$"
	}
	return "^" + regexp.QuoteMeta(strings.TrimSuffix(v.Path, "/")) + "(/|$)"
}

// proxyTo leaves the headers to Caddy: Host passes, X-Forwarded-* are set from
// the connection and what a client sent of them is dropped.
func (g *generation) proxyTo(d *draft, indent string, v resource.Route) {
	d.linef("%svars label %s", indent, d.quote(label(v.Label)))
	var options []string
	if atLeast(g.Caddy, 2, 7) && v.Backend != (netip.AddrPort{}) {
		options = append(options, fmt.Sprintf("stream_close_delay %s", time.Duration(g.Proxy.GracePeriod)))
	}
	if v.Gate != "" { // in the place of what a client may have sent
		options = append(options, fmt.Sprintf("header_up %s %s", resource.GateHeader, d.quote(fmt.Sprintf("%s:%d", v.Gate, v.GatePort))))
	}
	d.linef("%sreverse_proxy %s%s", indent, d.quote(v.Backend.String()), block(indent, options))
}

// block of options, if there are some.
func block(indent string, options []string) string {
	if len(options) == 0 {
		return ""
	}
	return " {\n" + indent + "\t" + strings.Join(options, "\n"+indent+"\t") + "\n" + indent + "}"
}
