package machine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/machine"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

func TestMain(m *testing.M) {
	if os.Getpid() == 1 && os.Getenv(machine.UMLEnv) != "" {
		machine.UMLInit(m)
		return
	}
	testenv.Main(m)
}

// programs are built once a process, into a directory with all of them.
var programs = sync.OnceValues(func() (string, error) {
	return systemdhost.BuildPrograms("tekton.host/cmd/tekton-init", "tekton.host/cmd/tekton-launch", "tekton.host/pkg/machine/testdata/guest")
})

const installation = "0123456789ab"

// rig is one driver on a state directory of its own.
type rig struct {
	*machine.Driver
	t          testing.TB
	ctx        context.Context
	state      string
	layout     host.Layout
	naming     resource.Naming
	supervisor *supervise.Manager
	options    machine.Options
	programs   string
	runtime    string // of its instances
}

// eachRuntime runs a test in every runtime that the host has: containers of
// NixOS are units.
func eachRuntime(t *testing.T, test func(*testing.T, *rig)) {
	runtimes := []string{v1alpha1.RuntimeNspawn}
	if systemdhost.Inside() {
		runtimes = append(runtimes, v1alpha1.RuntimeNixOSContainer)
	}
	for _, runtime := range runtimes {
		t.Run(runtime, func(t *testing.T) {
			r := newRig(t)
			r.runtime = runtime
			test(t, r)
		})
	}
}

