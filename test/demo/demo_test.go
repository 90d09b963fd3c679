package demo

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/supervise/supervisetest"
)

func TestMain(m *testing.M) { supervisetest.Main(m) }

// patience is how long a demo may take on a machine that is busy with other tests.
const patience = 5 * time.Minute

// programs that the demo needs beside Go.
var programs = []string{"systemd-nspawn", "nft", "caddy", "curl", "python3", "ss", "flock", "setsid", "setpriv", "git"}

// run is one hack/demo.sh.
type run struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  output
	done chan struct{}
}

// output collects what the demo says, while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// stateDir is one that PostgreSQL and Caddy, who are not root, can reach.
func stateDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "tekton-demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "state")
}

func start(t *testing.T, dir string, env ...string) *run {
	t.Helper()
	r := &run{t: t, cmd: exec.Command("hack/demo.sh"), done: make(chan struct{})}
	r.cmd.Dir = filepath.Join("..", "..")
	// The instance begins with t, so that hack/sweep.sh knows the cgroups of a killed run.
	r.cmd.Env = append(os.Environ(), append([]string{"DEMO_DIR=" + dir, "DEMO_INSTANCE=tdem"}, env...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	// What the demo starts keeps its output open; only the script is waited for.
	r.cmd.WaitDelay = time.Second
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("the demo said:\n%s", &r.out)
		}
	})
	go func() {
		defer close(r.done)
		r.cmd.Wait()
	}()
	return r
}

// await waits for a text, and fails when the demo ends without it.
func (r *run) await(text string) {
	r.t.Helper()
	for late := time.After(patience); !strings.Contains(r.out.String(), text); {
		select {
		case <-r.done:
			if !strings.Contains(r.out.String(), text) {
				r.t.Fatalf("the demo ended without saying %q", text)
			}
		case <-late:
			r.t.Fatalf("the demo did not say %q", text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end waits for the script and returns its exit code.
func (r *run) end() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatal("the demo does not end")
	}
	return r.cmd.ProcessState.ExitCode()
}

// says fails for each text that the demo did not say.
func (r *run) says(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.out.String(), text) {
			r.t.Errorf("the demo did not say %q", text)
		}
	}
}

const (
	up   = "It stays up until Ctrl-C"
	gone = "Gone: no process, link, address, rule, route, nft table, mount, cgroup, setting, database or file of it is left."
)

func TestOnce(t *testing.T) {
	supervisetest.Root(t, programs...)
	dir := stateDir(t)
	r := start(t, dir, "DEMO_ONCE=1")
	if code := r.end(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	r.says("<h1>Hello from hello</h1>", "<h1>Shop</h1>", `"machine": "shop-api"`, "<h1>Guestbook</h1>", "<li>signed at ", "**The preview is ready**", "<h1>Notes</h1>", "<h1>Better notes</h1>", "**No preview**", gone)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory is still there: %v", err)
	}
}

// What a killed demo left is removed by the next one, and a signal at the end
// of that removes everything as well.
func TestKilledThenTerminated(t *testing.T) {
	supervisetest.Root(t, programs...)
	dir := stateDir(t)
	first := start(t, dir)
	first.await(up)
	first.cmd.Process.Kill()
	first.end()

	second := start(t, dir)
	second.await(up)
	second.cmd.Process.Signal(syscall.SIGTERM)
	if code := second.end(); code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
	second.says("Remove what an earlier demo left", gone)
}
