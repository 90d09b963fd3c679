package git

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tekton.host/pkg/source/git/gittest"
	"tekton.host/pkg/spec"
)

// TestLife: push, change, remove, and what status tells about it.
func TestLife(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	o, dec := options(t, srv.Address())
	o.Path = "hosts/a"
	s := open(t, o)
	if snap := s.Snapshot(t.Context()); snap.Err == nil || snap.Complete || snap.RetryAfter == 0 {
		t.Errorf("before the first look: %+v", snap)
	}
	first := r.Push(map[string]string{"hosts/a/web.yaml": doc("web", "api"), "hosts/a/db.yml": doc("db"), "hosts/a/.hidden.yaml": doc("hidden"),
		"hosts/a/README.md": "text", "hosts/a/deep/x.yaml": doc("deep"), "top.yaml": doc("top")})
	snap := good(t, s, "db", "web", "api")
	if !slices.Equal(snap.Files, []string{"hosts/a/db.yml", "hosts/a/web.yaml"}) || snap.Objects[1].Position != (spec.Position{File: "hosts/a/web.yaml", Line: 1, Column: 1}) || snap.RetryAfter != 0 {
		t.Errorf("snapshot %+v", snap)
	}
	st := s.Status()
	if st.Commit != first || st.Err != nil || st.SyncedAt.IsZero() || time.Since(st.CommittedAt) > time.Hour || st.Rejected != "" {
		t.Errorf("status %+v", st)
	}
	n := dec.files.Load()
	second := r.Push(map[string]string{"hosts/a/web.yaml": doc("web")})
	next := good(t, s, "db", "web")
	if dec.files.Load() != n+1 || next.Revision == snap.Revision || s.Status().Commit != second {
		t.Errorf("%d files decoded for one that changed; revision %s, %s", dec.files.Load()-n, snap.Revision, next.Revision)
	}
	r.Push(map[string]string{"elsewhere.yaml": doc("x")})
	good(t, s, "db", "web")
	if dec.files.Load() != n+1 {
		t.Errorf("a commit that changes nothing here: %d files decoded", dec.files.Load()-n-1)
	}
	r.Push(map[string]string{"hosts/a/web.yaml": "", "hosts/a/db.yml": "", "hosts/a/.tekton-source": "x"})
	good(t, s)
}

// TestBadCommit: all of a commit or nothing, with positions against it.
func TestBadCommit(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	o, dec := options(t, gittest.Serve(t, r).Address())
	s := open(t, o)
	begin := r.Push(map[string]string{"a.yaml": doc("!a")})
	if snap := refused(t, s, "is bad"); snap.Complete || snap.Err == nil || len(snap.Problems) != 1 {
		t.Errorf("without any good commit: %+v", snap)
	}
	first := r.Push(map[string]string{"a.yaml": doc("a"), "b.yaml": doc("b")})
	good(t, s, "a", "b")
	bad := r.Push(map[string]string{"a.yaml": doc("a", "a2"), "b.yaml": doc("b", "!b2", "!b3")})
	snap := refused(t, s, bad[:12]+":b.yaml:2:1: is bad; and 1 more", "a", "b")
	want := []string{bad[:12] + ":b.yaml:2:1: is bad", bad[:12] + ":b.yaml:3:1: is bad"}
	if got := []string{snap.Problems[0].Error(), snap.Problems[1].Error()}; !slices.Equal(got, want) || snap.Problems[0].Name != "b2" {
		t.Errorf("problems %q", got)
	}
	if st := s.Status(); st.Commit != first || st.Rejected != bad {
		t.Errorf("status %+v, begin %s", st, begin)
	}
	n := dec.files.Load()
	refused(t, s, "is bad", "a", "b")
	if dec.files.Load() != n {
		t.Error("the same bad commit was decoded again")
	}
	// A new daemon knows the last good one without the remote, and finds the bad one again.
	again := open(t, o)
	wants(t, again.Snapshot(t.Context()), "a", "b")
	refused(t, again, "is bad", "a", "b")
	// The same name in two files is a problem of the commit; a Repository's beside a machine's is none.
	r.Push(map[string]string{"a.yaml": doc("a"), "b.yaml": doc("b", "@a")})
	good(t, s, "a", "b", "a")
	first = r.Push(map[string]string{"b.yaml": doc("b")})
	good(t, s, "a", "b")
	dup := r.Push(map[string]string{"b.yaml": doc("b"), "c.yaml": doc("a")})
	refused(t, s, dup[:12]+`:c.yaml:1:1: metadata.name: "a" is already the name of the object at a.yaml:1:1`, "a", "b")
	r.Git("reset", "--quiet", "--hard", first)
	r.Git("push", "--quiet", "--force", "origin", "HEAD:main")
	good(t, s, "a", "b")
	if st := s.Status(); st.Rejected != "" || st.Err != nil {
		t.Errorf("status %+v", st)
	}
}