func newRig(t testing.TB) *rig {
	t.Helper()
	testenv.Root(t, "systemd-nspawn")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	state := t.TempDir()
	instance := strconv.FormatInt(time.Now().UnixNano()%1e6, 36)
	r := &rig{
		t: t, ctx: ctx, state: state, programs: dir,
		layout: host.Layout{State: state, Run: filepath.Join(state, "run"), Secrets: filepath.Join(state, "secrets")},
		naming: resource.Naming{Instance: instance, Subnet: netip.MustParsePrefix("10.99.0.0/16")},
	}
	r.supervisor, err = supervise.New(supervise.Options{
		Form: supervise.DetectForm(), Program: supervisetest.Program(t), Parent: "tktest" + instance + strconv.Itoa(os.Getpid()),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.options = machine.Options{
		Layout: r.layout, Naming: r.naming, Installation: installation, Supervisor: r.supervisor,
		Init: filepath.Join(dir, "tekton-init"), Launch: filepath.Join(dir, "tekton-launch"),
	}
	r.Driver = r.another()
	t.Cleanup(r.sweep)
	return r
}

// another returns a driver that knows nothing of the first.
func (r *rig) another() *machine.Driver {
	r.t.Helper()
	d, err := machine.New(r.options)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// sweep ends what is left, the links of machines too.
func (r *rig) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	entries, _ := os.ReadDir(r.layout.Machines())
	for _, e := range entries {
		if r.t.Failed() {
			r.t.Logf("log of %s:\n%s", e.Name(), strings.Join(supervise.TailLog(filepath.Join(r.layout.Machines(), e.Name()), 50), "\n"))
		}
		if err := r.supervisor.Stop(ctx, filepath.Join(r.layout.Machines(), e.Name()), time.Millisecond); err != nil {
			r.t.Error(err)
		}
	}
	for slot := range 20 {
		if l, err := netlink.LinkByName(r.naming.Link(slot)); err == nil {
			netlink.LinkDel(l)
		}
	}
	units, err := r.supervisor.Units(ctx, "tekton/"+installation+"/uid-"+r.naming.Instance)
	if err != nil || len(units) > 0 {
		r.t.Errorf("units left: %v %v", units, err)
	}
	r.supervisor.Close()
}

// uid is the owner of everything in this rig, unless a test says otherwise.
func (r *rig) uid() string { return "uid-" + r.naming.Instance }

// instance is the n-th machine, running the guest in a mode on the host's userland.
func (r *rig) instance(n int, mode string, change ...func(*resource.Instance)) resource.Instance {
	i := resource.Instance{
		Name: fmt.Sprintf("web%d-1", n), Ordinal: 1, Slot: n, Fingerprint: "f1", Hostname: fmt.Sprintf("web%d", n),
		System: resource.System{Host: true}, Command: []string{"/opt/guest", mode},
		Mounts:  []resource.Bind{{Source: filepath.Join(r.programs, "guest"), Target: "/opt/guest", ReadOnly: true}},
		UIDBase: r.naming.UIDBase(n), Addr: r.naming.Addr(n), StopTimeout: resource.Duration(5 * time.Second),
	}
	for _, c := range change {
		c(&i)
	}
	if r.runtime == v1alpha1.RuntimeNixOSContainer {
		r.contain(&i, n, mode)
	}
	return i
}

func (r *rig) put(v resource.Value, name string) error {
	return r.Apply(r.ctx, []resource.Step{{Verb: resource.Put, Resource: resource.New(r.uid(), "", name, v)}})[0]
}

func (r *rig) mustPut(v resource.Value, name string) {
	r.t.Helper()
	if err := r.put(v, name); err != nil {
		r.t.Fatalf("put %s %s: %v", v.Kind(), name, err)
	}
}

func (r *rig) delete(v resource.Value, name string) error {
	return r.Apply(r.ctx, []resource.Step{{Verb: resource.Delete, Resource: resource.New(r.uid(), "", name, v)}})[0]
}

func (r *rig) mustDelete(v resource.Value, name string) {
	r.t.Helper()
	if err := r.delete(v, name); err != nil {
		r.t.Fatalf("delete %s %s: %v", v.Kind(), name, err)
	}
}

// observed returns one observed resource.
func observed[T resource.Value](r *rig, name string) (v T, owner string, present bool) {
	r.t.Helper()
	d := r.Observe(r.ctx)[v.Kind()]
	if d.Err != nil {
		r.t.Fatalf("observe %s: %v", v.Kind(), d.Err)
	}
	got, present := d.Items[resource.ID{Kind: v.Kind(), Name: name}]
	if !present {
		return v, "", false
	}
	return got.Value.(T), got.Owner, true
}

func (r *rig) unit(name string) resource.Unit {
	r.t.Helper()
	u, _, present := observed[resource.Unit](r, name)
	if !present {
		r.t.Fatalf("unit %s is not observed", name)
	}
	return u
}

// run prepares, starts and attaches a machine and waits until its port answers.
func (r *rig) run(i resource.Instance) resource.Unit {
	r.t.Helper()
	r.mustPut(i, i.Name)
	return r.start(i)
}

func (r *rig) start(i resource.Instance) resource.Unit {
	r.t.Helper()
	r.mustPut(resource.Unit{Name: i.Name, Running: true, StopTimeout: i.StopTimeout}, i.Name)
	u := r.unit(i.Name)
	r.attach(i, u.Leader)
	r.mustPut(resource.Answer{Addr: i.Addr, Boot: u.Boot, Probe: resource.Probe{HTTPPath: "/", Port: 8080, Deadline: resource.Duration(20 * time.Second)}}, i.Name)
	return u
}

// about is what the guest tells about itself.
type about struct {
	PID      int
	UID, GID int
	Groups   []int
	Hostname string
	Dir      string
	Args     []string
	Env      []string
	UIDMap   string
	Caps     string
	Mounts   string
	FDs      []string
	Zombies  int
	Resolv   string
	Passwd   string
}

func (a about) env(name string) string {
	for _, kv := range a.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// call asks the guest's server.
func (r *rig) call(i resource.Instance, path string, args ...string) (string, int) {
	r.t.Helper()
	q := url.Values{}
	for n := 0; n+1 < len(args); n += 2 {
		q.Set(args[n], args[n+1])
	}
	resp, err := http.Get("http://" + i.Addr.String() + ":8080" + path + "?" + q.Encode())
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b), resp.StatusCode
}

func (r *rig) about(i resource.Instance) about {
	r.t.Helper()
	body, _ := r.call(i, "/")
	var a about
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		r.t.Fatalf("%v: %s", err, body)
	}
	return a
}

// eventually waits for a condition that another process brings about.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for !ok() {
		select {
		case <-r.ctx.Done():
			_, _, line, _ := runtime.Caller(1)
			r.t.Fatalf("line %d: waited in vain for %s", line, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ended waits until a machine has ended by itself.
func (r *rig) ended(name string) resource.Unit {
	r.t.Helper()
	var u resource.Unit
	r.eventually("the end of "+name, func() bool { u = r.unit(name); return !u.Running })
	return u
}

// writeFile writes a file and its parents.
func (r *rig) writeFile(path, content string, mode os.FileMode) string {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// rootfs makes a root file system with nothing but the guest.
func (r *rig) rootfs() string {
	r.t.Helper()
	root := filepath.Join(r.state, "images", "tiny")
	guest, err := os.ReadFile(filepath.Join(r.programs, "guest"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.writeFile(filepath.Join(root, "usr/bin/guest"), string(guest), 0o755)
	r.writeFile(filepath.Join(root, "usr/bin/plain"), "no program", 0o644)
	r.writeFile(filepath.Join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", 0o644)
	r.writeFile(filepath.Join(root, "etc/group"), "app:x:1001:\nextra:x:2000:other,app\n", 0o644)
	return root
}

// onRootfs turns an instance into one of the tiny root file system.
func (r *rig) onRootfs(i *resource.Instance) {
	i.System = resource.System{RootFS: r.rootfs()}
	i.Mounts = nil
	if len(i.Command) > 0 {
		i.Command = append([]string{"guest"}, i.Command[1:]...)
	}
}

func reasonOf(err error) string { return resource.Reason(err, "") }

func isStale(err error) bool { return errors.Is(err, resource.ErrStale) }
