package onhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise/contract"
)

const (
	// trialName of the one object.
	trialName = "doctor"
	// startTimeout until the machine runs, cleanTimeout until nothing is left of it.
	startTimeout, cleanTimeout = 30 * time.Second, 60 * time.Second
	pollPause                  = 50 * time.Millisecond
)

// subnets that a trial may use: small, at the end of their ranges, where hardly
// anybody is.
var subnets = []string{"10.255.255.224/28", "172.31.255.224/28", "192.168.255.224/28", "10.255.254.224/28"}

// trial is an installation of tekton beside the real one, with one machine. It
// has a daemon, a ledger and marks of its own, so that it is made and removed
// by what makes and removes all machines, whoever was killed in between.
type trial struct {
	real     v1alpha1.HostSpec
	programs string
	dir      string // below the state directory: the same file system as machines have
	layout   host.Layout
	naming   resource.Naming
}

func newTrial(h v1alpha1.HostSpec, programs string) *trial {
	t := &trial{real: h, programs: programs, dir: filepath.Join(h.StateDir, trialName)}
	t.layout = host.Layout{State: filepath.Join(t.dir, "state"), Run: filepath.Join(h.RunDir, trialName)}
	// A firewall that knows links of ours by the beginning of their names knows
	// this one, too.
	t.naming.Instance = h.Instance[:min(len(h.Instance), 3)] + "d"
	if t.naming.Instance == h.Instance {
		t.naming.Instance = h.Instance[:3] + "e"
	}
	return t
}

func (t *trial) config() string { return filepath.Join(t.dir, "host.yaml") }
func (t *trial) spec() string   { return filepath.Join(t.layout.Specs(), trialName+".yaml") }

// trialLeft is the directory of a trial that was not cleaned up.
func trialLeft(h v1alpha1.HostSpec) string {
	t := newTrial(h, "")
	if _, err := os.Stat(t.config()); err != nil {
		return ""
	}
	lock := flock.New(t.dir+".lock", flock.SetFlag(os.O_RDONLY)) // made by those who try only
	if locked, err := lock.TryLock(); err == nil && !locked {
		return "" // somebody is at it
	}
	lock.Close()
	return t.dir
}

// removeTrial takes away what a former one has left.
func removeTrial(ctx context.Context, h v1alpha1.HostSpec, programs string) error {
	t := newTrial(h, programs)
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return t.clean(ctx)
}

// Try starts a throw-away machine, sees which packets get to and from it, and
// takes it away again.
func Try(ctx context.Context, h v1alpha1.HostSpec, programs string) (out doctor.Trial) {
	t := newTrial(h, programs)
	unlock, err := t.lock()
	if err != nil {
		return doctor.Trial{Err: err.Error()}
	}
	defer unlock()
	err = t.clean(ctx)
	if err == nil {
		err = t.prepare()
	}
	if err == nil {
		out, err = t.run(ctx)
	}
	// Also when ctx has ended: nothing may stay.
	if errClean := t.clean(context.WithoutCancel(ctx)); errClean != nil {
		err = errors.Join(err, fmt.Errorf("clean up after the throw-away machine: %w", errClean))
	}
	out.Err = reason(err)
	return out
}

