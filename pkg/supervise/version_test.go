package supervise_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/supervise"
)

// TestVersions adopts what a supervisor of this or of the previous version of
// the contract runs, and leaves alone, with an error, what it cannot read.
func TestVersions(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	want := f.start(dir, f.spec("a", "sleep"))
	path := filepath.Join(dir, supervise.StatusFile)
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	field := fmt.Sprintf(`"version":%d`, supervise.Version)
	if !strings.Contains(string(written), field) {
		t.Fatalf("no %s in %s", field, written)
	}
	for _, tt := range []struct {
		version int
		spoken  bool
	}{{supervise.Version - 2, false}, {supervise.Version + 1, false}, {supervise.Version, true}, {supervise.Version - 1, true}} {
		status := strings.Replace(string(written), field, fmt.Sprintf(`"version":%d`, tt.version), 1)
		if err := os.WriteFile(path, []byte(status), 0o600); err != nil {
			t.Fatal(err)
		}
		got, found, err := f.another().Status(dir)
		if tt.spoken && (err != nil || !found || !got.Running || got.PID != want.PID) {
			t.Errorf("version %d: %+v %v %v", tt.version, got, found, err)
		}
		if !tt.spoken && (err == nil || !strings.Contains(err.Error(), "version")) {
			t.Errorf("version %d: %+v without an error that names it: %v", tt.version, got, err)
		}
		if !alive(want.PID) {
			t.Fatalf("version %d: the process has ended", tt.version)
		}
	}
	// The last one is the previous version: it is stopped like any other.
	if err := f.another().Stop(t.Context(), dir, 0); err != nil || alive(want.PID) {
		t.Errorf("stop: %v, alive %v", err, alive(want.PID))
	}
}
