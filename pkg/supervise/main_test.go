package supervise_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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
		help(strings.Fields(role))
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

// help plays one supervised process.
func help(role []string) {
	switch role[0] {
	case "exit":
		code, _ := strconv.Atoi(role[1])
		fmt.Println("leaving with", code)
		os.Exit(code)
	case "sleep":
		sleepForever()
	case "ready":
		tell("READY=1\nX_NSPAWN_LEADER_PID=" + strconv.Itoa(os.Getpid()))
		sleepForever()
	case "forged": // only a child of the process says READY=1
		child(helperEnv + "=ready")
		sleepForever()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		tell("READY=1")
		sleepForever()
	case "daemon": // leaves a child and a grandchild in sessions of their own
		child(helperEnv + "=parent")
		sleepForever()
	case "parent":
		child(helperEnv + "=stubborn")
	case "abandon": // ends, its children do not
		child(helperEnv + "=parent")
		for !abandoned() {
			time.Sleep(time.Millisecond)
		}
		os.Exit(3)
	case "log":
		lines, _ := strconv.Atoi(role[1])
		w := bufio.NewWriter(os.Stdout)
		for i := range lines {
			fmt.Fprintf(w, "line %06d\n", i)
		}
		w.Flush()
		tell("READY=1")
		sleepForever()
	case "talk": // a line for every SIGUSR1
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, syscall.SIGUSR1)
		tell("READY=1")
		for i := 0; ; i++ {
			fmt.Println("said", i)
			<-signals
		}
	case "hog": // uses so many MiB
		size, _ := strconv.Atoi(role[1])
		memory := make([]byte, size<<20)
		for i := 0; i < len(memory); i += 4096 {
			memory[i] = 1
		}
		fmt.Println("fed")
		sleepForever()
	case "fork": // up to so many children
		count, _ := strconv.Atoi(role[1])
		for i := range count {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), helperEnv+"=sleep")
			if err := cmd.Start(); err != nil {
				fmt.Println("fork failed:", i, err)
				break
			}
		}
		sleepForever()
	case "whoami":
		groups, _ := os.Getgroups()
		wd, _ := os.Getwd()
		fmt.Println(os.Getuid(), os.Getgid(), groups, wd, os.Environ())
		tell("READY=1")
		sleepForever()
	}
}

func sleepForever() {
	for {
		time.Sleep(time.Hour)
	}
}

// abandoned reports whether the grandchild's parent is gone.
func abandoned() bool {
	b, _ := os.ReadFile("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children")
	return len(b) == 0
}

func child(env string) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), env)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go cmd.Wait()
}

func tell(text string) {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return
	}
	conn.Write([]byte(text))
	conn.Close()
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
