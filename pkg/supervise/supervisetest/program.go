// Package supervisetest gives tests a tekton-supervise to run.
package supervisetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// ProgramEnv names a tekton-supervise that is already there, for tests that run
// where there is no Go (test/systemdhost sets it).
const ProgramEnv = "TEKTON_TEST_SUPERVISE"

// build makes the program once a process.
var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(ProgramEnv); path != "" {
		return path, nil
	}
	// Not t.TempDir: supervisors may outlive the first test that asks.
	dir, err := os.MkdirTemp("", "tekton-supervise-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "tekton-supervise")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "tekton.host/cmd/tekton-supervise")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &buildError{err, string(out)}
	}
	return path, nil
})

type buildError struct {
	err error
	out string
}

func (e *buildError) Error() string { return "build tekton-supervise: " + e.err.Error() + ": " + e.out }

// Program returns the path of a tekton-supervise built from this tree.
func Program(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Remove removes what Program built. Call it at the end of TestMain where one
// exists; without it a temporary file stays.
func Remove() {
	if os.Getenv(ProgramEnv) != "" {
		return
	}
	if path, err := build(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
}
