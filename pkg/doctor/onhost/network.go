package onhost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
	driver "tekton.host/pkg/network"
	"tekton.host/pkg/resource"
)

// network asks the driver of links and rules what is in its way.
func network(ctx context.Context, h v1alpha1.HostSpec, installation string) doctor.Network {
	var n doctor.Network
	clash, err := clashes(naming(h), installation)
	n.Clash, n.Unseen = reason(clash), reason(err)
	if _, err := os.Stat("/run/systemd/netif/state"); err == nil {
		n.Networkd = true
		config, err := networkdConfig("/")
		n.NetworkdUnknown = reason(err)
		n.NetworkdRoutes, n.NetworkdRules = networkdKeeps(config)
	}
	return n
}

func naming(h v1alpha1.HostSpec) resource.Naming {
	subnet, _ := netip.ParsePrefix(h.Subnet) // validated, or the default
	return resource.Naming{Instance: h.Instance, Subnet: subnet}
}

// clashes returns what is in the way, or an error where that is not known.
func clashes(n resource.Naming, installation string) (clash, err error) {
	d, err := driver.New(driver.Options{
		Naming: n, Installation: cmp.Or(installation, "none"),
		RecordSysctl: func(string, string) error { return errors.New("doctor changes no kernel setting") },
	})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	err = d.Clash()
	switch resource.Reason(err, "") {
	case "SubnetConflict", "InterfaceConflict", "InstallationConflict":
		return err, nil
	}
	return nil, err
}

// networkdConfig reads what systemd-networkd reads, in its order: the file, then
// the drop-ins of all directories by their names, each name once.
func networkdConfig(root string) (string, error) {
	var text strings.Builder
	dirs := []string{"etc", "run", "usr/local/lib", "usr/lib"} // the first one has precedence
	dropIns := map[string]string{}
	main := ""
	for _, dir := range dirs {
		dir = filepath.Join(root, dir, "systemd")
		if _, err := os.Stat(filepath.Join(dir, "networkd.conf")); err == nil && main == "" {
			main = filepath.Join(dir, "networkd.conf")
		}
		files, _ := filepath.Glob(filepath.Join(dir, "networkd.conf.d", "*.conf"))
		for _, f := range files {
			if dropIns[filepath.Base(f)] == "" {
				dropIns[filepath.Base(f)] = f
			}
		}
	}
	files := []string{main}
	names := make([]string, 0, len(dropIns))
	for name := range dropIns {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		files = append(files, dropIns[name])
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		text.Write(data)
		text.WriteByte('\n')
	}
	return text.String(), nil
}

// networkdKeeps reads whether foreign routes and rules are managed, which means
// removed; so they are by default.
func networkdKeeps(config string) (routes, rules bool) {
	routes, rules = true, true
	section := ""
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if section != "[Network]" {
			continue
		}
		yes := slices.Contains([]string{"", "1", "yes", "y", "true", "t", "on"}, strings.ToLower(strings.TrimSpace(value)))
		switch strings.TrimSpace(key) {
		case "ManageForeignRoutes":
			routes = yes
		case "ManageForeignRoutingPolicyRules":
			rules = yes
		}
	}
	return routes, rules
}

// resolverTimeout of one question.
const resolverTimeout = 2 * time.Second

// resolvers asks each for the root's name servers: they need not know any name of ours.
func resolvers(ctx context.Context, h v1alpha1.HostSpec) []doctor.Resolver {
	list := h.DNS.Upstreams
	if len(list) == 0 {
		if c, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil {
			list = c.Servers
		}
	}
	var out []doctor.Resolver
	for _, s := range list {
		addr := s
		if a, err := netip.ParseAddr(s); err == nil {
			addr = netip.AddrPortFrom(a, 53).String()
		}
		query := new(dns.Msg).SetQuestion(".", dns.TypeNS)
		_, _, err := (&dns.Client{Timeout: resolverTimeout}).ExchangeContext(ctx, query, addr)
		out = append(out, doctor.Resolver{Addr: addr, Err: reason(err)})
	}
	return out
}

// ports that services of ours take, while there is a machine that needs them.
func ports(h v1alpha1.HostSpec, l host.Layout) []doctor.Port {
	const proc = "/proc"
	all, err := host.Listeners(proc)
	var out []doctor.Port
	add := func(name, field, service, protocol string, addr netip.Addr, port int) {
		if port == 0 {
			return
		}
		shown := "*"
		if addr.IsValid() {
			shown = addr.String()
		}
		p := doctor.Port{Name: name, Field: field, Addr: net.JoinHostPort(shown, fmt.Sprint(port)) + "/" + protocol, Err: reason(err)}
		var taken []host.Listener
		for _, s := range all {
			if s.Takes(protocol, addr, port) {
				taken = append(taken, s)
			}
		}
		if len(taken) > 0 && os.Geteuid() != 0 {
			p.Err = "only root sees whose socket it is"
		} else {
			p.User = host.Holder(proc, taken, processesOf(l.Service(service))...)
		}
		out = append(out, p)
	}
	service := naming(h).Service()
	if h.Ingress.Mode == "managed" {
		add("http", "spec.ingress.httpPort", "caddy", "tcp", netip.Addr{}, h.Ingress.HTTPPort)
		add("https", "spec.ingress.httpsPort", "caddy", "tcp", netip.Addr{}, *h.Ingress.HTTPSPort)
		add("activator", "spec.subnet", "activator", "tcp", service, resource.ActivatorPort)
	}
	if h.DNS.Mode == "managed" {
		add("dns", "spec.subnet", "dns", "udp", service, 53)
		add("dns", "spec.subnet", "dns", "tcp", service, 53)
	}
	if h.Postgres.Mode == "managed" {
		add("postgres", "spec.postgres.port", "postgres", "tcp", service, h.Postgres.Port)
	}
	return out
}
