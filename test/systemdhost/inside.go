package systemdhost

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/supervise/supervisetest"
)

// InsideEnv is "1" for tests that run inside a host.
const InsideEnv = "TEKTON_TEST_INSIDE_SYSTEMD"

// Inside reports whether this test process runs inside a host.
func Inside() bool { return os.Getenv(InsideEnv) == "1" }

// isolatedEnv tells supervisetest.Main that namespaces of their own are there
// for the tests already.
const isolatedEnv = "TEKTON_TEST_ISOLATED"

func isolated() bool { return os.Getenv(isolatedEnv) == "1" }

// supervisor is where the host finds tekton-supervise.
const supervisor = "/usr/local/bin/tekton-supervise"

// RunInside runs this test binary's tests that match pattern in a host of its
// own, so that a package's machine tests run under systemd too. Their output is
// the test's. The module's sources are there, read-only, at the same path, and
// nothing is skipped inside. files are further programs to copy, by target.
// Inside a host it does nothing.
func RunInside(t *testing.T, pattern string, files map[string]string) {
	t.Helper()
	if Inside() {
		return
	}
	supervisetest.Root(t)
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	module := moduleRoot(t, wd)
	h := Boot(t, Options{Binds: []Bind{{Source: module, Target: module, ReadOnly: true}}})
	all := map[string]string{DataDir + "/test": exe, supervisor: supervisetest.Program(t)}
	for target, source := range files {
		all[target] = source
	}
	for target, source := range all {
		if err := h.Copy(source, target); err != nil {
			t.Fatal(err)
		}
	}
	h.runTests(t, wd, pattern)
}

func (h *Host) runTests(t *testing.T, wd, pattern string) {
	t.Helper()
	ctx := context.Background()
	timeout := time.Duration(0) // none
	if deadline, ok := t.Deadline(); ok {
		timeout = time.Until(deadline)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	cmd := h.Command(ctx, "env", "--chdir="+wd, DataDir+"/test",
		"-test.v", "-test.run="+pattern, "-test.skip=^"+regexp.QuoteMeta(t.Name())+"$", "-test.timeout="+timeout.String())
	cmd.Env = append(cmd.Env, InsideEnv+"=1", isolatedEnv+"=1", supervisetest.RequireEnv+"=1", supervisetest.ProgramEnv+"="+supervisor)
	var out bytes.Buffer
	cmd.Stdout = io.MultiWriter(&out, t.Output())
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		t.Errorf("tests inside the systemd host: %v", err)
	}
	if !strings.Contains(out.String(), "--- PASS: ") {
		t.Errorf("no test inside the systemd host passed; does %q match any?", pattern)
	}
}

// moduleRoot is the directory above wd that has the go.mod.
func moduleRoot(t *testing.T, wd string) string {
	t.Helper()
	for dir := wd; ; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "go.mod")) {
			return dir
		}
		if dir == "/" {
			t.Fatalf("no go.mod above %s", wd)
		}
	}
}
