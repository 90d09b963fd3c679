package v1alpha1

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	defaultStopTimeout   = 10 * time.Second
	defaultProbeTimeout  = time.Second
	defaultProbeDeadline = 60 * time.Second
	// credentialDir is where a credential's file appears unless it says otherwise.
	credentialDir = "/run/credentials/"
	// databaseEnv is the variable of an object's first database, as most frameworks expect it.
	databaseEnv = "DATABASE_URL"
)

// Default fills what the spec leaves open. h is a defaulted host, or nil for
// an embedded default one. It is idempotent.
func (c *Container) Default(h *HostSpec) {
	h = orDefaultHost(h)
	s := &c.Spec
	setDefault(&c.APIVersion, APIVersion)
	setDefault(&c.Kind, KindContainer)
	setDefault(&s.Runtime, RuntimeNspawn)
	if len(s.Command) > 0 {
		setDefault(&s.User, "root")
		setDefault(&s.WorkingDirectory, "/")
	}
	setDefault(&s.RestartPolicy, "Always")
	setDefault(&s.Update.Strategy, "Auto")
	setDefault(&s.Trust, "untrusted")
	setPointer(&s.StopTimeout, Duration{defaultStopTimeout})
	setPointer(&s.Enabled, true)
	setPointer(&s.UserNamespace, true)
	s.defaultData()
	s.defaultNetwork(h)
	s.defaultProbe()
}

func (s *ContainerSpec) defaultData() {
	for i := range s.Volumes {
		setDefault(&s.Volumes[i].DeletionPolicy, "Retain")
		if r := s.Volumes[i].Repository; r != nil {
			setDefault(&r.Ref, "HEAD")
		}
	}
	for i := range s.Databases {
		d := &s.Databases[i]
		setDefault(&d.DeletionPolicy, "Retain")
		if i == 0 {
			setDefault(&d.Env, databaseEnv)
		}
		setDefault(&d.Env, strings.ToUpper(strings.ReplaceAll(d.Name, "-", "_"))+"_"+databaseEnv)
	}
	for i := range s.Credentials {
		k := &s.Credentials[i]
		setDefault(&k.Secret, k.Name)
		if k.Env == "" {
			setDefault(&k.Path, credentialDir+k.Name)
		}
	}
	for i := range s.Mounts {
		setPointer(&s.Mounts[i].ReadOnly, true)
	}
}

func (s *ContainerSpec) defaultNetwork(h *HostSpec) {
	for i := range s.Routes {
		r := &s.Routes[i]
		setDefault(&r.Path, "/")
		setDefault(&r.PathType, "Prefix")
		setDefault(&r.TLS, h.Ingress.TLS)
	}
	n := &s.Network
	setDefault(&n.Egress.Mode, "internet")
	for i := range n.Links {
		setDefault(&n.Links[i].Protocol, "tcp")
	}
	for i := range n.Ports {
		p := &n.Ports[i]
		setDefault(&p.Port, p.HostPort)
		setDefault(&p.Protocol, "tcp")
		setDefault(&p.HostIP, h.PublishAddress)
	}
}

// defaultProbe connects to the first route's port: an object that serves
// nothing through the ingress counts as answering when it runs.
func (s *ContainerSpec) defaultProbe() {
	port := 0
	if len(s.Routes) > 0 && s.Routes[0].Port <= 65535 { // more is told of the route alone
		port = s.Routes[0].Port
	}
	if s.Probe == nil {
		if port == 0 {
			return
		}
		s.Probe = &Probe{}
	}
	p := s.Probe
	if p.HTTP == nil && p.TCP == nil && port != 0 {
		p.TCP = &TCPProbe{Port: port}
	}
	if p.HTTP != nil {
		setDefault(&p.HTTP.Path, "/")
	}
	setPointer(&p.Timeout, Duration{defaultProbeTimeout})
	setPointer(&p.Deadline, Duration{defaultProbeDeadline})
}

// DefaultHost returns the host that a daemon without configuration has.
func DefaultHost() *Host {
	h := &Host{}
	h.Default()
	return h
}

func orDefaultHost(h *HostSpec) *HostSpec {
	if h == nil {
		return &DefaultHost().Spec
	}
	return h
}

