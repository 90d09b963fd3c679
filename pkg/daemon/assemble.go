package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/gofrs/flock"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/activator"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/checkout"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/database"
	"tekton.host/pkg/dns"
	"tekton.host/pkg/event"
	"tekton.host/pkg/host"
	"tekton.host/pkg/ingress"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/machine"
	"tekton.host/pkg/machine/hostkey"
	"tekton.host/pkg/metrics"
	"tekton.host/pkg/network"
	"tekton.host/pkg/nix"
	"tekton.host/pkg/reconcile"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/secret"
	"tekton.host/pkg/setup"
	"tekton.host/pkg/source"
	"tekton.host/pkg/source/git"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/supervise"
)

// Options of a Daemon.
type Options struct {
	Host     v1alpha1.HostSpec // required: defaulted and valid
	Programs string            // required: directory of tekton-supervise, tekton-launch, tekton-init
	Self     string            // required: path of tektond, for its resolver
	Version  v1alpha1.VersionInfo
	Log      logr.Logger
	// OnStep is told of each step that ended. Optional.
	OnStep func(resource.Step, error)
}

// Daemon is one running tekton.
type Daemon struct {
	opts         Options
	layout       host.Layout
	naming       resource.Naming
	id           string
	lock         *flock.Flock
	ledger       *ledger.File
	supervisor   *supervise.Manager
	machines     *machine.Driver
	networks     *network.Driver
	databases    *database.Driver
	builds       *nix.Driver
	fetches      *checkout.Driver
	setups       *setup.Driver
	secrets      *secret.Secrets
	sources      map[string]*source.Directory
	repositories map[string]*git.Source
	core         reconcile.Config
	engine       *reconcile.Engine
	events       *event.Log
	metrics      *metrics.Metrics
	history      *event.History
}

