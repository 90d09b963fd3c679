package checkout_test

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/source/git/gittest"
)

// TestFailures: each sort of trouble has its reason and a next step.
func TestFailures(t *testing.T) {
	r := newRig(t)
	r.failed(r.put("HEAD", 1), "RefNotFound", "is empty", "")
	r.remote.Push(map[string]string{"a": "1"})
	at := func(url string) func(*resource.Checkout) { return func(c *resource.Checkout) { c.URL = url } }
	r.failed(r.put("nothere", 1), "RefNotFound", "next step: push it", "")
	r.failed(r.put(strings.Repeat("0123abcd", 5), 1), "RefNotFound", "next step", "")
	r.failed(r.put("main", 1, at(r.server.URL+"/other.git")), "RepositoryNotFound", "check the url", "")
	gone := gittest.Serve(t, r.remote)
	gone.Close()
	r.failed(r.put("main", 1, at(gone.Address())), "RepositoryUnreachable", "check the url, the server", "")
	led := gittest.Serve(t, r.remote)
	led.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		http.Redirect(w, req, r.server.URL+req.URL.String(), http.StatusMovedPermanently)
		return true
	})
	r.failed(r.put("main", 1, at(led.Address())), "RepositoryMoved", "write the url", "")
	for _, ref := range []string{"--upload-pack=touch /tmp/x", "a b", "a..b", "a\nb", "a:b", "+a", "*", "a^", "@{-1}", ".a", "a.lock", "", "refs/heads/../x", strings.Repeat("ü", 300)} {
		c := r.ended(r.put(ref, 1)).Fetch
		if c.Reason != "InvalidRef" && c.Reason != "RefNotFound" || c.Result.Commit != "" {
			t.Errorf("%q: %+v", ref, c)
		}
	}
	r.remote.Git("tag", "blob", r.remote.Git("hash-object", "-w", "a"))
	r.remote.Git("push", "--quiet", "origin", "blob")
	r.failed(r.put("blob", 1), "RefNotFound", "is no commit", "")
}

// TestTooLarge: a fetch is ended by its size, and so is a commit whose few bytes
// stand for many.
func TestTooLarge(t *testing.T) {
	r := newRig(t)
	small := func(c *resource.Checkout) { c.MaxSize = 1 << 20 }
	first := r.remote.Push(map[string]string{"a": "1"})
	r.fetched(r.put("main", 1, small), first)
	noise := make([]byte, 2<<20)
	rand.Read(noise)
	r.remote.Push(map[string]string{"big": base64.StdEncoding.EncodeToString(noise)})
	r.failed(r.put("main", 2, small), "TooLarge", "spec.git.maxSize", first)
	r.remote.Git("reset", "--quiet", "--hard", first)
	r.remote.Push(map[string]string{"big": strings.Repeat("0", 2<<20)})
	r.failed(r.put("main", 3, small), "TooLarge", "its files have more than", first)
	// A tree of ten trees of ten trees … of one file: 10^7 files in a few hundred bytes.
	inside := "100644 blob " + r.remote.Git("hash-object", "-w", "a")
	var id string
	for range 7 {
		var list strings.Builder
		for i := range 10 {
			list.WriteString(inside + "\tf" + string(rune('0'+i)) + "\n")
		}
		id = r.remote.Run(list.String(), "-C", r.remote.Clone, "mktree")
		inside = "040000 tree " + id
	}
	bomb := r.remote.Git("commit-tree", "-m", "bomb", id)
	r.remote.Git("push", "--quiet", "--force", "origin", bomb+":refs/heads/bomb")
	r.failed(r.put("bomb", 1, small), "TooLarge", "more than", "")
	if mirror, _ := filepath.Glob(filepath.Join(r.layout.Mirrors(), "*", "objects/pack/tmp_*")); len(mirror) > 0 {
		t.Errorf("left half fetched: %v", mirror)
	}
}

// TestHostileObjects: what git's check of received objects refuses is not taken,
// and nothing of a repository runs.
func TestHostileObjects(t *testing.T) {
	r := newRig(t)
	ran := filepath.Join(gittest.Dir(t), "ran")
	r.remote.Write("hooks/post-checkout", "#!/bin/sh\ntouch "+ran+"\n")
	r.remote.Write(".gitattributes", "* filter=run\n")
	r.remote.Write(".gitmodules", "[submodule \"m\"]\n\tpath = m\n\turl = ./m\n")
	if err := os.Symlink("/etc/passwd", filepath.Join(r.remote.Clone, "link")); err != nil {
		t.Fatal(err)
	}
	r.remote.Git("add", "--all")
	r.remote.Git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",m")
	r.remote.Git("commit", "--quiet", "-m", "all sorts")
	r.remote.Git("push", "--quiet", "origin", "HEAD:main")
	c := r.fetched(r.put("main", 1), r.remote.Git("rev-parse", "HEAD"))
	if c.Fetch.Result.Submodules != 1 {
		t.Errorf("%+v", c.Fetch.Result)
	}
	if _, err := os.Lstat(ran); err == nil {
		t.Error("something of the repository ran")
	}
	blob := r.remote.Run("x", "-C", r.remote.Clone, "hash-object", "-w", "--stdin")
	bad := r.remote.Run("100644 blob "+blob+"\t.git\n", "-C", r.remote.Clone, "mktree", "--missing")
	evil := r.remote.Git("commit-tree", "-m", "evil", bad)
	r.remote.Git("push", "--quiet", "--force", "origin", evil+":refs/heads/evil")
	r.failed(r.put("evil", 1), "InvalidObjects", "repair", "")
}
