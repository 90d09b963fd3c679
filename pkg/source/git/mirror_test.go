package git

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/source/git/gittest"
)

// TestHistory: the branch may be moved to any commit, and be gone.
func TestHistory(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	s := open(t, o)
	refused(t, s, "has no branch main")
	first := r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")
	r.Push(map[string]string{"b.yaml": doc("b")})
	good(t, s, "a", "b")
	r.Git("checkout", "--quiet", "--orphan", "other")
	r.Push(map[string]string{"a.yaml": "", "c.yaml": doc("c")})
	good(t, s, "b", "c")
	r.Git("reset", "--quiet", "--hard", first)
	r.Git("push", "--quiet", "--force", "origin", "HEAD:main")
	good(t, s, "a")
	r.Git("push", "--quiet", "origin", "HEAD:refs/heads/keep", ":main")
	refused(t, s, "has no branch main", "a")
	// A tag or a longer name with this ending is not the branch.
	r.Git("push", "--quiet", "origin", "HEAD:refs/tags/main", "HEAD:refs/heads/x/refs/heads/main")
	refused(t, s, "has no branch main", "a")
	good(t, open(t, Options{Name: "fleet", URL: o.URL, Branch: "keep", Interval: o.Interval, Timeout: o.Timeout, MaxSize: o.MaxSize,
		Dir: o.Dir, RunDir: o.RunDir, User: o.User, Decode: o.Decode}), "a")
	if err := os.RemoveAll(r.Bare); err != nil {
		t.Fatal(err)
	}
	refused(t, s, "not found", "a")
}

// TestDamage: a mirror that a crash or a bad disk has broken is made anew, and
// what a killed run has left does not stop the next.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, dir string){
		"locks of a killed run": func(t *testing.T, dir string) {
			for _, f := range []string{"shallow.lock", "packed-refs.lock", "HEAD.lock", "config.lock", "refs/tekton/good.lock", "refs/tekton/fetched.lock", "gc.pid"} {
				put(t, filepath.Join(dir, f), "")
			}
			put(t, filepath.Join(dir, "objects/pack/tmp_pack_killed"), strings.Repeat("x", 1<<20))
		},
		"no HEAD":            func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "HEAD")) },
		"empty HEAD":         func(t *testing.T, dir string) { put(t, filepath.Join(dir, "HEAD"), "") },
		"empty config":       func(t *testing.T, dir string) { put(t, filepath.Join(dir, "config"), "") },
		"empty reference":    func(t *testing.T, dir string) { put(t, filepath.Join(dir, refGood), "") },
		"no objects":         func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "objects")) },
		"a pack cut short":   cutPacks,
		"an empty mirror":    func(t *testing.T, dir string) { remove(t, dir); put(t, filepath.Join(dir, "x"), "x") },
		"the mirror is gone": func(t *testing.T, dir string) { remove(t, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := gittest.New(t)
			o, _ := options(t, gittest.Serve(t, r).Address())
			r.Push(map[string]string{"a.yaml": doc("a")})
			good(t, open(t, o), "a")
			damage(t, o.Dir)
			s := open(t, o)
			// At once what was there or nothing at all, never less than it was.
			if snap := s.Snapshot(t.Context()); snap.Complete {
				wants(t, snap, "a")
			} else if snap.Err == nil {
				t.Errorf("neither whole nor an error: %+v", snap)
			}
			r.Push(map[string]string{"b.yaml": doc("b")})
			snap, err := look(t, s)
			if err != nil { // seen only now; it is made anew for the next look
				t.Logf("first look: %v", err)
				snap, err = look(t, s)
			}
			if err != nil {
				t.Fatal(err)
			}
			wants(t, snap, "a", "b")
			if size := sizeOf(t, o.Dir); size > 512<<10 {
				t.Errorf("the mirror has %d bytes", size)
			}
		})
	}
}

// TestGrowth: commits, used or not, do not make the mirror grow without end.
func TestGrowth(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	s := open(t, o)
	for i := range 20 {
		put(t, filepath.Join(r.Clone, "noise"), strings.Repeat(fmt.Sprint(i), 100))
		if err := exec.Command("dd", "if=/dev/urandom", "of="+filepath.Join(r.Clone, "noise"), "bs=1M", "count=1", "status=none").Run(); err != nil {
			t.Fatal(err)
		}
		if i%10 > 0 { // most commits are bad
			r.Push(map[string]string{"a.yaml": doc("!a", fmt.Sprint(i))})
			refused(t, s, "is bad", "a", fmt.Sprint("b", i-i%10))
			continue
		}
		r.Push(map[string]string{"a.yaml": doc("a", fmt.Sprint("b", i))})
		good(t, s, "a", fmt.Sprint("b", i))
	}
	if size := sizeOf(t, o.Dir); size > 9<<20 {
		t.Errorf("the mirror has %d bytes after 20 commits of 1 MB", size)
	}
}

func cutPacks(t *testing.T, dir string) {
	packs, err := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("no packs: %v", err)
	}
	for _, p := range packs {
		remove(t, p)
		put(t, p, "PACK")
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