// Open takes the state directory and puts the parts together. Nothing on the
// host changes but in that directory. Close gives it back.
func Open(o Options) (_ *Daemon, err error) {
	d := &Daemon{opts: o, sources: map[string]*source.Directory{}, repositories: map[string]*git.Source{}}
	d.layout = host.Layout{State: o.Host.StateDir, Run: o.Host.RunDir, Secrets: o.Host.SecretsDir}
	subnet, err := netip.ParsePrefix(o.Host.Subnet)
	if err != nil {
		return nil, fmt.Errorf("read spec.subnet of the Host: %w", err)
	}
	d.naming = resource.Naming{Instance: o.Host.Instance, Subnet: subnet}
	if err := d.takeState(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.events, err = event.Open(d.layout.Events()); err != nil {
		return nil, err
	}
	d.history = event.NewHistory(d.layout.History())
	drivers, err := d.buildDrivers()
	if err != nil {
		return nil, err
	}
	drivers, onStep, err := guard(drivers, o.OnStep, os.Getenv(FailpointEnv))
	if err != nil {
		return nil, err
	}
	sources, err := d.buildSources()
	if err != nil {
		return nil, err
	}
	d.core = reconcile.Config{
		Host: o.Host, Layout: d.layout, Naming: d.naming, Installation: d.id, Decode: spec.FromJSON,
	}
	_, d.core.NixOS = host.CurrentSystem()
	if d.core.HostKey, err = hostKeys(d.layout); err != nil {
		return nil, err
	}
	starts := o.Host.ParallelStarts
	if starts == 0 {
		// A start is bound by CPU, but waits in between: for mounts, the kernel's
		// lock for links, the process that reports its first child.
		starts = 4 * runtime.NumCPU()
	}
	missing, err := d.loadMissing()
	if err != nil {
		return nil, err
	}
	d.metrics = metrics.New(o.Version.Version, d.metricsView)
	d.engine = reconcile.New(reconcile.Options{
		Missing: missing, Remember: d.saveMissing,
		Config: d.core, Drivers: drivers, Sources: sources, Secrets: secretFacts{d.secrets},
		Log: o.Log.WithName("engine"), ParallelStarts: starts, OnStep: onStep, Meter: d.metrics,
	})
	return d, nil
}

// hostKeys returns the public halves of the host keys that machines derive. It
// remembers them: every pass asks for all.
func hostKeys(l host.Layout) (func(name string) string, error) {
	secret, err := os.ReadFile(l.Key())
	if err != nil {
		return nil, fmt.Errorf("read what host keys are derived from: %w", err)
	}
	var known sync.Map
	return func(name string) string {
		public, found := known.Load(name)
		if !found {
			public = hostkey.Derive(secret, name).Public()
			known.Store(name, public)
		}
		return public.(string)
	}, nil
}

// lockPatience is how long the lock is waited for: a daemon that was killed while
// it started a program leaves it to the child, until that has become the program.
const lockPatience = 2 * time.Second

// takeState locks the state directory and opens what is durable in it.
func (d *Daemon) takeState() error {
	// 0711: an unprivileged Caddy or PostgreSQL must reach its own directory below, but list nothing.
	for _, dir := range []string{d.layout.State, d.layout.Run, d.layout.Service("")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	d.lock = flock.New(d.layout.Lock())
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	locked, err := d.lock.TryLockContext(ctx, lockPatience/100)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("lock %s: %w", d.layout.Lock(), err)
	}
	if !locked {
		return fmt.Errorf("another tektond runs on %s (it holds %s); stop it, or give this one another --state-dir and instance", d.layout.State, d.layout.Lock())
	}
	if err := host.Tidy(d.layout); err != nil {
		return fmt.Errorf("tidy the state directory up: %w", err)
	}
	if d.id, err = host.LoadOrCreateInstallation(d.layout); err != nil {
		return err
	}
	if d.ledger, err = ledger.Open(d.layout.Ledger(), ledger.Options{}); err != nil {
		return err
	}
	key, err := secret.LoadOrCreateKey(d.layout)
	if err != nil {
		return err
	}
	d.secrets, err = secret.Open(d.layout.Secrets, key)
	return err
}

func (d *Daemon) program(name string) (string, error) {
	path := filepath.Join(d.opts.Programs, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s belongs beside tektond: %w; build all programs with: make build", name, err)
	}
	return path, nil
}

func (d *Daemon) buildDrivers() ([]resource.Driver, error) {
	o := d.opts
	var paths [3]string
	for i, name := range []string{"tekton-supervise", "tekton-init", "tekton-launch"} {
		path, err := d.program(name)
		if err != nil {
			return nil, err
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
		return nil, err
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
		return nil, err
	}
	d.networks, err = network.New(network.Options{
		Naming: d.naming, Installation: d.id, RecordSysctl: d.recordSysctl, Originals: d.sysctlOriginals, Log: o.Log.WithName("network"),
	})
	if err != nil {
		return nil, err
	}
	var system *database.System
	if o.Host.Postgres.Mode == v1alpha1.ModeSystem {
		system = &database.System{SocketDir: o.Host.Postgres.SocketDir}
	}
	d.databases, err = database.New(database.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor,
		BinDir: o.Host.Postgres.BinDir, User: o.Host.Postgres.User,
		System: system, Port: uint16(o.Host.Postgres.Port), Log: o.Log.WithName("database"),
	})
	if err != nil {
		return nil, err
	}
	return d.moreDrivers()
}

func (d *Daemon) moreDrivers() ([]resource.Driver, error) {
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
	evaluator, err := host.LookupUser(o.Host.Nix.User)
	if err != nil {
		return nil, fmt.Errorf("look up who evaluates Nix code (spec.nix.user of the Host): %w", err)
	}
	d.builds, err = nix.New(nix.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self, UID: evaluator.Uid, GID: evaluator.Gid, Log: o.Log.WithName("nix"),
	})
	if err != nil {
		return nil, err
	}
	d.fetches, err = checkout.New(checkout.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self,
		User: o.Host.Git.User, KnownHostsFile: o.Host.Git.KnownHostsFile,
	})
	if err != nil {
		return nil, err
	}
	d.setups, err = setup.New(setup.Options{
		Layout: d.layout, Naming: d.naming, Installation: d.id, Supervisor: d.supervisor, Program: o.Self, Machine: d.machines.Status, GitUser: o.Host.Git.User,
	})
	if err != nil {
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
	return []resource.Driver{ledger.NewDriver(d.ledger), d.networks, nix.NewRootDriver(d.id), d.machines, passwords, d.databases, names, proxy, gates, d.builds, d.fetches, d.setups}, nil
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

// buildSources opens the configured sources. The default directory is made.
func (d *Daemon) buildSources() ([]reconcile.Source, error) {
	var out []reconcile.Source
	mirrors := map[string]bool{}
	for _, c := range d.opts.Host.Sources {
		if c.Git != nil {
			s, err := d.newGit(c)
			if err != nil {
				return nil, err
			}
			d.repositories[c.Name], mirrors[c.Name] = s, true
			out = append(out, s)
			continue
		}
		if c.Path == d.layout.Specs() {
			if err := source.EnsureMarker(c.Path); err != nil {
				return nil, err
			}
		}
		s, err := source.New(source.Options{Name: c.Name, Path: c.Path, Decode: d.decoder(c), Log: d.opts.Log.WithName("source")})
		if err != nil {
			return nil, err
		}
		d.sources[c.Name] = s
		out = append(out, s)
	}
	// A daemon that was killed left copies of keys in the run directories.
	return out, errors.Join(git.Forget(d.layout.Git(), mirrors), git.Forget(d.layout.RunService("git"), nil))
}

// decoder reads the files of a source.
func (d *Daemon) decoder(c v1alpha1.SourceConfig) func(string, []byte) ([]spec.Object, []spec.Problem) {
	return func(file string, data []byte) ([]spec.Object, []spec.Problem) {
		return spec.Decode(file, data, spec.Options{Host: &d.opts.Host, Allow: c.Allow})
	}
}

// recordSysctl keeps a setting's original in the ledger before it is changed.
func (d *Daemon) recordSysctl(key, original string) error {
	c := resource.Claim{Key: compile.SysctlKey(key), Owner: resource.HostOwner, Value: compile.SysctlValue(original)}
	err := d.ledger.Commit(context.Background(), []ledger.Op{ledger.Claim(c)})[0]
	if err != nil && d.sysctlOriginals()[key] != "" {
		return nil // recorded before; the first value counts
	}
	return err
}

func (d *Daemon) sysctlOriginals() map[string]string {
	entries, _, err := d.ledger.List(context.Background())
	if err != nil {
		return nil
	}
	return compile.SysctlOriginals(entries)
}

// Close lets go of the state directory. Machines and services keep running.
func (d *Daemon) Close() error {
	var errs []error
	if d.databases != nil {
		errs = append(errs, d.databases.Close())
	}
	if d.networks != nil {
		errs = append(errs, d.networks.Close())
	}
	if d.machines != nil {
		d.machines.Close()
	}
	if d.supervisor != nil {
		errs = append(errs, d.supervisor.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Unlock())
	}
	return errors.Join(errs...)
}

// loadMissing and saveMissing keep the objects that a source holds over a
// restart of the daemon.
func (d *Daemon) loadMissing() (absence.State, error) {
	var s absence.State
	raw, err := os.ReadFile(d.layout.Missing())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("%s cannot be read: %w; remove it to forget which deletions are held", d.layout.Missing(), err)
	}
	return s, nil
}

func (d *Daemon) saveMissing(s absence.State) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return host.WriteFile(d.layout.Missing(), raw, 0o600)
}

// secretFacts is the secrets directory as the engine sees it.
type secretFacts struct{ *secret.Secrets }

func (s secretFacts) Digests() (map[string]string, error) {
	snap, err := s.Snapshot()
	return snap.Digests, err
}