// TestPartial takes the good documents, and tells the bad ones by their plain
// path: the last good spec of theirs stays.
func TestPartial(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	o.Partial = true
	s := open(t, o)
	id := r.Push(map[string]string{"a.yaml": doc("a"), "b.yaml": doc("b", "!b2")})
	snap, err := look(t, s)
	wants(t, snap, "a", "b")
	if err != nil || len(snap.Problems) != 1 || snap.Problems[0].Error() != "b.yaml:2:1: is bad" || s.Status().Commit != id {
		t.Errorf("%v %+v", err, snap.Problems)
	}
}

// TestRestart: what is in effect outlives the daemon, also without the remote.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	o, _ := options(t, srv.Address())
	s := open(t, o)
	id := r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")
	srv.Close()
	s = open(t, o)
	snap := s.Snapshot(t.Context())
	wants(t, snap, "a")
	if snap.RetryAfter == 0 {
		t.Error("nobody has asked the remote yet, and the snapshot does not say so")
	}
	if snap := refused(t, s, "check git.url", "a"); snap.RetryAfter != 0 {
		t.Errorf("retry after %s once the remote was asked", snap.RetryAfter)
	}
	if st := s.Status(); st.Commit != id || !st.SyncedAt.IsZero() {
		t.Errorf("status %+v", st)
	}
	if entries, err := os.ReadDir(filepath.Dir(o.RunDir)); err != nil || len(entries) > 0 {
		t.Errorf("left in the run directory: %v %v", entries, err)
	}
}

// TestSuspend: suspended is nothing fetched, over a restart, until resumed.
func TestSuspend(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	o, _ := options(t, srv.Address())
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")
	if err := s.Suspend(); err != nil {
		t.Fatal(err)
	}
	r.Push(map[string]string{"b.yaml": doc("b")})
	asked := srv.Requests.Load()
	for range 2 {
		snap, err := look(t, s)
		wants(t, snap, "a")
		if err != ErrSuspended || srv.Requests.Load() != asked || !s.Status().Suspended || snap.RetryAfter != 0 {
			t.Errorf("suspended: %v, %d requests, %+v", err, srv.Requests.Load()-asked, snap)
		}
		s = open(t, o)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	good(t, open(t, o), "a", "b")
	if err := Forget(filepath.Dir(o.Dir), map[string]bool{}); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(o.Dir)); err != nil || len(entries) > 0 {
		t.Errorf("left of a source that is not configured: %v %v", entries, err)
	}
}

// TestSuspendAmidLook: what a look that is under way brings is not taken any more.
func TestSuspendAmidLook(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	o, _ := options(t, srv.Address())
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	good(t, s, "a")
	r.Push(map[string]string{"b.yaml": doc("b")})
	srv.Intercept(func(http.ResponseWriter, *http.Request) bool {
		if err := s.Suspend(); err != nil {
			t.Error(err)
		}
		return false
	})
	snap, err := look(t, s)
	wants(t, snap, "a")
	if err != ErrSuspended {
		t.Errorf("%v", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	srv.Intercept(nil)
	good(t, s, "a", "b")
}

// TestWatch: Sync waits for what was pushed before it; the loop tells of changes.
func TestWatch(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	o, _ := options(t, gittest.Serve(t, r).Address())
	s := open(t, o)
	r.Push(map[string]string{"a.yaml": doc("a")})
	changed := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() { defer close(done); s.Watch(t.Context(), func() { changed <- struct{}{} }) }()
	t.Cleanup(func() { <-done })
	<-changed
	wants(t, s.Snapshot(t.Context()), "a")
	r.Push(map[string]string{"b.yaml": doc("b")})
	errs := make(chan error)
	for range 5 {
		go func() { errs <- s.Sync(t.Context()) }()
	}
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	wants(t, s.Snapshot(t.Context()), "a", "b")
	if len(changed) != 1 {
		t.Errorf("%d changes told, one was made", len(changed))
	}
}
