package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"github.com/go-logr/logr"
	"github.com/gofrs/flock"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/checkout"
	"tekton.host/pkg/database"
	"tekton.host/pkg/event"
	"tekton.host/pkg/host"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/machine"
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
	Config   string            // the Host file that Host was read from, if there is one
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
	// writing is held while documents of a source are read, changed and written.
	writing sync.Mutex
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

// secretFacts is the secrets directory as the engine sees it.
type secretFacts struct{ *secret.Secrets }

func (s secretFacts) Digests() (map[string]string, error) {
	snap, err := s.Snapshot()
	return snap.Digests, err
}
