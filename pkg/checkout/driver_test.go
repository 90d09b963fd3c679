package checkout_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/source/git/gittest"
	"tekton.host/pkg/supervise"
)

// TestRefs: each sort of reference, in one mirror, and each goes by itself.
func TestRefs(t *testing.T) {
	r := newRig(t)
	first := r.remote.Push(map[string]string{"a": "1"})
	r.remote.Git("tag", "v1")
	r.remote.Git("tag", "-a", "-m", "annotated", "v2")
	second := r.remote.Push(map[string]string{"a": "2"})
	pull := r.remote.Commit()
	r.remote.Git("push", "--quiet", "origin", "v1", "v2", "HEAD:refs/pull/7/head", "HEAD:refs/heads/feature/#1-ünï$(id)'\"")
	all := map[string]struct{ commit, name string }{
		"main": {second, "refs/heads/main"}, "HEAD": {second, "refs/heads/main"}, "v1": {first, "refs/tags/v1"}, "v2": {first, "refs/tags/v2"},
		first: {first, ""}, "refs/pull/7/head": {pull, "refs/pull/7/head"}, "feature/#1-ünï$(id)'\"": {pull, "refs/heads/feature/#1-ünï$(id)'\""},
	}
	var done []resource.Checkout
	for ref, want := range all {
		c := r.fetched(r.put(ref, 1), want.commit)
		if c.Fetch.Result.Branch != want.name || c.Fetch.Result.Dir == "" {
			t.Errorf("%s: %+v", ref, c.Fetch.Result)
		}
		if n := r.git(c, "rev-list", "--count", want.commit); n == "0" {
			t.Errorf("%s has no history", ref)
		}
		done = append(done, c)
	}
	if dirs, err := filepath.Glob(filepath.Join(r.layout.Mirrors(), "*.git")); len(dirs) != 1 || err != nil {
		t.Errorf("mirrors %v", dirs)
	}
	for i, c := range done {
		r.remove(c)
		if left := r.observe(); len(left) != len(done)-i-1 || slices.ContainsFunc(left, func(c resource.Checkout) bool { return c.Lost }) {
			t.Fatalf("after removing %s: %+v", c.Ref, left)
		}
	}
}

// TestSeenBeforeItRuns: an attempt that is described counts as running, and is
// made, though who asked for it sees that and cancels.
func TestSeenBeforeItRuns(t *testing.T) {
	r := newRig(t)
	want := resource.Checkout{URL: r.server.Address(), Ref: r.remote.Push(map[string]string{"a": "1"}), Attempt: 1, Deadline: resource.Duration(patience), MaxSize: 64 << 20}
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan error, 1)
	go func() { begun <- r.step(ctx, resource.Put, want) }()
	first := r.until(want, "begun", func(c resource.Checkout) bool { return c.Attempt == 1 })
	cancel()
	if f := first.Fetch; !f.Running && f.EndedAt.IsZero() || f.Reason != "" {
		t.Errorf("as it begins it is %+v", f)
	}
	if err := <-begun; err != nil {
		t.Error(err)
	}
	r.fetched(want, want.Ref)
}

// TestBranchMoves: each attempt looks anew, a branch that is gone leaves its last
// good commit, and an overwritten commit stays as long as somebody wants it.
func TestBranchMoves(t *testing.T) {
	r := newRig(t)
	r.remote.Push(map[string]string{"a": "1"})
	base := r.remote.Git("rev-parse", "HEAD")
	one := r.remote.Push(map[string]string{"a": "2"})
	r.fetched(r.put("main", 1), one)
	r.put("main", 1) // begun already
	same := r.fetched(r.put("main", 2), one)
	if log := strings.Join(supervise.TailLog(r.Dir(nameOf(same)), 100), "\n"); strings.Count(log, "fetching refs/heads/main") != 1 {
		t.Errorf("what is there was fetched again:\n%s", log)
	}
	requests := r.server.Requests.Load()
	pinned := r.fetched(r.put(one, 1), one)
	if r.server.Requests.Load() != requests {
		t.Error("the server was asked for a commit that is there")
	}
	r.remote.Git("reset", "--quiet", "--hard", base)
	two := r.remote.Push(map[string]string{"b": "forced"})
	moved := r.fetched(r.put("main", 3), two)
	r.remote.Run("", "-c", "gc.packRefs=false", "-c", "safe.directory=*", "--git-dir="+moved.Fetch.Result.Dir, "gc", "--quiet", "--prune=now")
	if r.git(pinned, "cat-file", "-t", one) != "commit" {
		t.Error("the commit is gone")
	}
	r.remote.Git("push", "--quiet", "origin", ":main")
	r.failed(r.put("main", 4), "RefNotFound", `no branch or tag "main"`, two)
	if f := r.failed(r.put("main", 5), "RefNotFound", "next step: push it", two).Fetch; f.Failures != 2 {
		t.Errorf("%+v", f)
	}
}

