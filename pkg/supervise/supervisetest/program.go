// Package supervisetest gives tests a tekton-supervise to run.
package supervisetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// ProgramEnv names a tekton-supervise that is already there, for tests that run
// where there is no Go (test/systemdhost sets it).
const ProgramEnv = "TEKTON_TEST_SUPERVISE"

// build makes the program once a process. Its file is removed at once and
// reached through this process's descriptor: however the tests end, nothing is
// left of it.
var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(ProgramEnv); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "tekton-supervise-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tekton-supervise")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "tekton.host/cmd/tekton-supervise")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &buildError{err, string(out)}
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
})

type buildError struct {
	err error
	out string
}

func (e *buildError) Error() string { return "build tekton-supervise: " + e.err.Error() + ": " + e.out }

// Program returns the path of a tekton-supervise built from this tree. It is
// good as long as the test process lives.
func Program(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