// lock keeps two doctors apart. Directories that have to be made go with it.
func (t *trial) lock() (unlock func(), err error) {
	var made []string
	for _, dir := range []string{t.real.StateDir, t.real.RunDir} {
		if existing(dir) != dir {
			made = append(made, dir)
		}
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	lock := flock.New(t.dir + ".lock")
	locked, err := lock.TryLock()
	if err != nil {
		return nil, err
	}
	if !locked {
		return nil, fmt.Errorf("another doctor holds %s.lock; wait for its end", t.dir)
	}
	return func() {
		os.Remove(t.dir + ".lock")
		lock.Close()
		for _, dir := range made {
			os.Remove(dir) // fails when a daemon has begun there meanwhile
		}
	}, nil
}

// prepare writes the configuration and the spec.
func (t *trial) prepare() error {
	for _, s := range subnets {
		n := resource.Naming{Instance: t.naming.Instance, Subnet: netip.MustParsePrefix(s)}
		if clash, err := clashes(n, ""); err != nil {
			return err
		} else if clash == nil {
			t.naming = n
			break
		}
	}
	if !t.naming.Subnet.IsValid() {
		return fmt.Errorf("none of %s is free for a throw-away machine", strings.Join(subnets, ", "))
	}
	if err := os.MkdirAll(t.layout.Specs(), 0o711); err != nil {
		return err
	}
	r := t.real
	config := map[string]any{
		"instance": t.naming.Instance, "stateDir": t.layout.State, "runDir": t.layout.Run, "subnet": t.naming.Subnet.String(),
		"runtime": map[string]any{"supervisor": r.Runtime.Supervisor, "seccomp": r.Runtime.Seccomp}, "dns": map[string]any{"mode": r.DNS.Mode},
		// The table lets machines reach the ingress: for the trial that is every
		// port of the host that a machine may be allowed. Nothing listens there.
		"ingress": map[string]any{"httpPort": r.Ingress.HTTPPort, "httpsPort": r.Postgres.Port},
	}
	text, err := json.Marshal(map[string]any{"apiVersion": v1alpha1.APIVersion, "kind": v1alpha1.KindHost, "spec": config})
	if err != nil {
		return err
	}
	if err := host.WriteFile(t.config(), text, 0o600); err != nil {
		return err
	}
	object := map[string]any{
		"apiVersion": v1alpha1.APIVersion, "kind": "Container", "metadata": map[string]any{"name": trialName},
		"spec": map[string]any{"system": map[string]any{"host": true}, "command": []string{"sleep", "infinity"}},
	}
	if text, err = json.Marshal(object); err != nil {
		return err
	}
	return host.WriteFile(t.spec(), text, 0o600)
}

// run has a daemon of its own start the machine, and tries.
func (t *trial) run(ctx context.Context) (doctor.Trial, error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- t.tektond(ctx) }()
	defer func() { cancel(); <-ended }()
	leader, err := t.awaitLeader(ctx, ended)
	if err != nil {
		return doctor.Trial{}, err
	}
	link := t.naming.Link(1)
	return doctor.Trial{Link: link, Subnet: t.naming.Subnet.String(), Flows: t.flows(ctx, leader, link)}, nil
}

func (t *trial) tektond(ctx context.Context, more ...string) error {
	argv := append([]string{filepath.Join(t.programs, "tektond"), "--config", t.config()}, more...)
	_, err := host.Run(ctx, host.Command{Argv: argv, DiesWithUs: true})
	return err
}

// awaitLeader returns the machine's first process once the object is Ready.
func (t *trial) awaitLeader(ctx context.Context, ended <-chan error) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c := client.New(t.layout.Socket())
	why := error(context.DeadlineExceeded)
	for {
		items, err := c.List(ctx)
		if err != nil {
			items = nil
		}
		for _, i := range items {
			for _, cond := range i.Status.Conditions {
				if cond.Type != v1alpha1.ConditionReady {
					continue
				}
				if i.Status.Phase == v1alpha1.PhaseReady {
					return t.leader(i.Status.Machine)
				}
				why = fmt.Errorf("%s: %s", cond.Reason, cond.Message)
			}
		}
		select {
		case err := <-ended:
			return 0, err
		case <-ctx.Done():
			return 0, why
		case <-time.After(pollPause):
		}
	}
}

func (t *trial) leader(machine string) (int, error) {
	var s contract.Status
	raw, err := os.ReadFile(filepath.Join(t.layout.Machines(), machine, contract.StatusFile))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.Leader == 0 {
		err = errors.New("the machine's supervisor does not know its first process")
	}
	return s.Leader, err
}

// clean removes the machine by way of a daemon that finds its spec gone, then
// the files. A trial that was killed is removed the same way.
func (t *trial) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	if _, err := os.Stat(t.config()); err == nil {
		if err := os.Remove(t.spec()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := t.tektond(ctx, "--once", "--timeout", cleanTimeout.String()); err != nil {
			return err
		}
	}
	return errors.Join(removeTracer(ctx), os.RemoveAll(t.layout.Run), os.RemoveAll(t.dir))
}
