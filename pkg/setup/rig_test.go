package setup_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/setup"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

const (
	installation = "0123456789ab"
	owner        = "uid-app"
	app          = "app-1"
)

var programs = sync.OnceValues(func() (string, error) {
	return systemdhost.BuildPrograms("tekton.host/cmd/tekton-init", "tekton.host/cmd/tekton-launch")
})

// rig is a machine that runs, and the driver of setups.
type rig struct {
	*setup.Driver
	t          *testing.T
	ctx        context.Context
	layout     host.Layout
	naming     resource.Naming
	supervisor *supervise.Manager
	machines   *machine.Driver
	instance   resource.Instance
	unit       resource.Unit
}

func newRig(t *testing.T, change func(*resource.Instance)) *rig {
	t.Helper()
	supervisetest.Root(t, "systemd-nspawn", "nsenter", "git")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	state := t.TempDir()
	for d := state; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil { // git's user comes through
			t.Fatal(err)
		}
	}
	instance := strconv.FormatInt(time.Now().UnixNano()%1e6, 36)
	r := &rig{
		t: t, ctx: ctx,
		layout: host.Layout{State: state, Run: filepath.Join(state, "run"), Secrets: filepath.Join(state, "secrets")},
		naming: resource.Naming{Instance: instance, Subnet: netip.MustParsePrefix("10.99.0.0/16")},
	}
	r.supervisor, err = supervise.New(supervise.Options{
		Form: supervise.DetectForm(), Program: supervisetest.Program(t), Parent: "tksetup" + instance + strconv.Itoa(os.Getpid()),
	})
	r.check(err)
	r.machines, err = machine.New(machine.Options{
		Layout: r.layout, Naming: r.naming, Installation: installation, Supervisor: r.supervisor,
		Init: filepath.Join(dir, "tekton-init"), Launch: filepath.Join(dir, "tekton-launch"), Seccomp: true,
	})
	r.check(err)
	r.Driver = r.another()
	t.Cleanup(r.sweep)
	r.instance = resource.Instance{
		Name: app, Ordinal: 1, Slot: 1, Fingerprint: "f1", Hostname: "app", System: resource.System{Host: true},
		Command: []string{"/bin/sleep", "infinity"}, Environment: []string{"GREETING=hello"},
		UIDBase: r.naming.UIDBase(1), StopTimeout: resource.Duration(time.Second),
	}
	if change != nil {
		change(&r.instance)
	}
	r.apply(resource.Put, r.instance, app)
	r.start()
	return r
}

// another returns a driver that knows nothing of the first, as after a restart.
func (r *rig) another() *setup.Driver {
	r.t.Helper()
	self, err := os.Executable()
	r.check(err)
	d, err := setup.New(setup.Options{
		Layout: r.layout, Naming: r.naming, Installation: installation, Supervisor: r.supervisor, Program: self, Machine: r.machines.Status, GitUser: "nobody",
	})
	r.check(err)
	return d
}

func (r *rig) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if r.t.Failed() {
		time.Sleep(time.Second) // a machine that has just ended says why a moment later
	}
	for name, parent := range map[string]string{"machine": r.layout.Machines(), "setup": r.layout.Setups()} {
		entries, _ := os.ReadDir(parent)
		for _, e := range entries {
			dir := filepath.Join(parent, e.Name())
			if r.t.Failed() {
				status, _, _ := r.supervisor.Status(dir)
				r.t.Logf("%s %s is %+v; its log:\n%s", name, e.Name(), status, strings.Join(supervise.TailLog(dir, 40), "\n"))
			}
			if err := r.supervisor.Stop(ctx, dir, time.Millisecond); err != nil {
				r.t.Error(err)
			}
		}
	}
	r.machines.Close()
	r.supervisor.Close()
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) apply(verb resource.Verb, v resource.Value, name string) {
	r.t.Helper()
	r.check(r.machines.Apply(r.ctx, []resource.Step{{Verb: verb, Resource: resource.New(owner, app, name, v)}})[0])
}

