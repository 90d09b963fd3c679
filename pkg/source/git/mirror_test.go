package git

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/internal/testenv"
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
			good(t, s, "a", "b")
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

// TestKilledAnywhere kills daemons at random moments of a look, with nothing
// but SIGKILL to them alone. The next one finds the last good commit, whole, and
// goes on.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	r.Push(map[string]string{"a.yaml": doc("n0")})
	good(t, open(t, o), "n0")
	text, err := json.Marshal(map[string]any{"Name": o.Name, "URL": o.URL, "Branch": o.Branch, "Interval": o.Interval, "Timeout": o.Timeout,
		"MaxSize": o.MaxSize, "Dir": o.Dir, "RunDir": o.RunDir, "User": o.User})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := lookOnce(string(text)); err != nil {
		t.Fatal(err)
	}
	whole := 4 * time.Since(begin) // a look that fetches does more than one that finds nothing
	killed := 0
	for i := 1; i <= 25; i++ {
		name, former := fmt.Sprint("n", i), fmt.Sprint("n", i-1)
		r.Push(map[string]string{"a.yaml": doc(name)})
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), lookEnv+"="+string(text))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(whole))
		cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
		}
		s := open(t, o)
		snap := s.Snapshot(t.Context())
		if have := snap.Objects; !snap.Complete || len(have) != 1 || have[0].Meta().Name != name && have[0].Meta().Name != former {
			t.Fatalf("round %d: %+v", i, snap)
		}
		good(t, s, name)
	}
	if killed == 0 {
		t.Error("nobody was killed")
	}
	t.Logf("%d of 25 killed", killed)
	locks, err := exec.Command("find", o.Dir, "-name", "*.lock", "-o", "-name", "tmp_*").Output()
	if err != nil || len(locks) > 0 {
		t.Errorf("left: %s %v", locks, err)
	}
}

// TestWithoutGit: that git cannot be run damages nothing.
func TestWithoutGit(t *testing.T) {
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, open(t, o), "a")
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Fatal(err)
	}
	bin, path := gittest.Dir(t), os.Getenv("PATH")
	if err := os.Symlink(prlimit, filepath.Join(bin, "prlimit")); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	t.Setenv("PATH", bin)
	snap := s.Snapshot(t.Context())
	_, looked := look(t, s)
	t.Setenv("PATH", path)
	if snap.Complete || snap.Err == nil || looked == nil || !strings.Contains(looked.Error(), "failed to execute git") {
		t.Errorf("without git: %+v, %v", snap, looked)
	}
	wants(t, s.Snapshot(t.Context()), "a")
}

// TestNoSpace: a full disk stops what is new, and with room it goes on.
func TestNoSpace(t *testing.T) {
	testenv.Root(t, "mount")
	t.Parallel()
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	state := filepath.Dir(o.Dir)
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1M,mode=755", "none", state).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "--lazy", state).Run() })
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")
	put(t, filepath.Join(state, "full"), "")
	exec.Command("dd", "if=/dev/zero", "of="+filepath.Join(state, "full"), "bs=4k", "status=none").Run() // until it is full
	r.Push(map[string]string{"b.yaml": doc("b")})
	snap, err := look(t, s)
	wants(t, snap, "a")
	if err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Errorf("on a full disk: %v", err)
	}
	wants(t, open(t, o).Snapshot(t.Context()), "a")
	remove(t, filepath.Join(state, "full"))
	good(t, s, "a", "b")
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
