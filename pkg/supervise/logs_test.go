package supervise_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/supervise"
)

func TestLogIsBounded(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "log 20000")
	spec.Notify, spec.LogMax = true, 20_000
	f.start(dir, spec)
	last := fmt.Sprintf("line %06d", 19_999)
	eventually(t, "last line", func() bool {
		lines := supervise.TailLog(dir, 1)
		return len(lines) == 1 && lines[0] == last
	})
	for _, name := range []string{supervise.LogFile, supervise.LogFile + ".1"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 10_000 {
			t.Errorf("%s has %d bytes, its half is 10000", name, info.Size())
		}
	}
	all := supervise.TailLog(dir, 1_000_000)
	first := 20_000 - len(all)
	for i, line := range all {
		if want := fmt.Sprintf("line %06d", first+i); line != want {
			t.Fatalf("line %d of what is kept is %q, want %q: cut or lost", i, line, want)
		}
	}
}

func TestTailLog(t *testing.T) {
	tests := map[string]struct {
		older, newer string
		n            int
		want         []string
	}{
		"none":             {"", "", 3, nil},
		"fewer than asked": {"", "a\nb\n", 3, []string{"a", "b"}},
		"exactly":          {"", "a\nb\nc\n", 3, []string{"a", "b", "c"}},
		"more":             {"", "a\nb\nc\nd\n", 3, []string{"b", "c", "d"}},
		"over both":        {"a\nb\n", "c\nd\n", 3, []string{"b", "c", "d"}},
		"newer only":       {"a\nb\n", "c\nd\n", 2, []string{"c", "d"}},
		"all of both":      {"a\nb\n", "c\n", 9, []string{"a", "b", "c"}},
		"unfinished":       {"a\n", "b\nc", 2, []string{"b", "c"}},
		"long lines":       {"", strings.Repeat("x", 9000) + "\n" + strings.Repeat("y", 9000) + "\nz\n", 2, []string{strings.Repeat("y", supervise.MaxLine) + "…", "z"}},
		"over a buffer":    {"", strings.Repeat("x", 9000) + "\n" + strings.Repeat("y\n", 9000), 2, []string{"y", "y"}},
		"no end of a line": {"", strings.Repeat("€", 1<<20), 2, []string{strings.Repeat("€", supervise.MaxLine/3) + "…"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.older != "" {
				os.WriteFile(filepath.Join(dir, supervise.LogFile+".1"), []byte(tt.older), 0o600)
			}
			if tt.newer != "" {
				os.WriteFile(filepath.Join(dir, supervise.LogFile), []byte(tt.newer), 0o600)
			}
			if diff := cmp.Diff(tt.want, supervise.TailLog(dir, tt.n)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFollowOverRotations(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	spec := f.spec("a", "talk")
	spec.Notify, spec.LogMax = true, 64 // a rotation every four lines
	f.start(dir, spec)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := supervise.OpenLog(ctx, dir, supervise.LogOptions{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lines := bufio.NewReader(r)
	for i := range 30 {
		got, err := lines.ReadString('\n')
		if want := fmt.Sprintf("said %d\n", i); got != want || err != nil {
			t.Fatalf("want %q, got %q, %v", want, got, err)
		}
		if err := f.Signal(t.Context(), dir, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if _, err := io.ReadAll(lines); err != nil {
		t.Errorf("the end of the context reads as %v, want end of file", err)
	}
}
