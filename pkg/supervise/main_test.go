package supervise_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// helperEnv makes this test binary play the supervised process.
const helperEnv = "TEKTON_SUPERVISE_HELPER"

func TestMain(m *testing.M) {
	if role := os.Getenv(helperEnv); role != "" {
		words := strings.Fields(role)
		roles[words[0]](words[1:])
		return
	}
	if os.Getpid() == 1 && os.Getenv(umlEnv) != "" {
		umlInit(m)
		return
	}
	systemdhost.Main(m)
}

// TestUnderSystemd runs all of it again with transient units.
func TestUnderSystemd(t *testing.T) {
	if systemdhost.Inside() {
		return
	}
	t.Parallel()
	systemdhost.RunInside(t, ".", nil)
}

// fixture is one Manager with a parent of its own on the host.
type fixture struct {
	t       *testing.T
	options supervise.Options
	*supervise.Manager
}

const installation = "0123456789ab"

func newFixture(t *testing.T) *fixture {
	t.Helper()
	testenv.Root(t)
	o := supervise.Options{
		Form:    supervise.DetectForm(),
		Program: supervisetest.Program(t),
		Parent:  fmt.Sprintf("tktest%d%d", os.Getpid(), time.Now().UnixNano()%1e9),
	}
	f := &fixture{t, o, nil}
	f.Manager = f.another()
	t.Cleanup(f.sweep)
	return f
}

// another returns a Manager that knows nothing of the first.
func (f *fixture) another() *supervise.Manager {
	f.t.Helper()
	m, err := supervise.New(f.options)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { m.Close() })
	return m
}

// sweep ends what a failed test left, and fails one that left something by itself.
func (f *fixture) sweep() {
	ctx := context.Background()
	units, err := f.Units(ctx, f.mark())
	if err != nil {
		f.t.Error(err)
	}
	for _, u := range units {
		if err := f.Clear(ctx, u.Name, u.Mark); err != nil {
			f.t.Error(err)
		}
	}
}

// mark carries the fixture's own name, since systemd's units are all in one list.
func (f *fixture) mark() string { return "tekton/" + installation + "/" + f.options.Parent }

// spec returns a spec of the helper in a role.
func (f *fixture) spec(name, role string) supervise.Spec {
	exe, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	return supervise.Spec{
		Name: name, Unit: f.options.Parent + "-" + name + ".service", Mark: f.mark(),
		Argv:        []string{exe},
		Env:         []string{helperEnv + "=" + role},
		StopTimeout: time.Second,
	}
}

// dir returns a directory whose path is too long for the address of a socket.
func (f *fixture) dir(name string) string {
	return filepath.Join(f.t.TempDir(), strings.Repeat("long/", 20), name)
}

// start starts a spec, and stops it at the end of the test.
func (f *fixture) start(dir string, s supervise.Spec) supervise.Status {
	f.t.Helper()
	f.t.Cleanup(func() { f.stop(dir) })
	status, err := f.Start(f.t.Context(), dir, s)
	if err != nil {
		f.t.Fatal(err)
	}
	return status
}

func (f *fixture) stop(dir string) {
	f.t.Helper()
	if err := f.Stop(context.Background(), dir, 0); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) status(dir string) supervise.Status {
	f.t.Helper()
	status, found, err := f.Status(dir)
	if err != nil || !found {
		f.t.Fatalf("Status: found %v, err %v", found, err)
	}
	return status
}

// eventually waits for what needs a moment; its bound is far above what is normal.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never came: %s", what)
}

// alive reports whether a process exists and is more than a zombie.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
