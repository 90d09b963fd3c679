package repository_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/repository"
	"tekton.host/pkg/source/git/gittest"
)

const (
	origin = "https://forge.example.org/team/app.git"
	nobody = 65534
	owner  = 4711
)

// mirror is a bare copy of a remote that git's user owns.
func mirror(t *testing.T, r *gittest.Remote) string {
	t.Helper()
	dir := filepath.Join(gittest.Dir(t), "mirror.git")
	r.Run("", "clone", "--quiet", "--mirror", r.Bare, dir)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func clone(t *testing.T, from, commit, branch string) (repository.Clone, error) {
	t.Helper()
	dir := gittest.Dir(t)
	c := repository.Clone{
		From: from, Commit: commit, Branch: branch, URL: origin, Dir: filepath.Join(dir, "tree"), RunDir: filepath.Join(dir, "run"), User: "nobody", UID: owner, GID: owner + 1,
	}
	err := c.Make(t.Context())
	if _, left := os.Lstat(c.RunDir); left == nil {
		t.Error("the run directory is left")
	}
	return c, err
}

// asOwner runs git in the clone as whom it was given to, with a plain configuration.
func asOwner(t *testing.T, c repository.Clone, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = c.Dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: owner + 1}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestClone: a normal clone on its branch, its owner's, with its history and no other.
func TestClone(t *testing.T) {
	testenv.Root(t, "git")
	r := gittest.New(t)
	first := r.Push(map[string]string{"README": "one", "bin/run": "#!/bin/sh\n"})
	const branch = "feature/#1-ünï$(id)'\""
	r.Git("checkout", "--quiet", "-b", branch)
	second := r.Push(map[string]string{"README": "two"})
	r.Git("push", "--quiet", "origin", "HEAD:refs/heads/"+branch, first+":refs/heads/secret-plans", first+":refs/tags/v1")
	third := r.Commit()
	r.Git("push", "--quiet", "origin", "HEAD:refs/heads/later")
	from := mirror(t, r)

	c, err := clone(t, from, second, "refs/heads/"+branch)
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"rev-parse HEAD": second, "symbolic-ref HEAD": "refs/heads/" + branch, "rev-list --count HEAD": "2", "status --porcelain": "",
		"config --get remote.origin.url": origin, "rev-parse @{upstream}": second, "remote": "origin",
	} {
		if got := asOwner(t, c, strings.Fields(args)...); got != want {
			t.Errorf("git %s: %q, want %q", args, got, want)
		}
	}
	want := "refs/heads/" + branch + "\nrefs/remotes/origin/" + branch
	if diff := cmp.Diff(want, asOwner(t, c, "for-each-ref", "--format=%(refname)")); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	if err := exec.Command("git", "-c", "safe.directory=*", "-C", c.Dir, "cat-file", "-e", third).Run(); err == nil {
		t.Error("the clone has commits of other branches")
	}
	asOwner(t, c, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "mine")
	err = filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if st := info.Sys().(*syscall.Stat_t); err == nil && (st.Uid != owner || st.Gid != owner+1) {
			t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for ref, commit := range map[string]string{"refs/tags/v1": first, "": first} {
		c, err := clone(t, from, commit, ref)
		if err != nil {
			t.Fatal(err)
		}
		if got := asOwner(t, c, "rev-parse", "HEAD") + asOwner(t, c, "branch", "--show-current"); got != first {
			t.Errorf("%q: %s", ref, got)
		}
	}
}

// TestHostileClone: whatever is in a repository, nothing of it runs or is followed.
func TestHostileClone(t *testing.T) {
	testenv.Root(t, "git")
	r := gittest.New(t)
	outside := gittest.Dir(t)
	ran := filepath.Join(outside, "ran")
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	r.Write(".gitattributes", "* filter=run diff=run export-subst\n*.bin filter=lfs\n")
	r.Write(".gitmodules", "[submodule \"m\"]\n\tpath = m\n\turl = ./m\n")
	r.Write(".gitconfig", "[filter \"run\"]\n\tsmudge = touch "+ran+"\n")
	r.Write("config", "[core]\n\tfsmonitor = touch "+ran+"\n")
	r.Write("hooks/post-checkout", "#!/bin/sh\ntouch "+ran+"\n")
	r.Write("large.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
	for name, target := range map[string]string{"out": outside, "passwd": "/etc/passwd", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(r.Clone, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.Git("add", "--all")
	r.Git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",m")
	r.Git("commit", "--quiet", "-m", "all sorts")
	r.Git("push", "--quiet", "origin", "HEAD:main")
	before, err := os.Lstat("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	c, err := clone(t, mirror(t, r), r.Git("rev-parse", "HEAD"), "refs/heads/main")
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: %v %v", entries, err)
	}
	after, err := os.Stat("/etc/passwd")
	if err != nil || before.Sys().(*syscall.Stat_t).Uid != after.Sys().(*syscall.Stat_t).Uid {
		t.Error("a link was followed")
	}
	if text, err := os.ReadFile(filepath.Join(c.Dir, "large.bin")); err != nil || !strings.HasPrefix(string(text), "version") {
		t.Errorf("%q %v", text, err)
	}
	if entries, err := os.ReadDir(filepath.Join(c.Dir, "m")); err != nil || len(entries) > 0 {
		t.Errorf("submodule: %v %v", entries, err)
	}
	if hooks, _ := os.ReadDir(filepath.Join(c.Dir, ".git/hooks")); len(hooks) > 0 {
		t.Errorf("hooks %v", hooks)
	}
}

// TestCloneOfDamaged: a bare repository that is damaged goes, so that it is
// fetched anew; one that only lacks the commit stays.
func TestCloneOfDamaged(t *testing.T) {
	testenv.Root(t, "git")
	r := gittest.New(t)
	commit := r.Push(map[string]string{"a": strings.Repeat("content\n", 100)})
	from := mirror(t, r)
	if _, err := clone(t, from, strings.Repeat("12", 20), ""); err == nil || !strings.Contains(err.Error(), "clone "+origin) {
		t.Errorf("a commit that is not there: %v", err)
	}
	if _, err := os.Lstat(from); err != nil {
		t.Fatal(err)
	}
	packs, err := filepath.Glob(filepath.Join(from, "objects/pack/*.pack"))
	loose, _ := filepath.Glob(filepath.Join(from, "objects/??/*"))
	if err != nil || len(packs)+len(loose) == 0 {
		t.Fatal(packs, err)
	}
	for _, f := range append(packs, loose...) {
		if err := os.Truncate(f, 5); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := clone(t, from, commit, ""); err == nil || !strings.Contains(err.Error(), "fetched anew") {
		t.Errorf("damaged: %v", err)
	}
	if _, err := os.Lstat(from); err == nil {
		t.Error("the damaged one is left")
	}
}
