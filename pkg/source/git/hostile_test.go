package git

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/source"
	"tekton.host/pkg/source/git/gittest"
)

// TestTree: what is no plain file is told and not followed; nothing of the
// repository runs.
func TestTree(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	ran := filepath.Join(gittest.Dir(t), "ran")
	o, _ := options(t, gittest.Serve(t, r).Address())
	o.Path = "specs"
	s := open(t, o)
	other := gittest.New(t)
	other.Push(map[string]string{"x.yaml": doc("x")})

	r.Write("specs/web.yaml", doc("web"))
	r.Write("specs/.gitattributes", "*.yaml filter=run diff=run\n")
	r.Write(".gitattributes", "*.yaml filter=run export-subst ident\n")
	r.Write(".gitmodules", "[submodule \"m\"]\n\tpath = m\n\turl = "+other.Bare+"\n\tupdate = none\n")
	r.Write("hooks/post-checkout", "#!/bin/sh\ntouch "+ran+"\n")
	r.Write("config", "[core]\n\tfsmonitor = touch "+ran+"\n\tbare = true\n")
	r.Git("add", "--all")
	r.Git("update-index", "--add", "--cacheinfo", "160000,"+other.Git("rev-parse", "HEAD")+",m")
	r.Git("commit", "--quiet", "-m", "all sorts")
	r.Git("push", "--quiet", "origin", "HEAD:main")
	good(t, s, "web")

	link := filepath.Join(r.Clone, "specs/link.yaml")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	r.Write("specs/dir.yaml/x", "x")
	r.Write("specs/empty.yaml", " \n")
	r.Write("specs/big.yaml", strings.Repeat("x\n", source.MaxFileSize))
	r.Write("specs/\x1b[2J.yaml", doc("hidden"))
	r.Git("add", "--all")
	r.Git("update-index", "--add", "--cacheinfo", "160000,"+other.Git("rev-parse", "HEAD")+",specs/module.yaml")
	r.Git("commit", "--quiet", "-m", "bad sorts")
	r.Git("push", "--quiet", "origin", "HEAD:main")
	snap := refused(t, s, "and 5 more", "web")
	id := r.Git("rev-parse", "HEAD")[:12]
	var got []string
	for _, p := range snap.Problems {
		got = append(got, strings.TrimPrefix(p.File, id+":")+" "+p.Reason)
	}
	slices.Sort(got)
	want := []string{
		`"specs/\x1b[2J.yaml" NotRegularFile`, "specs/big.yaml FileTooLarge", "specs/dir.yaml NotRegularFile", "specs/empty.yaml EmptyFile",
		"specs/link.yaml NotRegularFile", "specs/module.yaml NotRegularFile",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems %q, expected %q", got, want)
	}
	if _, err := os.Lstat(ran); err == nil {
		t.Error("something of the repository ran")
	}
	r.Git("rm", "-r", "--quiet", "specs")
	r.Push(nil)
	refused(t, s, `it has no directory "specs"; next step: bring it back, or correct git.path; one without specs has a file specs/.tekton-source`, "web")
	r.Write("specs", "a file")
	r.Push(nil)
	refused(t, s, "has no directory", "web")
}

// TestHostileObjects: what git's own check of received objects refuses.
func TestHostileObjects(t *testing.T) {
	t.Parallel()
	for name, entry := range map[string]string{"dot git": ".git", "dot dot": "..", "short name of .git": "git~1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := gittest.New(t)
			o, _ := options(t, gittest.Serve(t, r).Address())
			s := open(t, o)
			r.Push(map[string]string{"a.yaml": doc("a")})
			good(t, s, "a")
			blob := r.Git("rev-parse", "HEAD:a.yaml")
			inner := r.Run("100644 blob "+blob+"\tconfig\n", "-C", r.Clone, "mktree")
			tree := r.Run("100644 blob "+blob+"\ta.yaml\n040000 tree "+inner+"\t"+entry+"\n", "-C", r.Clone, "mktree")
			id := r.Git("commit-tree", tree, "-m", "hostile")
			r.Git("push", "--quiet", "--force", "origin", id+":refs/heads/main")
			refused(t, s, "fsck error", "a")
		})
	}
}

// TestLimits: a slow, a silent and a huge remote end in time, leave nothing
// behind, and what is in effect stays.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	o, _ := options(t, srv.Address())
	o.Timeout, o.MaxSize = 2*time.Second, 1<<20
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")

	release := make(chan struct{})
	srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool { <-release; return true })
	begin := time.Now()
	refused(t, s, "it took longer than 2s", "a")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a silent remote takes %s", took)
	}
	close(release)
	srv.Intercept(nil)
	o.Timeout = patience
	s = open(t, o)

	noise := filepath.Join(r.Clone, "noise")
	if err := exec.Command("dd", "if=/dev/urandom", "of="+noise, "bs=1M", "count=4", "status=none").Run(); err != nil {
		t.Fatal(err)
	}
	r.Push(map[string]string{"b.yaml": doc("b")})
	refused(t, s, "it brings more than 1048576 bytes (git.maxSize)", "a")
	if size := sizeOf(t, o.Dir); size > 512<<10 {
		t.Errorf("%d bytes are left of what was too much", size)
	}
	r.Git("rm", "--quiet", "noise")
	r.Push(nil)
	good(t, s, "a", "b")
	// A bomb: 64 MB that are small on the wire. It is no spec, and git
	// does not need it in memory.
	if err := os.WriteFile(noise, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Push(map[string]string{"c.yaml": doc("c")})
	good(t, s, "a", "b", "c")
}

// TestManyFiles: a directory or its files may be too much.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		entries, size int
		want          string
	}{
		"entries":     {170_000, 1, "too many entries"},
		"files":       {maxFiles + 1, 1, "it has 20001 spec files"},
		"names twice": {maxFiles, 1, "and 100 more"},
		"bytes":       {70, source.MaxFileSize, "more than 67108864 bytes together"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := gittest.New(t)
			o, _ := options(t, gittest.Serve(t, r).Address())
			s := open(t, o)
			r.Push(map[string]string{"a.yaml": doc("a")})
			good(t, s, "a")
			blob := r.Run(strings.Repeat("x", tc.size), "-C", r.Clone, "hash-object", "-w", "--stdin")
			var list strings.Builder
			for i := range tc.entries {
				fmt.Fprintf(&list, "100644 blob %s\t%060d.yaml\n", blob, i)
			}
			tree := r.Run(list.String(), "-C", r.Clone, "mktree")
			r.Git("push", "--quiet", "--force", "origin", r.Git("commit-tree", tree, "-m", "much")+":refs/heads/main")
			refused(t, s, tc.want, "a")
		})
	}
}
