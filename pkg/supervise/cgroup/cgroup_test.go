package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/supervise/contract"
)

// fake is a directory that looks like a group with these files.
func fake(t *testing.T, files map[string]string) Group {
	t.Helper()
	root := t.TempDir()
	g := Host{Root: root}.Group("unit")
	if err := os.Mkdir(g.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(g.Dir(), name), []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestLimit(t *testing.T) {
	none := map[string]string{
		"memory.max": "max", "memory.high": "max", "cpu.max": "max 100000", "cpu.weight": "100", "io.weight": "default 100", "pids.max": "max",
	}
	tests := map[string]struct {
		limits contract.Limits
		want   map[string]string // changed files
	}{
		"nothing": {contract.Limits{}, nil},
		"all": {
			contract.Limits{MemoryMax: 4096, MemoryHigh: 2048, CPUQuota: 150, CPUWeight: 10, IOWeight: 20, TasksMax: 30},
			map[string]string{"memory.max": "4096", "memory.high": "2048", "cpu.max": "150000 100000", "cpu.weight": "10", "io.weight": "default 20", "pids.max": "30"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := fake(t, none)
			if unenforced := g.Limit(tt.limits); unenforced != "" {
				t.Errorf("not enforced: %s", unenforced)
			}
			for file, before := range none {
				want, changed := tt.want[file]
				if !changed {
					want = before
				}
				// A real file of a cgroup is replaced by a write, a plain one is written over.
				if got := g.read(file); len(got) < len(want) || got[:len(want)] != want {
					t.Errorf("%s is %q, want %q", file, got, want)
				}
			}
		})
	}
	if got := fake(t, nil).Limit(contract.Limits{TasksMax: 3}); got == "" {
		t.Error("a limit without a file counts as enforced")
	}
}

func TestControllers(t *testing.T) {
	got := Controllers(contract.Limits{MemoryMax: 1, MemoryHigh: 1, TasksMax: 1})
	if diff := cmp.Diff([]string{"memory", "pids"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Controllers(contract.Limits{}); got != nil {
		t.Errorf("no limits need %v", got)
	}
}
