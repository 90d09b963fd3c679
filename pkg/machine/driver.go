package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/go-logr/logr"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/nixos"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// defaultLogMax is how much of a machine's log is kept.
const defaultLogMax = 10 << 20

// Options of a Driver.
type Options struct {
	Layout       host.Layout        // required
	Naming       resource.Naming    // required
	Installation string             // required
	Supervisor   *supervise.Manager // required
	Init         string             // required: path of tekton-init
	Launch       string             // required: path of tekton-launch
	Nspawn       string             // optional: systemd-nspawn, looked up in PATH
	// GitUser is who git runs as, not root; volumes can be clones then.
	GitUser string
	// Seccomp keeps systemd-nspawn's system call filter, which makes up most of
	// the time of a start.
	Seccomp bool
	LogMax  int64       // optional: bytes of log kept a machine, 10 MiB
	Log     logr.Logger // optional
}

// Driver manages volumes, instances, units and answers.
type Driver struct {
	opts    Options
	files   dirCache[machineFiles]
	volumes dirCache[[]foundVolume]
	tails   tails
	prober  *prober
	// containers are the machines that NixOS's unit runs.
	containers *nixos.Manager
	// data serializes what moves volumes and trash. It is held for moments: what
	// takes as long as a volume is big is done beside it.
	data sync.Mutex
	// doomed serializes the removal of what has left the trash for good.
	doomed sync.Mutex
	// logs serializes the handing over of logs: machines of one object may end together.
	logs sync.Mutex
}

var _ resource.Driver = (*Driver)(nil)

// New returns a driver. It touches nothing.
func New(o Options) (*Driver, error) {
	if o.Installation == "" || o.Supervisor == nil {
		return nil, errors.New("machine: Installation and Supervisor are required")
	}
	if o.Nspawn == "" {
		o.Nspawn = "/usr/bin/systemd-nspawn" // also what the launcher's error names when there is none
		if path, err := exec.LookPath("systemd-nspawn"); err == nil {
			o.Nspawn = path
		}
	}
	for name, p := range map[string]string{"Init": o.Init, "Launch": o.Launch, "Layout.State": o.Layout.State} {
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("machine: %s %q must be an absolute path", name, p)
		}
	}
	if o.LogMax == 0 {
		o.LogMax = defaultLogMax
	}
	d := &Driver{opts: o}
	d.containers = nixos.New(nixos.Options{Run: d.runDir()})
	d.prober = newProber(d.Status)
	return d, nil
}

// Close lets go of what the driver holds in this process; machines go on.
func (d *Driver) Close() { d.containers.Close() }

// Name of the driver.
func (d *Driver) Name() string { return "machine" }

// Kinds that the driver manages.
func (d *Driver) Kinds() []resource.Kind {
	return []resource.Kind{resource.KindVolume, resource.KindInstance, resource.KindUnit, resource.KindAnswer}
}

// Observe reads all directories. One that cannot be read makes its kinds Unknown.
func (d *Driver) Observe(ctx context.Context) map[resource.Kind]resource.Domain {
	out := map[resource.Kind]resource.Domain{resource.KindVolume: d.observeVolumes(ctx)}
	machines, err := d.machines()
	if err != nil {
		for _, k := range []resource.Kind{resource.KindInstance, resource.KindUnit, resource.KindAnswer} {
			out[k] = resource.Unknown(err)
		}
		return out
	}
	out[resource.KindInstance], out[resource.KindUnit], out[resource.KindAnswer] = d.observeMachines(ctx, machines)
	return out
}

// Apply runs the steps one after the other.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	errs := make([]error, len(steps))
	for i, s := range steps {
		errs[i] = d.apply(ctx, s)
	}
	return errs
}

func (d *Driver) apply(ctx context.Context, s resource.Step) error {
	remove := s.Verb == resource.Delete
	switch v := s.Resource.Value.(type) {
	case resource.Volume:
		if remove {
			d.data.Lock()
			defer d.data.Unlock()
			return d.deleteVolume(s.Resource, v)
		}
		return d.putVolume(ctx, s.Resource, v)
	case resource.Instance:
		if remove {
			return d.deleteInstance(ctx, s.Resource)
		}
		return d.putInstance(ctx, s.Resource, v)
	case resource.Unit:
		if remove {
			return d.deleteUnit(ctx, s.Resource)
		}
		return d.putUnit(ctx, s, v)
	case resource.Answer:
		if remove {
			return d.deleteAnswer(s.Resource)
		}
		return d.putAnswer(ctx, s.Resource, v)
	}
	return resource.Terminal("Unsupported", fmt.Errorf("%s: not a resource of machines", s))
}

// Watch notifies when a machine starts or ends, or a probe changes its mind.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	if err := os.MkdirAll(d.opts.Layout.Machines(), 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.prober.run(ctx, notify)()
	go d.containers.Watch(ctx, notify)
	return d.opts.Supervisor.Watch(ctx, d.opts.Layout.Machines(), notify)
}

// mark is what we write on the things of an owner.
func (d *Driver) mark(owner string) string {
	return resource.Mark{Installation: d.opts.Installation, Owner: owner}.String()
}

// ours returns the owner in a mark of this installation.
func (d *Driver) ours(mark string) (owner string, ok bool) {
	m, ok := resource.ParseMark(mark)
	return m.Owner, ok && m.Installation == d.opts.Installation
}

// conflict is the error for a thing that is somebody else's.
func conflict(what, mark string) error {
	return resource.Taken("Conflict", fmt.Errorf("%s carries the mark %q, which is not this object's; move it away or delete its owner first", what, mark))
}

// machines lists the directories of machines.
func (d *Driver) machines() ([]string, error) {
	entries, err := os.ReadDir(d.opts.Layout.Machines())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *Driver) dir(machine string) string {
	return filepath.Join(d.opts.Layout.Machines(), machine)
}