// TestFiles: the text of files that are asked for, and of nothing else.
func TestFiles(t *testing.T) {
	r := newRig(t)
	for name, target := range map[string]string{"link.yaml": "/etc/passwd", "inside.yaml": "preview.yaml"} {
		if err := os.Symlink(target, filepath.Join(r.remote.Clone, name)); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"preview.yaml": "a: 1\n", "deploy/preview.yaml": "b: 2\n", "large.yaml": strings.Repeat("x", resource.MaxCheckoutFile+1), "binary.yaml": "\x00\xff",
	}
	commit := r.remote.Push(files)
	asked := []string{"binary.yaml", "deploy", "deploy/preview.yaml", "inside.yaml", "large.yaml", "link.yaml", "missing.yaml", "preview.yaml"}
	c := r.fetched(r.put("main", 1, func(c *resource.Checkout) { c.Files = asked }), commit)
	for _, name := range asked {
		text, read := c.Fetch.Result.Files[name]
		want := name == "preview.yaml" || name == "deploy/preview.yaml"
		if !read || (text != nil) != want || want && *text != files[name] {
			t.Errorf("%s: %v %v", name, read, text)
		}
	}
	if len(c.Fetch.Result.Files) != len(asked) || !slices.Equal(c.Files, asked) {
		t.Errorf("%+v", c)
	}
}

// TestToken: the token reaches the server and no other place.
func TestToken(t *testing.T) {
	r := newRig(t)
	const token = "t0ken-that-nobody-may-see"
	r.server.Intercept(gittest.Demand("git", token))
	commit := r.remote.Push(map[string]string{"a": "1"})
	secret := func(c *resource.Checkout) { c.Secret = "forge" }
	write := func(value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(r.layout.Secrets, "forge"), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.failed(r.put("main", 1), "AuthenticationFailed", "secret", "")
	write("wrong")
	r.failed(r.put("main", 1, secret), "AuthenticationFailed", "tekton secret set", "")
	write(token)
	r.fetched(r.put("main", 2, secret), commit)
	found, _ := exec.Command("grep", "-rlF", token, r.layout.State, r.layout.Run).Output()
	if len(found) > 0 {
		t.Errorf("the token is kept in %s", found)
	}
}

// TestSSH: the host key is checked, and the key is that of the secret.
func TestSSH(t *testing.T) {
	r := newRig(t)
	srv := gittest.ServeSSH(t, r.remote)
	commit := r.remote.Push(map[string]string{"a": "1"})
	key, err := os.ReadFile(srv.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.layout.Secrets, "deploy"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	over := func(secret string) func(*resource.Checkout) {
		return func(c *resource.Checkout) { c.URL, c.Secret = srv.Address, secret }
	}
	r.failed(r.put("main", 1, over("deploy")), "HostKeyUnknown", "spec.git.knownHostsFile", "")
	known, err := os.ReadFile(srv.KnownHostsFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.knownHosts, known, 0o644); err != nil {
		t.Fatal(err)
	}
	r.failed(r.put("main", 1, over("")), "AuthenticationFailed", "Permission denied", "")
	r.fetched(r.put("main", 2, over("deploy")), commit)
}

// TestCancel: a delete ends a fetch and leaves nothing; a daemon that dies does
// not end it, and one that is killed is seen as that, and made again.
func TestCancel(t *testing.T) {
	r := newRig(t)
	commit := r.remote.Push(map[string]string{"a": "1"})
	release := r.server.Hang()
	defer release()
	running := func(c resource.Checkout) bool { return c.Fetch.Running && c.Fetch.Progress == "asking the server" }
	c := r.put("main", 1)
	r.until(c, "asking", running)
	r.Driver = r.another()
	r.until(c, "asking", running)
	r.remove(c)
	if left := r.observe(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}

	r.put("main", 1)
	r.until(c, "asking", running)
	if err := r.manager.Signal(t.Context(), r.Dir(nameOf(c)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if f := r.ended(c).Fetch; f.Reason != "Interrupted" || f.Failures != 1 || f.EndedAt.IsZero() {
		t.Errorf("%+v", f)
	}
	release()
	r.fetched(r.put("main", 2), commit)
}

// TestDeadline ends a fetch of a server that does not answer.
func TestDeadline(t *testing.T) {
	r := newRig(t)
	defer r.server.Hang()()
	c := r.put("main", 1, func(c *resource.Checkout) { c.Deadline = resource.Duration(500 * time.Millisecond) })
	r.failed(c, "FetchTimeout", "asking the server took longer than 500ms", "")
}

// TestLost: a mirror that lost a reference or an object is seen or found out,
// and made anew.
func TestLost(t *testing.T) {
	r := newRig(t)
	commit := r.remote.Push(map[string]string{"a": strings.Repeat("content\n", 100)})
	c := r.fetched(r.put("main", 1), commit)
	mirror := c.Fetch.Result.Dir
	if err := os.Remove(filepath.Join(mirror, "refs/tekton/checkouts", nameOf(c))); err != nil {
		t.Fatal(err)
	}
	if now := r.ended(c); !now.Lost {
		t.Errorf("not seen as lost: %+v", now)
	}
	r.fetched(r.put("main", 2), commit)
	packs, err := filepath.Glob(filepath.Join(mirror, "objects/pack/*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, pack := range packs {
		if err := os.Truncate(pack, 40); err != nil {
			t.Fatal(err)
		}
	}
	c = r.fetched(r.put("main", 3), commit)
	if got := r.git(c, "show", commit+":a"); !strings.HasPrefix(got, "content") {
		t.Errorf("content %q", got)
	}
	if err := os.RemoveAll(mirror); err != nil {
		t.Fatal(err)
	}
	if now := r.ended(c); !now.Lost {
		t.Errorf("not seen as lost: %+v", now)
	}
	r.fetched(r.put("main", 4), commit)
	// A directory that a crash left without its description is removed.
	half := filepath.Join(r.layout.Checkouts(), "half")
	if err := os.Mkdir(half, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(t.Context(), []resource.Step{{Verb: resource.Delete, Resource: resource.New(resource.HostOwner, "", "half", resource.Checkout{})}})[0]; err != nil {
		t.Error(err)
	}
}