// Default fills what the configuration leaves open. It is idempotent.
func (h *Host) Default() {
	s := &h.Spec
	setDefault(&h.APIVersion, APIVersion)
	setDefault(&h.Kind, KindHost)
	setDefault(&h.Metadata.Name, "host")
	setDefault(&s.StateDir, "/var/lib/tekton"+suffix(s.Instance))
	setDefault(&s.RunDir, "/run/tekton"+suffix(s.Instance))
	setDefault(&s.SecretsDir, strings.TrimSuffix(s.StateDir, "/")+"/secrets")
	setDefault(&s.SocketGroup, "tekton")
	setDefault(&s.Subnet, defaultSubnet(s.Instance))
	setPointer(&s.TrashFor, Duration{72 * time.Hour})
	setPointer(&s.SlotCooldown, Duration{5 * time.Minute})
	if s.Sources == nil {
		s.Sources = []SourceConfig{{Name: "local", Path: strings.TrimSuffix(s.StateDir, "/") + "/specs"}}
	}
	for i := range s.Sources {
		if a := s.Sources[i].Allow; a != nil {
			setDefault(&a.MaxTrust, "untrusted")
		}
		if g := s.Sources[i].Git; g != nil {
			g.setDefaults()
		}
	}
	for i := range s.Notifications {
		n := &s.Notifications[i]
		if len(n.Command) > 0 {
			setDefault(&n.User, "nobody")
		}
		setPointer(&n.After, Duration{30 * time.Second})
	}
	s.Previews.setDefaults()
	setDefault(&s.Git.User, "tekton-git")
	setDefault(&s.Git.KnownHostsFile, "/etc/ssh/ssh_known_hosts")
	setDefault(&s.Git.ParallelFetches, 4)
	setPointer(&s.Git.FetchTimeout, Duration{10 * time.Minute})
	setPointer(&s.Git.MaxSize, Quantity{Bytes: 1 << 30, text: "1G"})
	setDefault(&s.Runtime.Supervisor, "auto")
	setPointer(&s.Runtime.Seccomp, true)
	setPointer(&s.Runtime.LogMax, Quantity{Bytes: 16 << 20, text: "16M"})
	s.Ingress.setDefaults()
	s.Postgres.setDefaults()
	setDefault(&s.Nix.User, "nobody")
	setDefault(&s.Nix.ParallelBuilds, 2)
	setPointer(&s.Nix.BuildTimeout, Duration{time.Hour})
	setDefault(&s.DNS.Mode, "managed")
	setDefault(&s.DNS.Domain, "tekton.internal")
}

func (c *IngressConfig) setDefaults() {
	setDefault(&c.Mode, "managed")
	setDefault(&c.HTTPPort, 80)
	setPointer(&c.HTTPSPort, 443)
	if *c.HTTPSPort == 0 {
		setDefault(&c.TLS, "off")
	}
	setDefault(&c.TLS, "internal")
	setDefault(&c.ACME.Directory, "https://acme-v02.api.letsencrypt.org/directory")
	setPointer(&c.GracePeriod, Duration{30 * time.Second})
	setDefault(&c.User, "caddy")
	setDefault(&c.Caddyfile, "/etc/caddy/Caddyfile")
	setDefault(&c.Admin, "localhost:2019")
}

func (c *PostgresConfig) setDefaults() {
	setDefault(&c.Mode, "managed")
	setDefault(&c.User, "postgres")
	setDefault(&c.Port, 5432)
	setDefault(&c.SocketDir, "/run/postgresql")
	setDefault(&c.MaxConnections, 200)
	// No tenant alone can take what there is.
	setDefault(&c.ConnectionLimit, min(20, c.MaxConnections/4))
}

// AdminAddress is what to dial for the admin endpoint of the host's own Caddy.
func (c *IngressConfig) AdminAddress() (network, address string, err error) {
	if path, unix := strings.CutPrefix(c.Admin, "unix/"); unix {
		if !strings.HasPrefix(path, "/") {
			return "", "", errors.New("must be unix/ and an absolute path, such as unix//run/caddy/admin.sock")
		}
		return "unix", path, nil
	}
	if _, port, err := net.SplitHostPort(c.Admin); err != nil || port == "" {
		return "", "", errors.New("must be HOST:PORT such as localhost:2019, or unix//run/caddy/admin.sock")
	}
	return "tcp", c.Admin, nil
}

func (g *GitSource) setDefaults() {
	setDefault(&g.Branch, "main")
	setPointer(&g.Interval, Duration{time.Minute})
	setPointer(&g.Timeout, Duration{2 * time.Minute})
	setPointer(&g.MaxSize, Quantity{Bytes: 256 << 20, text: "256M"})
	if g.Auth.TokenFile != "" {
		setDefault(&g.Auth.Username, "git")
	}
}

func suffix(instance string) string {
	if instance == "" {
		return ""
	}
	return "-" + instance
}

// defaultSubnet gives each instance a network of its own, so that a demo or a
// test runs beside a real daemon without configuration. Two names may meet in
// one of the 150 networks; the daemon then refuses and names the other.
func defaultSubnet(instance string) string {
	if instance == "" {
		return "10.100.0.0/16"
	}
	n := 0
	for _, r := range instance {
		n = (n*37 + int(r)) % 150
	}
	return "10." + strconv.Itoa(101+n) + ".0.0/16"
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
