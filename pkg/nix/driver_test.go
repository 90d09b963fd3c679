package nix_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/host"
	"tekton.host/pkg/nix"
	"tekton.host/pkg/nix/nixtest"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/supervisetest"
)

const (
	installation = "0123456789ab"
	nobody       = 65534
	patience     = 20 * time.Second
)

// rig is a driver with a supervisor and a store of its own.
type rig struct {
	*nix.Driver
	t       *testing.T
	manager *supervise.Manager
	layout  host.Layout
	site    string // the flake
}

func newRig(t *testing.T) *rig {
	nixtest.Store(t)
	base := t.TempDir()
	for d := base; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	manager, err := supervise.New(supervise.Options{
		Form: supervise.Supervised, Program: supervisetest.Program(t), Parent: fmt.Sprintf("tknix%d", time.Now().UnixNano()),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, manager: manager, layout: host.Layout{State: filepath.Join(base, "state"), Run: filepath.Join(base, "run")}, site: nixtest.Flake(t, "site", "one")}
	if err := os.Mkdir(r.layout.State, 0o711); err != nil {
		t.Fatal(err)
	}
	r.Driver = r.another()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, c := range r.observe() {
			if t.Failed() {
				t.Logf("log of %s:\n%s", c.Flake, strings.Join(supervise.TailLog(r.dir(c.Flake), 40), "\n"))
			}
			if err := r.step(ctx, resource.Delete, c); err != nil {
				t.Error(err)
			}
		}
		r.wantNothingLeft()
		manager.Close()
	})
	return r
}

