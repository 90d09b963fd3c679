package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/servertest"
)

var (
	update = flag.Bool("update", false, "write what the scripts print into them")
	binary string // directory of the built tekton
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tk")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir, "tekton.host/cmd/tekton")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build tekton:", err)
			return 1
		}
		binary = dir
		return m.Run()
	}())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// A socket's path has room for 107 bytes.
			run, err := os.MkdirTemp("", "tk")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(run) })
			e.Setenv("PATH", binary+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("TEKTON", filepath.Join(binary, "tekton"))
			e.Setenv("TEKTON_SOCKET", filepath.Join(run, "s"))
			e.Setenv("NO_COLOR", "1")
			e.Values[daemonKey{}] = &daemon{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": cmdDaemon, "change": cmdChange, "called": cmdCalled, "exits": cmdExits, "starts": cmdStarts, "ends": cmdEnds, "says": cmdSays, "secret-is": cmdSecretIs,
			"machine": cmdMachine,
		},
		Condition: condition,
	})
}

// condition: root. Without it scripts stop, unless the environment forbids that.
func condition(name string) (bool, error) {
	switch {
	case name != "root":
		return false, fmt.Errorf("there is no condition %q", name)
	case os.Geteuid() == 0:
		return true, nil
	case os.Getenv("TEKTON_TEST_REQUIRE") == "1":
		return false, errors.New("needs root, and TEKTON_TEST_REQUIRE=1 forbids skipping")
	}
	return false, nil
}

type daemonKey struct{}

// daemon is the API's server of one script, in this process.
type daemon struct {
	backend *servertest.Backend
	stop    func()
	started sync.Map // names of background commands
}

func of(ts *testscript.TestScript) *daemon { return ts.Value(daemonKey{}).(*daemon) }

// cmdDaemon: daemon STATE.json | daemon stop | daemon (again, with the state it had)
func cmdDaemon(ts *testscript.TestScript, _ bool, args []string) {
	d := of(ts)
	if len(args) > 0 && args[0] == "stop" {
		d.stop()
		return
	}
	if len(args) > 0 {
		var state servertest.State
		ts.Check(json.Unmarshal([]byte(relative(ts.ReadFile(args[0]))), &state))
		d.backend = servertest.New(state)
	}
	l, err := server.Listen(server.ListenOptions{Path: ts.Getenv("TEKTON_SOCKET")})
	ts.Check(err)
	s, err := server.New(server.Options{Backend: d.backend})
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			ts.Logf("serve: %v", err)
		}
	})
	ts.Defer(d.stop)
}

var ago = regexp.MustCompile(`"(-?[0-9]+[a-z]+) ago"`)

// relative makes times out of "5m ago".
func relative(text string) string {
	return ago.ReplaceAllStringFunc(text, func(s string) string {
		d, err := time.ParseDuration(ago.FindStringSubmatch(s)[1])
		if err != nil {
			return s
		}
		return strconv.Quote(time.Now().Add(-d).Format(time.RFC3339Nano))
	})
}

// cmdChange: change STATE.json lays the file over the state.
func cmdChange(ts *testscript.TestScript, _ bool, args []string) {
	text := []byte(relative(ts.ReadFile(args[0])))
	of(ts).backend.Update(func(s *servertest.State) {
		var over map[string]json.RawMessage
		ts.Check(json.Unmarshal(text, &over))
		if over["items"] != nil {
			s.Items = nil // else the elements would be merged
		}
		ts.Check(json.Unmarshal(text, s))
	})
}

// cmdCalled: [!] called PATTERN
func cmdCalled(ts *testscript.TestScript, neg bool, args []string) {
	calls := strings.Join(of(ts).backend.Calls(), "\n")
	if found, err := regexp.MatchString("(?m)"+args[0], calls); err != nil || found == neg {
		ts.Fatalf("calls were:\n%s", calls)
	}
}

// cmdMachine: machine KIND NAME [LAUNCHER...] runs a machine with the host's
// files; what is run in it is handed to the launcher.
func cmdMachine(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command("sh", "-c", "hostname machine; mount -t proc proc /proc; echo up; exec sleep 1000")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	_, err = io.ReadFull(out, make([]byte, len("up\n")))
	ts.Check(err)
	of(ts).backend.Update(func(s *servertest.State) {
		s.Leaders = map[v1alpha1.Ref]server.Leader{{Kind: args[0], Name: args[1]}: {PID: cmd.Process.Pid, Boot: "b1", Launcher: args[2:]}}
	})
}

// cmdSecretIs: secret-is NAME QUOTED
func cmdSecretIs(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Unquote(args[1])
	ts.Check(err)
	if got := string(of(ts).backend.Secret(args[0])); got != want {
		ts.Fatalf("secret %s is %q, want %q", args[0], got, want)
	}
}

// cmdExits: exits CODE COMMAND...
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// background is a command of starts.
type background struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end
	out  *os.File
}

// cmdStarts: starts NAME PATTERN COMMAND... runs a command and returns when its
// output matches.
func cmdStarts(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[1])
	out, err := os.Create(ts.MkAbs(args[0] + ".out"))
	ts.Check(err)
	cmd := exec.Command(filepath.Join(binary, args[2]), args[3:]...)
	cmd.Env = append(os.Environ(), "TEKTON_SOCKET="+ts.Getenv("TEKTON_SOCKET"), "NO_COLOR=1")
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, ts.MkAbs(".")
	ts.Check(cmd.Start())
	b := &background{cmd: cmd, done: make(chan struct{}), out: out}
	go func() {
		defer close(b.done)
		cmd.Wait()
	}()
	ts.Defer(func() { cmd.Process.Kill() })
	of(ts).started.Store(args[0], b)
	b.says(ts, pattern)
}

// says waits until the output matches.
func (b *background) says(ts *testscript.TestScript, pattern *regexp.Regexp) {
	late := time.After(endTimeout)
	for {
		text, err := os.ReadFile(b.out.Name())
		ts.Check(err)
		if pattern.Match(text) {
			return
		}
		select {
		case <-b.done:
			ts.Fatalf("it ended and said:\n%s", text)
		case <-late:
			ts.Fatalf("it does not say %s, but:\n%s", pattern, text)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// cmdSays: says NAME PATTERN waits until a command of starts has said something.
func cmdSays(ts *testscript.TestScript, _ bool, args []string) {
	v, _ := of(ts).started.Load(args[0])
	v.(*background).says(ts, regexp.MustCompile("(?m)"+args[1]))
}

// endTimeout only ends a test that has failed already.
const endTimeout = 30 * time.Second

// cmdEnds: ends NAME CODE [SIGNAL] waits for the end of a command of starts; its
// output is NAME.out.
func cmdEnds(ts *testscript.TestScript, _ bool, args []string) {
	v, _ := of(ts).started.Load(args[0])
	b := v.(*background)
	if len(args) > 2 {
		ts.Check(b.cmd.Process.Signal(os.Interrupt))
	}
	select {
	case <-b.done:
	case <-time.After(endTimeout):
		ts.Fatalf("it does not end; it said:\n%s", ts.ReadFile(args[0]+".out"))
	}
	b.out.Close()
	if got := strconv.Itoa(b.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("exit code %s, want %s; it said:\n%s", got, args[1], ts.ReadFile(args[0]+".out"))
	}
}
