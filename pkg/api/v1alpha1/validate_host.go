package v1alpha1

import (
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Kinds that a source may hold.
func Kinds() []string { return []string{KindAgent, KindContainer, KindPreview, KindRepository} }

// instanceName ends with a letter: link names are tk, instance, slot, and a
// digit at the end would make one daemon's tk1+2 another one's tk+12.
var instanceName = regexp.MustCompile(`^[a-z0-9]{0,3}[a-z]$`)

// unixName is a user's or group's name.
const unixName = "must be a name: a-z, 0-9, '-' and '_', beginning with a letter"

// Validate reports everything that is wrong with a defaulted host.
func (h *Host) Validate() field.ErrorList {
	v := &hostCheck{spec: &h.Spec}
	v.typeMeta(h.TypeMeta, KindHost)
	v.metadata(h.Metadata)
	v.tags(reflect.ValueOf(h.Spec), specPath)
	v.identity()
	v.addresses()
	v.ingress()
	v.services()
	v.nix()
	v.notifications()
	v.previews()
	v.sources()
	return v.errs
}

type hostCheck struct {
	checker
	spec *HostSpec
}

func (v *hostCheck) identity() {
	s := v.spec
	if s.Instance != "" && !instanceName.MatchString(s.Instance) {
		v.invalid(specPath.Child("instance"), s.Instance, "must be 1 to 4 characters a-z and 0-9, the last one a letter: names of links and units are made of it")
	}
	dirs := unique{}
	for _, d := range []struct{ name, value string }{{"stateDir", s.StateDir}, {"runDir", s.RunDir}, {"secretsDir", s.SecretsDir}} {
		p := specPath.Child(d.name)
		if v.absPath(p, d.value, "name a directory") && d.value == "/" {
			v.invalid(p, d.value, "must be a directory of tekton's own")
		}
		v.unique(dirs, d.value, p)
	}
	if !userName.MatchString(s.SocketGroup) {
		v.invalid(specPath.Child("socketGroup"), s.SocketGroup, "%s", unixName)
	}
	if s.ReadSocketGroup != "" && !userName.MatchString(s.ReadSocketGroup) {
		v.invalid(specPath.Child("readSocketGroup"), s.ReadSocketGroup, "%s", unixName)
	}
	if s.OperateSocketGroup != "" && !userName.MatchString(s.OperateSocketGroup) {
		v.invalid(specPath.Child("operateSocketGroup"), s.OperateSocketGroup, "%s", unixName)
	}
	v.duration(specPath.Child("trashFor"), s.TrashFor, Duration{})
	v.duration(specPath.Child("slotCooldown"), s.SlotCooldown, Duration{})
	if q := s.Runtime.LogMax; q != nil {
		v.size(specPath.Child("runtime", "logMax"), q)
	}
}

func (v *hostCheck) addresses() {
	s := v.spec
	p := specPath.Child("subnet")
	subnet, err := netip.ParsePrefix(s.Subnet)
	switch {
	case err != nil || !subnet.Addr().Is4():
		v.invalid(p, s.Subnet, "must be an IPv4 network such as 10.100.0.0/16")
	case subnet.Bits() < 16 || subnet.Bits() > 28:
		v.invalid(p, s.Subnet, "must be from /16 (32766 machines) to /28 (6 machines)")
	case subnet != subnet.Masked():
		v.invalid(p, s.Subnet, "has bits set beyond its mask; did you mean %s?", subnet.Masked())
	case !private(subnet):
		v.invalid(p, s.Subnet, "must lie in a private network (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10): machines could not reach the real owners of the addresses")
	}
	if a := s.Metrics.Address; a != "" {
		if at, err := netip.ParseAddrPort(a); err != nil || at.Port() == 0 {
			v.invalid(specPath.Child("metrics", "address"), a, "must be an address and a port such as 127.0.0.1:9842")
		}
	}
	if s.Domain != "" {
		v.domain(specPath.Child("domain"), s.Domain)
	}
	if s.PublishAddress != "" {
		if a, err := netip.ParseAddr(s.PublishAddress); err != nil || !a.Is4() {
			v.invalid(specPath.Child("publishAddress"), s.PublishAddress, "must be an IPv4 address of the host, or 0.0.0.0 for all")
		}
	}
}

func private(p netip.Prefix) bool {
	shared := netip.MustParsePrefix("100.64.0.0/10")
	return p.Addr().IsPrivate() || below4(shared, p)
}

func (v *hostCheck) ingress() {
	p, c := specPath.Child("ingress"), v.spec.Ingress
	if c.HTTPSPort != nil && *c.HTTPSPort == c.HTTPPort {
		v.invalid(p.Child("httpsPort"), *c.HTTPSPort, "is also the httpPort; one port speaks one protocol")
	}
	if c.HTTPSPort != nil && *c.HTTPSPort == 0 && c.TLS != "off" {
		v.invalid(p.Child("tls"), c.TLS, "needs an httpsPort, which is 0; write off, or set the port")
	}
	v.duration(p.Child("gracePeriod"), c.GracePeriod, Duration{})
	if !userName.MatchString(c.User) {
		v.invalid(p.Child("user"), c.User, "%s", unixName)
	}
	v.absPath(p.Child("caddyfile"), c.Caddyfile, "name the Caddyfile of the host's own Caddy")
	if _, _, err := c.AdminAddress(); err != nil {
		v.invalid(p.Child("admin"), c.Admin, "%v", err)
	}
	if u, err := url.Parse(c.ACME.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || hasControl(c.ACME.Directory) {
		v.invalid(p.Child("acme", "directory"), c.ACME.Directory, "must be https://HOST/PATH")
	}
	if a, err := mail.ParseAddress(c.ACME.Email); c.ACME.Email != "" && (err != nil || a.Address != c.ACME.Email) {
		v.invalid(p.Child("acme", "email"), c.ACME.Email, "must be an address such as admin@example.org")
	}
	if c.ACME.RootsFile != "" {
		v.absPath(p.Child("acme", "rootsFile"), c.ACME.RootsFile, "name a PEM file")
	}
	for i, cert := range c.Certificates {
		at := p.Child("certificates").Index(i)
		if len(cert.Hosts) == 0 {
			v.required(at.Child("hosts"), "name the hosts that the certificate is for")
		}
		for j, pattern := range cert.Hosts {
			v.hostPattern(at.Child("hosts").Index(j), pattern)
		}
		v.absPath(at.Child("certFile"), cert.CertFile, "name a PEM file")
		v.absPath(at.Child("keyFile"), cert.KeyFile, "name a PEM file")
	}
}

// unprivileged checks a user that something of ours runs as.
func (v *hostCheck) unprivileged(p *field.Path, user, who string) {
	if !userName.MatchString(user) {
		v.invalid(p, user, "%s", unixName)
	}
	if user == "root" {
		v.invalid(p, user, "is refused by %s; name an unprivileged user", who)
	}
}

func (v *hostCheck) nix() {
	p, n := specPath.Child("nix"), v.spec.Nix
	v.unprivileged(p.Child("user"), n.User, "tekton, which evaluates others' code as this user")
	v.duration(p.Child("buildTimeout"), n.BuildTimeout, Duration{time.Second})
	if n.MemoryMax != nil {
		v.size(p.Child("memoryMax"), n.MemoryMax)
	}
	if _, err := ParseCPUQuota(n.CPUQuota); n.CPUQuota != "" && err != nil {
		v.invalid(p.Child("cpuQuota"), n.CPUQuota, "%v", err)
	}
}

func (v *hostCheck) services() {
	p, pg := specPath.Child("postgres"), v.spec.Postgres
	v.unprivileged(p.Child("user"), pg.User, "PostgreSQL")
	v.absPath(p.Child("socketDir"), pg.SocketDir, "name the directory of the host's own PostgreSQL's socket")
	if pg.BinDir != "" {
		v.absPath(p.Child("binDir"), pg.BinDir, "")
	}
	if pg.ConnectionLimit > pg.MaxConnections {
		v.invalid(p.Child("connectionLimit"), pg.ConnectionLimit, "of one role must not be more than maxConnections (%d)", pg.MaxConnections)
	}
	git := specPath.Child("git")
	v.unprivileged(git.Child("user"), v.spec.Git.User, "git")
	v.absPath(git.Child("knownHostsFile"), v.spec.Git.KnownHostsFile, "name a file of host keys")
	v.duration(git.Child("fetchTimeout"), v.spec.Git.FetchTimeout, Duration{minTimeout})
	v.size(git.Child("maxSize"), v.spec.Git.MaxSize)
	v.domain(specPath.Child("dns", "domain"), v.spec.DNS.Domain)
	for i, up := range v.spec.DNS.Upstreams {
		_, errAddr := netip.ParseAddr(up)
		_, errPort := netip.ParseAddrPort(up)
		if errAddr != nil && errPort != nil {
			v.invalid(specPath.Child("dns", "upstreams").Index(i), up, "must be the address of a DNS server such as 9.9.9.9 or 9.9.9.9:53")
		}
	}
}

func (v *hostCheck) notifications() {
	list, names := specPath.Child("notifications"), unique{}
	for i, n := range v.spec.Notifications {
		p := list.Index(i)
		v.label(p.Child("name"), n.Name, "name the notification")
		v.unique(names, n.Name, p.Child("name"))
		v.duration(p.Child("after"), n.After, Duration{})
		if (len(n.Command) > 0) == (n.URL != "") {
			v.required(p, "write a command or a url, and not both")
			continue
		}
		if n.URL == "" {
			v.argv(p.Child("command"), n.Command)
			if n.TokenFile != "" {
				v.forbidden(p.Child("tokenFile"), "goes with a url")
			}
			if !userName.MatchString(n.User) {
				v.invalid(p.Child("user"), n.User, "%s", unixName)
			}
			continue
		}
		if u, err := url.Parse(n.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			v.invalid(p.Child("url"), n.URL, "must be https://HOST/PATH or http://HOST/PATH")
		} else if u.User != nil {
			v.invalid(p.Child("url"), u.Redacted(), "must not hold a password; write tokenFile")
		}
		if n.User != "" {
			v.forbidden(p.Child("user"), "goes with a command")
		}
		if n.TokenFile != "" {
			v.absPath(p.Child("tokenFile"), n.TokenFile, "name the file that holds the token")
		}
	}
}

func (v *hostCheck) sources() {
	list := specPath.Child("sources")
	if len(v.spec.Sources) == 0 {
		v.required(list, "name at least one source, or leave the field out for the directory specs below stateDir")
	}
	names, paths := unique{}, unique{}
	for i, s := range v.spec.Sources {
		p := list.Index(i)
		v.label(p.Child("name"), s.Name, "name the source")
		v.unique(names, s.Name, p.Child("name"))
		switch {
		case s.Git != nil && s.Path != "":
			v.forbidden(p.Child("path"), "is of a directory, and this source is a git repository; write git.path for a directory in it")
		case s.Git != nil:
			v.gitSource(p.Child("git"), s.Git)
		case v.absPath(p.Child("path"), s.Path, "name a directory of spec files, or a git repository with git"):
			v.unique(paths, s.Path, p.Child("path"))
		}
		if s.Allow != nil {
			v.admission(p.Child("allow"), s.Allow)
		}
	}
}

func (v *hostCheck) admission(p *field.Path, a *Admission) {
	for i, kind := range a.Kinds {
		if !slices.Contains(Kinds(), kind) {
			v.enum(p.Child("kinds").Index(i), kind, Kinds())
		}
	}
	for i, pattern := range a.Domains {
		v.hostPattern(p.Child("domains").Index(i), pattern)
	}
	for i, name := range a.LinkTargets {
		if name != "*" {
			v.label(p.Child("linkTargets").Index(i), name, "name an object, or \"*\" for all")
		}
	}
	for i, name := range a.Secrets {
		if name != "*" && !credentialName.MatchString(name) {
			v.invalid(p.Child("secrets").Index(i), name, "is not the name of a secret; \"*\" admits all")
		}
	}
	for i, entry := range a.Repositories {
		if name := strings.TrimSuffix(entry, "*"); name != "" && !strings.Contains(entry, "://") {
			v.label(p.Child("repositories").Index(i), strings.TrimSuffix(name, "-"), "")
		}
	}
	for i, dir := range a.HostPaths {
		v.absPath(p.Child("hostPaths").Index(i), dir, "name a directory")
	}
	for i, ports := range a.HostPorts {
		if _, _, err := ParsePortRange(ports); err != nil {
			v.invalid(p.Child("hostPorts").Index(i), ports, "%v", err)
		}
	}
}