// another returns a driver that knows nothing of the first, as after a restart.
func (r *rig) another() *nix.Driver {
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := nix.New(nix.Options{
		Layout: r.layout, Naming: resource.Naming{Instance: "n"}, Installation: installation, Supervisor: r.manager, Program: self, UID: nobody, GID: nobody,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *rig) dir(flake string) string {
	return filepath.Join(r.layout.Builds(), resource.ClosureName(flake, false))
}

func (r *rig) observe() []resource.Closure {
	r.t.Helper()
	d := r.Observe(r.t.Context())[resource.KindClosure]
	if d.Err != nil {
		r.t.Fatal(d.Err)
	}
	var out []resource.Closure
	for _, i := range resource.Set(d.Items).Sorted() {
		out = append(out, i.Value.(resource.Closure))
	}
	return out
}

func (r *rig) step(ctx context.Context, verb resource.Verb, c resource.Closure) error {
	s := resource.Step{Verb: verb, Resource: resource.New(resource.HostOwner, "", c.Name(), c)}
	return r.Apply(ctx, []resource.Step{s})[0]
}

// put asks for an attempt.
func (r *rig) put(flake string, attempt int, change ...func(*resource.Closure)) resource.Closure {
	r.t.Helper()
	c := resource.Closure{Flake: flake, Attempt: attempt, Deadline: resource.Duration(patience)}
	for _, f := range change {
		f(&c)
	}
	if err := r.step(r.t.Context(), resource.Put, c); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// until looks again and again until a closure is as asked for.
func (r *rig) until(want resource.Closure, what string, is func(resource.Closure) bool) resource.Closure {
	r.t.Helper()
	var last resource.Closure
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, c := range r.observe() {
			if c.Name() == want.Name() {
				if last = c; is(c) {
					return c
				}
			}
		}
	}
	r.t.Fatalf("%s: not %s within %s: %+v", want.Flake, what, patience, last)
	return last
}

func (r *rig) ended(want resource.Closure) resource.Closure {
	r.t.Helper()
	return r.until(want, "ended", func(c resource.Closure) bool { return c.Attempt == want.Attempt && !c.Build.Running })
}

func (r *rig) built(want resource.Closure) resource.Closure {
	r.t.Helper()
	c := r.ended(want)
	if c.Build.Reason != "" || c.Build.Result.StorePath == "" || c.Unrooted {
		r.t.Fatalf("%s was not built: %+v", want.Flake, c)
	}
	return c
}

// wantNothingLeft looks with independent eyes.
func (r *rig) wantNothingLeft() {
	r.t.Helper()
	if entries, _ := os.ReadDir(r.layout.Builds()); len(entries) > 0 {
		r.t.Errorf("directories left: %v", entries)
	}
	if _, err := os.Lstat("/nix/var/nix/gcroots/tekton-" + installation); !errors.Is(err, fs.ErrNotExist) {
		r.t.Errorf("GC roots left: %v", err)
	}
	units, err := r.manager.Units(context.Background(), "")
	if err != nil || len(units) > 0 {
		r.t.Errorf("units left: %v %v", units, err)
	}
	if left := processesOf("nix-daemon", "nix"); len(left) > 0 {
		r.t.Errorf("processes left: %v", left)
	}
}

// processesOf are those of this PID namespace with one of the names.
func processesOf(names ...string) []string {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out []string
	for _, d := range dirs {
		comm, _ := os.ReadFile(filepath.Join(d, "comm"))
		stat, _ := os.ReadFile(filepath.Join(d, "stat"))
		if slices.Contains(names, strings.TrimSpace(string(comm))) && !strings.Contains(string(stat), ") Z ") {
			out = append(out, filepath.Base(d)+" "+strings.TrimSpace(string(comm)))
		}
	}
	return out
}

// TestBuild: an attempt builds, what it built is kept, and a later one of the
// same flake knows that there is nothing to do.
func TestBuild(t *testing.T) {
	r := newRig(t)
	flake := "path:" + r.site + "#web"
	first := r.built(r.put(flake, 1))
	index := filepath.Join(first.Build.Result.StorePath, "www/index.html")
	if got, err := os.ReadFile(index); string(got) != "one" || err != nil {
		t.Errorf("built %q %v", got, err)
	}
	nixtest.Collect(t)
	if _, err := os.Stat(index); err != nil {
		t.Error(err)
	}
	r.put(flake, 1) // begun already
	second := r.built(r.put(flake, 2))
	if a, b := first.Build.Result, second.Build.Result; a.StorePath != b.StorePath || a.Locked != b.Locked || !b.LockedAt.After(a.LockedAt) {
		t.Errorf("built anew: %+v, then %+v", a, b)
	}
	if log := strings.Join(supervise.TailLog(r.dir(flake), 100), "\n"); strings.Count(log, "making web one") != 1 {
		t.Errorf("not one build in the log:\n%s", log)
	}
	// Changed: the same reference is another closure, and the former one may go.
	if err := os.WriteFile(filepath.Join(r.site, "version"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	third := r.built(r.put(flake, 3))
	if third.Build.Result.StorePath == first.Build.Result.StorePath || third.Build.Result.Locked == first.Build.Result.Locked {
		t.Errorf("still the former: %+v", third.Build.Result)
	}
	nixtest.Collect(t)
	if _, err := os.Stat(index); err == nil {
		t.Error("the former closure is kept")
	}
	if _, err := os.Stat(third.Build.Result.StorePath); err != nil {
		t.Error(err)
	}
}

// TestProgress: what is built now, and how many of how many.
func TestProgress(t *testing.T) {
	r := newRig(t)
	c := r.put("path:"+r.site+"#chain", 1)
	seen := r.until(c, "one of four built", func(c resource.Closure) bool {
		return c.Build.Progress.Expected == 4 && c.Build.Progress.Done >= 1 && len(c.Build.Progress.Building) > 0
	})
	if p := seen.Build.Progress; p.Phase != "building" || !strings.HasPrefix(p.Building[0], "step-") || seen.Build.StartedAt.IsZero() {
		t.Errorf("progress %+v", seen.Build)
	}
	// The collector runs while it is built.
	nixtest.Collect(t)
	if got := r.built(c); got.Build.EndedAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

// TestFailures: a failed build says why, with the end of its log, which stays.
func TestFailures(t *testing.T) {
	r := newRig(t)
	flake := "path:" + r.site + "#broken"
	for attempt := 1; attempt <= 2; attempt++ {
		c := r.ended(r.put(flake, attempt))
		b := c.Build
		if b.Reason != "BuildFailed" || b.Failures != attempt || b.EndedAt.IsZero() || !strings.Contains(strings.Join(b.Log, "\n"), "broken> broken for good") {
			t.Errorf("attempt %d: %+v", attempt, b)
		}
		if strings.Contains(b.Message, "\x1b") || !strings.Contains(b.Message, "exit code 3") {
			t.Errorf("message %q", b.Message)
		}
	}
	if log := strings.Join(supervise.TailLog(r.dir(flake), 100), "\n"); strings.Count(log, "about to break") < 2 {
		t.Errorf("log of both attempts:\n%s", log)
	}
	if roots, err := nix.NewRoots(installation).List(); len(roots) > 0 || err != nil {
		t.Errorf("roots of a failed build: %v %v", roots, err)
	}
	nothere := r.ended(r.put("path:"+r.site+"/none#web", 1))
	if nothere.Build.Reason != "LockFailed" {
		t.Errorf("%+v", nothere.Build)
	}
}

// TestHostileCode: what a stranger's flake may try gets nowhere.
func TestHostileCode(t *testing.T) {
	r := newRig(t)
	hostile := nixtest.Flake(t, "hostile", "")
	for attr, want := range map[string]struct{ reason, message string }{
		"readsHost":        {"EvaluationFailed", "is forbidden in pure eval"},
		"readsEnvironment": {"EvaluationFailed", "no environment"},
		"fetches":          {"EvaluationFailed", "pure evaluation mode"},
		"noDerivation":     {"EvaluationFailed", ""},
		"escapes":          {"BuildFailed", ""},
		"endless":          {"", ""},
	} {
		c := r.ended(r.put("path:"+hostile+"#"+attr, 1, func(c *resource.Closure) {
			if attr == "endless" {
				c.Deadline = resource.Duration(3 * time.Second)
			}
		}))
		b := c.Build
		if attr == "endless" {
			// Nix ends it by its own stack, or we by the deadline.
			if b.Reason != "BuildTimeout" && b.Reason != "EvaluationFailed" {
				t.Errorf("%s: %+v", attr, b)
			}
			continue
		}
		if b.Reason != want.reason || !strings.Contains(b.Message+strings.Join(b.Log, "\n"), want.message) {
			t.Errorf("%s: %+v", attr, b)
		}
	}
	b := r.ended(r.put("path:"+hostile+"#large", 1, func(c *resource.Closure) { c.Limits.MemoryMax = 512 << 20 })).Build
	if b.Reason != "EvaluationFailed" || !strings.Contains(b.Message, "out of memory") {
		t.Errorf("large: %+v", b)
	}
	// What only root may read is not read: nobody's code is evaluated as root.
	if err := os.Chmod(r.site, 0o700); err != nil {
		t.Fatal(err)
	}
	if c := r.ended(r.put("path:"+r.site+"#web", 1)); c.Build.Reason != "LockFailed" {
		t.Errorf("a directory of root was read: %+v", c.Build)
	}
}

// TestImportFromDerivation is for trusted code only.
func TestImportFromDerivation(t *testing.T) {
	r := newRig(t)
	flake := "path:" + r.site + "#imported"
	if c := r.ended(r.put(flake, 1)); c.Build.Reason != "EvaluationFailed" {
		t.Errorf("untrusted: %+v", c.Build)
	}
	r.built(r.put(flake, 1, func(c *resource.Closure) { c.Trusted = true }))
}

// TestDeadline ends a build with all its processes.
func TestDeadline(t *testing.T) {
	r := newRig(t)
	c := r.ended(r.put("path:"+r.site+"#slow", 1, func(c *resource.Closure) { c.Deadline = resource.Duration(2 * time.Second) }))
	if c.Build.Reason != "BuildTimeout" || !strings.Contains(c.Build.Message, "building took longer than 2s") {
		t.Errorf("%+v", c.Build)
	}
	r.wantNoSleepers()
}

// TestCancel: a delete ends a build and leaves nothing; a daemon that dies does
// not end it, and a build that is killed is seen as that.
func TestCancel(t *testing.T) {
	r := newRig(t)
	c := r.put("path:"+r.site+"#slow", 1)
	running := func(c resource.Closure) bool { return slices.Contains(c.Build.Progress.Building, "slow") }
	r.until(c, "building", running)
	r.Driver = r.another()
	r.until(c, "building", running)
	if err := r.step(t.Context(), resource.Delete, c); err != nil {
		t.Fatal(err)
	}
	r.wantNoSleepers()
	r.wantNothingLeft()

	r.put(c.Flake, 1)
	r.until(c, "building", running)
	if err := r.manager.Stop(t.Context(), r.dir(c.Flake), time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	if b := r.ended(c).Build; b.Reason != "Interrupted" || b.Failures != 1 || b.EndedAt.IsZero() {
		t.Errorf("%+v", b)
	}
	r.wantNoSleepers()
}

func (r *rig) wantNoSleepers() {
	r.t.Helper()
	// A build says how it ended before it ends what ran for it.
	left := processesOf("sleep", "nix-daemon")
	for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); left = processesOf("sleep", "nix-daemon") {
		time.Sleep(10 * time.Millisecond)
	}
	if len(left) > 0 {
		r.t.Errorf("processes left: %v", left)
	}
}

// TestBranch: a branch is what it was when it was locked; each attempt looks anew.
func TestBranch(t *testing.T) {
	r := newRig(t)
	git := func(args ...string) string {
		t.Helper()
		return nixtest.Run(t, append([]string{"git", "-C", r.site, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"}, args...)...)
	}
	git("init", "-q")
	git("add", "-A")
	git("commit", "-qm", "one")
	flake := "git+file://" + r.site + "?ref=main#web"
	first := r.built(r.put(flake, 1)).Build.Result
	if want := git("rev-parse", "HEAD"); first.Revision != want || !strings.Contains(first.Locked, "rev="+want) {
		t.Errorf("locked %+v, want %s", first, want)
	}
	if err := os.WriteFile(filepath.Join(r.site, "version"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	git("commit", "-qam", "two")
	second := r.built(r.put(flake, 2)).Build.Result
	if second.Revision != git("rev-parse", "HEAD") || second.StorePath == first.StorePath {
		t.Errorf("%+v, then %+v", first, second)
	}
	if diff := cmp.Diff([]string(nil), processesOf("git")); diff != "" {
		t.Error(diff)
	}
}
