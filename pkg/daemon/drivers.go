package daemon

import (
	"fmt"
	"os"
	"path/filepath"

	"tekton.host/pkg/activator"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/checkout"
	"tekton.host/pkg/database"
	"tekton.host/pkg/dns"
	"tekton.host/pkg/host"
	"tekton.host/pkg/ingress"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/machine"
	"tekton.host/pkg/network"
	"tekton.host/pkg/nix"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/secret"
	"tekton.host/pkg/setup"
	"tekton.host/pkg/supervise"
)

func (d *Daemon) program(name string) (string, error) {
	path := filepath.Join(d.opts.Programs, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s belongs beside tektond: %w; build all programs with: make build", name, err)
	}
	return path, nil
}

// buildDrivers opens one driver for each system that tekton manages.
func (d *Daemon) buildDrivers() ([]resource.Driver, error) {
	if err := d.buildMachines(); err != nil {
		return nil, err
	}
	if err := d.buildDatabases(); err != nil {
		return nil, err
	}
	services, err := d.buildServices()
	if err != nil {
		return nil, err
	}
	if err := d.buildJobs(); err != nil {
		return nil, err
	}
	key, err := secret.LoadOrCreateKey(d.layout)
	if err != nil {
		return nil, err
	}
	passwords, err := secret.New(secret.Options{Layout: d.layout, Installation: d.id, Key: key})
	if err != nil {
		return nil, err
	}
	drivers := []resource.Driver{ledger.NewDriver(d.ledger), d.networks, nix.NewRootDriver(d.id), d.machines, passwords, d.databases}
	return append(append(drivers, services...), d.builds, d.fetches, d.setups), nil
}

// buildMachines opens the supervisor, the machines that it runs and their network.
func (d *Daemon) buildMachines() error {
	o := d.opts
	var paths [3]string
	for i, name := range []string{"tekton-supervise", "tekton-init", "tekton-launch"} {
		path, err := d.program(name)
		if err != nil {
			return err
		}
		paths[i] = path
	}
	form := supervise.Form(o.Host.Runtime.Supervisor)
	if form == "auto" || form == "" {
		form = supervise.DetectForm()
	}
	var err error
	d.supervisor, err = supervise.New(supervise.Options{Form: form, Program: paths[0], Parent: d.cgroupParent(), Log: o.Log.WithName("supervise")})
	if err != nil {
		return err
	}
	logMax := int64(0)
	if o.Host.Runtime.LogMax != nil {
		logMax = o.Host.Runtime.LogMax.Bytes
	}
	d.machines, err = machine.New(machine.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Init: paths[1], Launch: paths[2],
		Seccomp: o.Host.Runtime.Seccomp == nil || *o.Host.Runtime.Seccomp, LogMax: logMax, GitUser: o.Host.Git.User, Log: o.Log.WithName("machine"),
	})
	if err != nil {
		return err
	}
	d.networks, err = network.New(network.Options{
		Naming: d.naming, Installation: d.id, RecordSysctl: d.recordSysctl, Originals: d.sysctlOriginals, Log: o.Log.WithName("network"),
	})
	return err
}

// buildDatabases opens our PostgreSQL, or the host's own.
func (d *Daemon) buildDatabases() (err error) {
	o := d.opts
	var system *database.System
	if o.Host.Postgres.Mode == v1alpha1.ModeSystem {
		system = &database.System{SocketDir: o.Host.Postgres.SocketDir}
	}
	d.databases, err = database.New(database.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor,
		BinDir: o.Host.Postgres.BinDir, User: o.Host.Postgres.User,
		System: system, Port: uint16(o.Host.Postgres.Port), Log: o.Log.WithName("database"),
	})
	return err
}

// buildServices opens what is between machines and who asks for them: names,
// the proxy, the gates of those that may sleep.
func (d *Daemon) buildServices() ([]resource.Driver, error) {
	o := d.opts
	system, err := systemCaddy(o.Host.Ingress)
	if err != nil {
		return nil, err
	}
	proxy, err := ingress.New(ingress.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, User: o.Host.Ingress.User, System: system, Log: o.Log.WithName("ingress"),
	})
	if err != nil {
		return nil, err
	}
	names, err := dns.New(dns.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self, Log: o.Log.WithName("dns"),
	})
	if err != nil {
		return nil, err
	}
	gates, err := activator.New(activator.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self, User: o.Host.Ingress.User, Log: o.Log.WithName("activator"),
	})
	if err != nil {
		return nil, err
	}
	return []resource.Driver{names, proxy, gates}, nil
}

// buildJobs opens what takes its time: builds, fetches, setups.
func (d *Daemon) buildJobs() error {
	o := d.opts
	evaluator, err := host.LookupUser(o.Host.Nix.User)
	if err != nil {
		return fmt.Errorf("look up who evaluates Nix code (spec.nix.user of the Host): %w", err)
	}
	d.builds, err = nix.New(nix.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self, UID: evaluator.Uid, GID: evaluator.Gid, Log: o.Log.WithName("nix"),
	})
	if err != nil {
		return err
	}
	d.fetches, err = checkout.New(checkout.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self,
		User: o.Host.Git.User, KnownHostsFile: o.Host.Git.KnownHostsFile,
	})
	if err != nil {
		return err
	}
	d.setups, err = setup.New(setup.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self, Machine: d.machines.Status, GitUser: o.Host.Git.User,
	})
	return err
}

// systemCaddy is the host's own Caddy, nil where ours is to be used.
func systemCaddy(c v1alpha1.IngressConfig) (*ingress.System, error) {
	if c.Mode != v1alpha1.ModeSystem {
		return nil, nil
	}
	network, address, err := c.AdminAddress()
	if err != nil {
		return nil, fmt.Errorf("read spec.ingress.admin of the Host: %w", err)
	}
	return &ingress.System{Caddyfile: c.Caddyfile, Network: network, Admin: address}, nil
}

// cgroupParent keeps the cgroups of instances apart.
func (d *Daemon) cgroupParent() string {
	if d.naming.Instance == "" {
		return "tekton"
	}
	return "tekton-" + d.naming.Instance
}
