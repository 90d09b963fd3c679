package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/servertest"
	"tekton.host/pkg/server/wire"
)

var web = v1alpha1.Ref{Kind: v1alpha1.KindContainer, Name: "web"}

func item(name string) v1alpha1.Item {
	return v1alpha1.Item{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindContainer},
		Metadata: v1alpha1.ItemMeta{Name: name, UID: "uid-" + name},
		Status:   v1alpha1.Status{Phase: v1alpha1.PhaseReady, Conditions: []v1alpha1.Condition{}},
	}
}

// machine starts a process in namespaces of its own, with a mapped user
// namespace and a root that is not the host's, and returns its leader.
func machine(t *testing.T) server.Leader {
	t.Helper()
	testenv.Root(t, "nsenter", "busybox")
	root := t.TempDir()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, busybox, filepath.Join(root, "bin/busybox"))
	for _, name := range []string{"sh", "cat", "sleep", "id", "hostname", "env", "tty", "stty", "pwd", "head", "ls", "true", "setsid"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "tmp", "data"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	// The whole path must be open to the machine's ids.
	for dir := root; dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 524288, Size: 65536}}
	cmd := exec.Command("/bin/sh", "-c", "hostname machine; /bin/busybox mount -t proc proc /proc; echo up; exec sleep 1000")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC |
			syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWCGROUP,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{}, Chroot: root,
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("machine said %q, %v: %s", line, err, &stderr)
	}
	return server.Leader{PID: cmd.Process.Pid, Boot: "b1"}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// serve returns the path of the socket and a function that stops the server.
func serve(t *testing.T, b server.Backend) (socket string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := server.Listen(server.ListenOptions{Path: socket})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return socket, stop
}

func withMachine(t *testing.T) (socket string, stop func(), leader server.Leader) {
	leader = machine(t)
	b := servertest.New(servertest.State{Items: []v1alpha1.Item{item("web"), item("off")}, Leaders: map[v1alpha1.Ref]server.Leader{web: leader}})
	socket, stop = serve(t, b)
	return socket, stop, leader
}

type result struct {
	Code           int
	Stdout, Stderr string
}