// start starts the machine anew.
func (r *rig) start() {
	r.t.Helper()
	r.apply(resource.Put, resource.Unit{Name: app, Running: true}, app)
	got := r.machines.Observe(r.ctx)[resource.KindUnit]
	r.check(got.Err)
	r.unit = got.Items[resource.ID{Kind: resource.KindUnit, Name: app}].Value.(resource.Unit)
}

func (r *rig) stop() {
	r.t.Helper()
	r.apply(resource.Delete, resource.Unit{Name: app}, app)
}

// have is what is observed of the setup.
func (r *rig) have() (resource.Resource, bool) {
	r.t.Helper()
	d := r.Observe(r.ctx)[resource.KindSetup]
	r.check(d.Err)
	for name, err := range d.Unreadable {
		r.t.Fatalf("%s: %v", name, err)
	}
	v, found := d.Items[resource.ID{Kind: resource.KindSetup, Name: app}]
	return v, found
}

// put begins an attempt, as a plan that has just looked would.
func (r *rig) put(v resource.Setup) error {
	r.t.Helper()
	s := resource.Step{Verb: resource.Put, Resource: resource.New(owner, app, app, r.filled(v))}
	if have, found := r.have(); found {
		s.Seen = &have
	}
	return r.Apply(r.ctx, []resource.Step{s})[0]
}

func (r *rig) filled(v resource.Setup) resource.Setup {
	v.Boot = r.unit.Boot
	v.Attempt = max(v.Attempt, 1)
	v.Boots = len(r.instance.Command) == 0
	if v.Deadline == 0 {
		v.Deadline = resource.Duration(time.Minute)
	}
	return v
}

// run begins an attempt and waits for its end.
func (r *rig) run(v resource.Setup) resource.SetupRun {
	r.t.Helper()
	r.eventually("the attempt that a new look leads to", func() bool {
		err := r.put(v)
		if !errors.Is(err, resource.ErrStale) { // a machine that starts may show another first process at first
			r.check(err)
		}
		return err == nil
	})
	return r.ended()
}

func (r *rig) ended() resource.SetupRun {
	r.t.Helper()
	var run resource.SetupRun
	r.eventually("the end of the setup", func() bool {
		have, found := r.have()
		run = have.Value.(resource.Setup).Run
		return found && !run.Running
	})
	return run
}

// mustRun demands that an attempt succeeds.
func (r *rig) mustRun(v resource.Setup) {
	r.t.Helper()
	if run := r.run(v); run.Reason != "" || run.Done != v.Revision || run.Boot != r.unit.Boot {
		r.t.Fatalf("setup of %s: %+v", v.Revision, run)
	}
}

// started is the number of the latest start of the services.
func (r *rig) started() int {
	have, _ := r.have()
	return have.Value.(resource.Setup).Run.Started
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for !ok() {
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("waited in vain for %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// inside runs a command in the machine, with another tool than the driver's.
func (r *rig) inside(argv ...string) string {
	r.t.Helper()
	out, err := r.tryInside(argv...)
	if err != nil {
		r.t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return out
}

func (r *rig) tryInside(argv ...string) (string, error) {
	args := append([]string{"--target", strconv.Itoa(r.unit.Leader), "--all", "--root", "--wdns=/", "--"}, argv...)
	out, err := exec.CommandContext(r.ctx, "nsenter", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (r *rig) wantInside(want string, argv ...string) {
	r.t.Helper()
	if got := r.inside(argv...); got != want {
		r.t.Errorf("%v says %q, want %q", argv, got, want)
	}
}

func (r *rig) log() string { return strings.Join(supervise.TailLog(r.Dir(app), 1000), "\n") }

func (r *rig) secret(name, value string) resource.Secret {
	r.t.Helper()
	path := filepath.Join(r.layout.Secrets, name)
	r.check(os.MkdirAll(r.layout.Secrets, 0o700))
	r.check(os.WriteFile(path, []byte(value), 0o600))
	return resource.Secret{Name: name, File: path, Digest: "digest"}
}