func run(t *testing.T, socket, stdin string, req wire.ExecRequest) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code, err := client.New(socket).Exec(t.Context(), web, req, client.Streams{Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatalf("exec %q: %v", req.Command, err)
	}
	return result{code, stdout.String(), stderr.String()}
}

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestExec(t *testing.T) {
	socket, _, _ := withMachine(t)
	size := wire.Size{Rows: 33, Cols: 99}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	tests := map[string]struct {
		req   wire.ExecRequest
		stdin string
		want  result
	}{
		"root inside":               {wire.ExecRequest{Command: sh("id -u; id -g; hostname; pwd")}, "", result{0, "0\n0\nmachine\n/\n", ""}},
		"exit code":                 {wire.ExecRequest{Command: sh("echo out; echo err >&2; exit 42")}, "", result{42, "out\n", "err\n"}},
		"signal":                    {wire.ExecRequest{Command: sh("kill -9 $$")}, "", result{137, "", ""}},
		"input and its end":         {wire.ExecRequest{Command: []string{"cat"}}, "in\n", result{0, "in\n", ""}},
		"more than a window":        {wire.ExecRequest{Command: []string{"cat"}}, big, result{0, big, ""}},
		"input not read":            {wire.ExecRequest{Command: []string{"true"}}, big, result{0, "", ""}},
		"working directory":         {wire.ExecRequest{Command: []string{"pwd"}, WorkDir: "/data"}, "", result{0, "/data\n", ""}},
		"no terminal":               {wire.ExecRequest{Command: []string{"tty"}}, "", result{1, "not a tty\n", ""}},
		"terminal":                  {wire.ExecRequest{Command: sh("test -t 0 && test -t 1 && stty size && echo $TERM"), Terminal: &wire.Terminal{Type: "xterm", Size: size}}, "", result{0, "33 99\r\nxterm\r\n", ""}},
		"terminal's exit code":      {wire.ExecRequest{Command: sh("exit 7"), Terminal: &wire.Terminal{}}, "", result{7, "", ""}},
		"hostile TERM":              {wire.ExecRequest{Command: sh("case $TERM in */*) exit 1; esac"), Terminal: &wire.Terminal{Type: "../../x"}}, "", result{0, "", ""}},
		"nothing open from outside": {wire.ExecRequest{Command: sh("ls /proc/self/fd")}, "", result{0, "0\n1\n2\n3\n", ""}},
		"background process":        {wire.ExecRequest{Command: sh("sleep 1000 & echo started")}, "", result{0, "started\n", ""}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := run(t, socket, tc.stdin, tc.req)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := run(t, socket, "", wire.ExecRequest{Command: []string{"no-such-program"}}); got.Code != 127 || !strings.Contains(got.Stderr, "no-such-program") {
		t.Errorf("a program that is not there: %+v", got)
	}
}

func TestExecLauncher(t *testing.T) {
	leader := machine(t)
	leader.Launcher = []string{"env", "DATABASE_URL=postgres://here"}
	b := servertest.New(servertest.State{Items: []v1alpha1.Item{item("web")}, Leaders: map[v1alpha1.Ref]server.Leader{web: leader}})
	socket, _ := serve(t, b)
	got := run(t, socket, "", wire.ExecRequest{Command: sh("echo $DATABASE_URL $HOME")})
	if diff := cmp.Diff(result{0, "postgres://here /root\n", ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExecRefused(t *testing.T) {
	socket, _, _ := withMachine(t)
	exec := func(ref v1alpha1.Ref, command ...string) error {
		_, err := client.New(socket).Exec(t.Context(), ref, wire.ExecRequest{Command: command}, client.Streams{Stdout: io.Discard, Stderr: io.Discard})
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		code wire.Code
	}{
		"no object":   {exec(v1alpha1.Ref{Kind: "Container", Name: "none"}, "true"), wire.NotFound},
		"not running": {exec(v1alpha1.Ref{Kind: "Container", Name: "off"}, "true"), wire.Conflict},
		"no command":  {exec(web), wire.Invalid},
		"NUL":         {exec(web, "a\x00b"), wire.Invalid},
	} {
		if e, ok := tc.err.(*wire.Error); !ok || e.Code != tc.code {
			t.Errorf("%s: %v, want code %s", name, tc.err, tc.code)
		}
	}
}

// inMachine returns how many processes beside its first the machine has.
func inMachine(t *testing.T, leader server.Leader) int {
	t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", leader.PID))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range links {
		target, err := os.Readlink(link)
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(link)), "stat"))
		if zombie := bytes.Contains(stat, []byte(") Z ")); err == nil && target == own && !zombie {
			n++
		}
	}
	return n - 1
}

// eventually polls until the condition holds; the test's own deadline ends it otherwise.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		if t.Context().Err() != nil {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// notifier calls back when something is written.
type notifier struct {
	bytes.Buffer
	written chan struct{}
}

func (n *notifier) Write(p []byte) (int, error) {
	defer func() {
		select {
		case n.written <- struct{}{}:
		default:
		}
	}()
	return n.Buffer.Write(p)
}

func TestExecSignalsAndResize(t *testing.T) {
	socket, _, _ := withMachine(t)
	signals := make(chan os.Signal, 1)
	out := &notifier{written: make(chan struct{}, 1)}
	go func() {
		<-out.written
		signals <- syscall.SIGTERM
	}()
	stdin, keep := io.Pipe()
	defer keep.Close()
	code, err := client.New(socket).Exec(t.Context(), web, wire.ExecRequest{Command: sh("trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done")},
		client.Streams{Stdin: stdin, Stdout: out, Stderr: io.Discard, Signals: signals})
	if err != nil || code != 9 {
		t.Errorf("with a trap for SIGTERM: code %d, %v, want 9", code, err)
	}

	resize := make(chan wire.Size, 1)
	out = &notifier{written: make(chan struct{}, 1)}
	go func() {
		<-out.written
		resize <- wire.Size{Rows: 11, Cols: 22}
	}()
	code, err = client.New(socket).Exec(t.Context(), web,
		wire.ExecRequest{Command: sh("stty size; while [ \"$(stty size)\" != '11 22' ]; do sleep 0.02; done"), Terminal: &wire.Terminal{Size: wire.Size{Rows: 1, Cols: 2}}},
		client.Streams{Stdin: stdin, Stdout: out, Stderr: io.Discard, Resize: resize})
	if err != nil || code != 0 {
		t.Errorf("resize: code %d, %v", code, err)
	}
}

func TestExecTerminalControlC(t *testing.T) {
	socket, _, _ := withMachine(t)
	out := &notifier{written: make(chan struct{}, 1)}
	stdin, keep := io.Pipe()
	defer keep.Close()
	go func() {
		<-out.written
		keep.Write([]byte{3})
	}()
	code, err := client.New(socket).Exec(t.Context(), web, wire.ExecRequest{Command: sh("echo ready; exec sleep 1000"), Terminal: &wire.Terminal{}},
		client.Streams{Stdin: stdin, Stdout: out, Stderr: io.Discard})
	if err != nil || code != 130 {
		t.Errorf("after ^C: code %d, %v, want 130", code, err)
	}
}

// A client that goes, hung or not, leaves no process behind.
func TestExecClientGoes(t *testing.T) {
	socket, stop, leader := withMachine(t)
	requests := map[string]wire.ExecRequest{
		"waits":               {Command: []string{"sleep", "1000"}},
		"ignores hang-ups":    {Command: sh("trap '' HUP; sleep 1000; sleep 1000")},
		"has children":        {Command: sh("sleep 1000 & sleep 1000 & wait")},
		"writes for ever":     {Command: sh("while :; do echo 0123456789; done")},
		"on a terminal":       {Command: sh("while :; do echo 0123456789; done"), Terminal: &wire.Terminal{}},
		"shell on a terminal": {Command: []string{"sh", "-i"}, Terminal: &wire.Terminal{}},
	}
	for name, req := range requests {
		t.Run(name, func(t *testing.T) {
			conn := hungClient(t, socket, req)
			processes := 1
			if name == "ignores hang-ups" {
				processes = 2 // the trap is set
			}
			eventually(t, "the command runs", func() bool { return inMachine(t, leader) >= processes })
			// More input than the command takes must not hide that we go.
			wire.WriteFrame(conn, wire.FrameStdin, make([]byte, wire.MaxFrame))
			conn.Close()
			eventually(t, "the command is gone", func() bool { return inMachine(t, leader) == 0 })
		})
	}
	t.Run("server ends", func(t *testing.T) {
		conn := hungClient(t, socket, wire.ExecRequest{Command: sh("while :; do echo 0123456789; done")})
		defer conn.Close()
		eventually(t, "the command runs", func() bool { return inMachine(t, leader) > 0 })
		stop()
		if n := inMachine(t, leader); n != 0 {
			t.Errorf("%d processes are left", n)
		}
	})
}

// A client that sends more than its window is cut off.
func TestExecWindow(t *testing.T) {
	socket, _, leader := withMachine(t)
	conn := hungClient(t, socket, wire.ExecRequest{Command: []string{"sleep", "1000"}})
	defer conn.Close()
	for range wire.StdinWindow/wire.MaxFrame + 8 { // the pipe takes some
		wire.WriteFrame(conn, wire.FrameStdin, make([]byte, wire.MaxFrame))
	}
	eventually(t, "the command is gone", func() bool { return inMachine(t, leader) == 0 })
}

// hungClient starts a command and then reads nothing.
func hungClient(t *testing.T, socket string, req wire.ExecRequest) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/objects/Container/web/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: %d\r\n\r\n%s", wire.ExecProtocol, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	return conn
}
