package webhook

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/preview"
)

const shopURL = "https://github.com/team/shop.git"

func shop(p v1alpha1.PullRequestPolicy) map[string]v1alpha1.RepositorySpec {
	return map[string]v1alpha1.RepositorySpec{"shop": {URL: shopURL, PullRequests: p}}
}

// TestOddIsLeftOut: a pull request that is not as it should be keeps a sweep from no other.
func TestOddIsLeftOut(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	w.forge.open(42)
	w.forge.odd = &forge.OddError{Err: errors.New("pull request 41 shows nothing")}
	w.server.requestSweep()
	w.settle()
	if got := w.numbers(); got != "[42]" {
		t.Errorf("previews %s", got)
	}
}

// TestLife of a pull request: opened, pushed to, commanded, closed, opened again.
func TestLife(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	w.forge.open(42)
	w.event(42)
	w.settle()
	name := preview.Name(v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{URL: shopURL}, PullRequest: 42})
	check := func(commit string, rebuilds int) {
		t.Helper()
		p, ok := w.previews()[42]
		if s := p.Spec; !ok || p.Metadata.Name != name || s.Repository.Name != "shop" || s.Repository.URL != "" || s.PullRequest != 42 || s.Commit != commit || s.Rebuild != rebuilds || s.Fork {
			t.Fatalf("%+v", p)
		}
	}
	check(commitA, 0)
	w.daemon.look()
	w.forge.change(42, func(pr *forge.PullRequest) { pr.Commit = commitB })
	w.event(42)
	w.settle()
	check(commitB, 0)
	w.forge.say(42, "mallory", "/preview down")
	w.forge.say(42, "ann", "/preview rebuild")
	w.event(42)
	w.settle()
	check(commitB, 1)

	w.forge.shut(42)
	w.event(42)
	w.settle()
	if got := w.numbers(); got != "[]" || w.teller.state(42) != StateClosed {
		t.Fatalf("closed: previews %s, told %s", got, w.teller.state(42))
	}
	if _, err := os.Stat(w.server.store.File(Ref{"shop", 42})); err != nil {
		t.Fatalf("the file has to say that the removal is meant: %v", err)
	}
	w.forge.open(42)
	w.event(42)
	w.settle()
	check(commitB, 1)
	w.forge.shut(42)
	w.event(42)
	w.daemon.look()
	w.settle()
	w.daemon.look()
	old := time.Now().Add(-time.Minute)
	os.Chtimes(w.server.store.File(Ref{"shop", 42}), old, old)
	w.sweep()
	if refs, err := w.server.store.Refs(); err != nil || len(refs) != 0 {
		t.Errorf("something is left: %v, %v", refs, err)
	}
	if len(w.daemon.lost) != 0 {
		t.Errorf("files vanished with their documents: %v", w.daemon.lost)
	}
}

// TestFork: each commit waits for its own approval, and its preview is said to be of
// a fork, which is what keeps it from all that is granted.
func TestFork(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Forks: v1alpha1.ForksApproved}))
	w.settle()
	w.forge.change(7, func(pr *forge.PullRequest) { pr.Fork = true })
	step := func(what, want string, change func()) {
		t.Helper()
		change()
		w.event(7)
		w.settle()
		if got := w.numbers(); got != want {
			t.Fatalf("%s: previews %s", what, got)
		}
		if p, shown := w.previews()[7]; shown && (!p.Spec.Fork || p.Spec.Commit != commitA) {
			t.Fatalf("%s: %+v", what, p.Spec)
		}
		w.daemon.look()
		w.settle()
	}
	step("nobody has approved", "[]", func() {})
	step("a stranger has", "[]", func() { w.forge.say(7, "mallory", "/preview approve "+commitA) })
	step("another commit is", "[]", func() { w.forge.say(7, "ann", "/preview approve "+commitB) })
	step("approved", "[7]", func() { w.forge.say(7, "ann", "/preview approve "+commitA) })
	step("pushed", "[]", func() { w.forge.change(7, func(pr *forge.PullRequest) { pr.Commit = strings.Repeat("c", 40) }) })
	step("pushed back", "[7]", func() { w.forge.change(7, func(pr *forge.PullRequest) { pr.Commit = commitA }) })
	step("no longer allowed", "[]", func() {
		w.daemon.repository("shop", v1alpha1.RepositorySpec{URL: shopURL, PullRequests: v1alpha1.PullRequestPolicy{Forks: v1alpha1.ForksNever}})
	})
}

// TestLostCloseIsTold: that one was closed which has no preview, and waits for people,
// is told them by the next sweep when its delivery was lost.
func TestLostCloseIsTold(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Forks: v1alpha1.ForksApproved}))
	w.settle()
	w.forge.change(7, func(pr *forge.PullRequest) { pr.Fork = true })
	w.sweep()
	if got := w.teller.state(7); got != StateUnapproved {
		t.Fatalf("told %s", got)
	}
	w.forge.shut(7)
	w.restart()
	w.sweep()
	if got := w.teller.state(7); got != StateClosed {
		t.Errorf("told %s", got)
	}
	w.forge.mu.Lock()
	before := w.forge.asked
	w.forge.mu.Unlock()
	w.sweep()
	w.forge.mu.Lock()
	defer w.forge.mu.Unlock()
	if w.forge.asked != before {
		t.Error("it is asked for ever")
	}
}

// TestWritersAreSecret: where nobody tells us who may write, whatever needs no command
// goes on, and what was commanded stays as it is.
func TestWritersAreSecret(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Forks: v1alpha1.ForksApproved}))
	w.settle()
	w.forge.open(1)
	w.forge.change(7, func(pr *forge.PullRequest) { pr.Fork = true })
	w.forge.say(7, "ann", "/preview approve "+commitA)
	w.sweep()
	w.daemon.look()
	w.forge.mu.Lock()
	w.forge.secret = fmt.Errorf("403 (%w)", forge.ErrRefused)
	w.forge.mu.Unlock()
	w.forge.say(1, "mallory", "/preview down")
	for _, n := range []int{1, 7} {
		w.forge.change(n, func(pr *forge.PullRequest) { pr.Commit = commitB })
		w.event(n)
	}
	w.settle()
	shown := func(want1, want7 string) {
		t.Helper()
		if p := w.previews(); len(p) != 2 || p[1].Spec.Commit != want1 || p[7].Spec.Commit != want7 {
			t.Errorf("%+v", p)
		}
	}
	shown(commitB, commitA)
	w.forge.mu.Lock()
	w.forge.secret = nil
	w.forge.mu.Unlock()
	w.forge.say(1, "ann", "/preview rebuild")
	w.forge.say(7, "ann", "/preview approve "+commitB)
	w.sweep()
	shown(commitB, commitB)
	if got := w.previews()[1].Spec.Rebuild; got != 1 {
		t.Errorf("rebuilt %d times", got)
	}
}

// TestNameStays when the forge calls the repository something else, or its
// object is given another URL.
func TestNameStays(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.forge.open(1)
	w.sweep()
	name := w.previews()[1].Metadata.Name
	w.daemon.repository("shop", v1alpha1.RepositorySpec{URL: "https://github.com/team/store.git"})
	w.forge.change(1, func(pr *forge.PullRequest) { pr.Commit = commitB })
	w.sweep()
	if p := w.previews()[1]; p.Metadata.Name != name || p.Spec.Commit != commitB {
		t.Errorf("%+v, want the name %s", p, name)
	}
}

// TestTaken: what a ttl or `tekton delete` took away stays away until somebody
// pushes or asks for it.
func TestTaken(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	file := func() string { return w.server.store.File(Ref{"shop", 1}) }
	w.forge.open(1)
	w.sweep()
	w.daemon.look()
	for _, again := range []func(){
		func() { w.forge.change(1, func(pr *forge.PullRequest) { pr.Commit = commitB }) },
		func() { w.forge.say(1, "ann", "/preview") },
		func() { w.forge.say(1, "ann", "/preview rebuild") },
	} {
		w.daemon.fade(file())
		w.sweep()
		if got := w.numbers(); got != "[]" || w.teller.state(1) != StateTaken {
			t.Fatalf("while it goes: previews %s, told %s", got, w.teller.state(1))
		}
		w.daemon.destroy(file())
		w.sweep()
		w.restart()
		w.sweep()
		if got := w.numbers(); got != "[]" || w.teller.state(1) != StateTaken {
			t.Fatalf("previews %s, told %s", got, w.teller.state(1))
		}
		again()
		w.event(1)
		w.settle()
		if got := w.numbers(); got != "[1]" {
			t.Fatalf("previews %s", got)
		}
		w.daemon.look()
	}
	// A directory that was emptied by accident: the daemon still has the preview.
	w.settle()
	os.Remove(file())
	w.sweep()
	if got := w.numbers(); got != "[1]" {
		t.Errorf("previews %s: a lost file was not written again", got)
	}
}

// TestReopened: a pull request that is closed, and opened again before its forge
// was told or after a restart amid the removal, has its preview again.
func TestReopened(t *testing.T) {
	r := Ref{"shop", 1}
	for _, restart := range []bool{false, true} {
		w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
		w.forge.open(1)
		w.sweep()
		w.daemon.look()
		w.settle()
		w.teller.mu.Lock()
		w.teller.err = errors.New("no comments for you")
		w.teller.mu.Unlock()
		w.forge.shut(1)
		w.event(1)
		w.settle()
		w.daemon.look()
		w.settle()
		old := time.Now().Add(-time.Minute)
		os.Chtimes(w.server.store.File(r), old, old)
		w.sweep()
		if e, err := w.server.store.Read(r); err != nil || e.State != SpecAbsent || e.Record == nil {
			t.Fatalf("%+v, %v: the file is to go, and the record to stay until it is told", e, err)
		}
		if restart {
			w.restart()
			w.settle()
		}
		w.forge.open(1)
		w.event(1)
		w.settle()
		if got := w.numbers(); got != "[1]" {
			t.Errorf("restart %t: previews %s", restart, got)
		}
	}
	// A crash between the two steps: the first one is done, and the file is there.
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.forge.open(1)
	w.sweep()
	e, err := w.server.store.Read(r)
	if err = errors.Join(err, w.server.store.Bury(r), w.server.store.Unwant(r, e)); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	os.Chtimes(w.server.store.File(r), old, old)
	w.forge.shut(1)
	w.restart()
	w.sweep()
	if refs, err := w.server.store.Refs(); err != nil || len(refs) != 0 {
		t.Errorf("something is left: %v, %v", refs, err)
	}
}

// TestNothingIsRemovedWithoutAWord: neither the forge's nor the daemon's silence removes anything.
func TestNothingIsRemovedWithoutAWord(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.forge.open(1)
	w.sweep()
	w.daemon.look()
	w.settle()
	w.forge.fail(errors.New("internal error"))
	w.event(1)
	w.settle()
	w.forge.fail(nil)
	w.forge.mu.Lock()
	hidden := w.forge.pulls[1]
	delete(w.forge.pulls, 1) // not found: hidden from us, perhaps
	w.forge.mu.Unlock()
	w.sweep()
	w.daemon.goAway(true)
	w.settle()
	if err := w.server.sweep(t.Context()); !errors.Is(err, errDaemon) {
		t.Errorf("a sweep without the daemon: %v", err)
	}
	w.event(1)
	w.settle()
	if got := w.numbers(); got != "[1]" || w.server.journal.Len() != 1 {
		t.Fatalf("previews %s, and %d deliveries wait for the daemon", got, w.server.journal.Len())
	}
	w.restart()
	w.settle()
	if got := w.numbers(); got != "[1]" || w.server.journal.Len() != 1 {
		t.Fatalf("after a restart: previews %s, and %d deliveries wait for the daemon", got, w.server.journal.Len())
	}
	w.forge.mu.Lock()
	w.forge.pulls[1] = hidden
	w.forge.mu.Unlock()
	w.daemon.goAway(false)
	w.settle()
	// One that was refused is still there.
	w.daemon.update(func() { w.daemon.put(v1alpha1.KindRepository, "shop", "/specs/r.yaml", nil) })
	w.sweep()
	if got := w.numbers(); got != "[1]" {
		t.Fatalf("a Repository that was refused: previews %s", got)
	}
	w.daemon.update(func() { delete(w.daemon.items, "Repository/shop") })
	w.sweep()
	if got := w.numbers(); got != "[]" || w.teller.state(1) != StateNoPolicy {
		t.Errorf("without its Repository: previews %s, told %s", got, w.teller.state(1))
	}
}

// TestAnotherRepository: of a stranger's repository that came to bear the name of the
// one that was meant nothing is shown, and nothing is removed for it.
func TestAnotherRepository(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	of := func(n int, id int64, commit string) {
		w.forge.change(n, func(pr *forge.PullRequest) { pr.RepositoryID, pr.Commit = id, commit })
	}
	want := func(when, numbers, commit string) {
		t.Helper()
		w.sweep()
		w.daemon.look()
		w.settle()
		if got := w.numbers(); got != numbers || commit != "" && w.previews()[1].Spec.Commit != commit {
			t.Fatalf("%s: previews %s, #1 of %s", when, got, w.previews()[1].Spec.Commit)
		}
	}
	of(1, 5, commitA)
	want("at first", "[1]", commitA)
	of(1, 6, commitB)
	of(2, 6, commitB)
	want("a stranger's", "[1]", commitA)
	w.forge.shut(1)
	w.restart()
	want("a stranger's, closed, after a restart", "[1]", commitA)
	w.forge.open(1)
	w.daemon.repository("shop", v1alpha1.RepositorySpec{URL: "https://github.com/team/store.git"})
	want("another url", "[1 2]", commitB)
	of(1, 7, commitA)
	want("and a stranger's again", "[1 2]", commitB)
	w.daemon.update(func() { delete(w.daemon.items, "Repository/shop") })
	want("without its Repository", "[]", "")
	of(2, 7, commitA)
	w.daemon.repository("shop", v1alpha1.RepositorySpec{URL: "https://github.com/team/store.git"})
	want("applied again", "[1 2]", commitA)
}

// TestUnnamed: who is answered 202 and has no Repository is told of in the log, once.
func TestUnnamed(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	var said []string
	w.server.log = funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{})
	for i := range 3 {
		body := strings.Replace(pullBody(1), "team/shop", "team/other", 1)
		if code := w.deliver(fmt.Sprint("other-", i), "pull_request", body); code != 202 {
			t.Fatal(code)
		}
		w.settle()
	}
	if len(said) != 1 || !strings.Contains(said[0], "that no Repository names") || !strings.Contains(said[0], "team/other") || w.server.journal.Len() != 0 {
		t.Errorf("%q", said)
	}
}

// TestOneURLTwice: the first by name has the previews, none is kept twice.
func TestOneURLTwice(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.forge.open(1)
	w.sweep()
	w.daemon.repository("a", v1alpha1.RepositorySpec{URL: "ssh://git@github.com/Team/Shop"})
	w.sweep()
	var files []string
	for file, p := range w.daemon.read() {
		if p != nil {
			files = append(files, strings.TrimPrefix(file, w.specs+"/"))
		}
	}
	if got := fmt.Sprint(files); got != "[a.1.yaml]" {
		t.Errorf("specs %s", got)
	}
}

// TestPush: sources that the branch is of look at their remote, no others.
func TestPush(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	if code := w.deliver("p1", "push", `{"ref":"refs/heads/next","repository":{"full_name":"team/infra"}}`); code != 202 {
		t.Fatal(code)
	}
	w.settle()
	if got := fmt.Sprint(w.daemon.synced); got != "[infra-next]" {
		t.Errorf("synced %s", got)
	}
}

// TestTellingIsInNobodysWay: an error of the teller delays no spec.
func TestTellingIsInNobodysWay(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
	w.settle()
	w.teller.err = errors.New("no comments for you")
	w.forge.open(1)
	w.event(1)
	w.settle()
	if got := w.numbers(); got != "[1]" {
		t.Errorf("previews %s", got)
	}
}

// TestLocate: which URLs are of a forge.
func TestLocate(t *testing.T) {
	for _, tt := range []struct{ git, forge, want string }{
		{"https://github.com/team/shop.git", "https://github.com", "team/shop"},
		{"https://GitHub.com/team/shop/", "https://github.com/", "team/shop"},
		{"ssh://git@github.com/team/shop", "https://github.com", "team/shop"},
		{"https://github.com.evil.example/team/shop", "https://github.com", ""},
		{"https://example.org/git/team/shop.git", "https://example.org/git", "team/shop"},
		{"https://example.org/github/team/shop", "https://example.org/git", ""},
		{"https://example.org:8443/team/shop", "https://example.org", ""},
		{"ssh://git@example.org:2222/team/shop", "https://example.org:8443", "team/shop"},
		{"https://github.com/team", "https://github.com", ""},
		{"https://github.com/team/shop/tree", "https://github.com", ""},
		{"%", "https://github.com", ""},
	} {
		r, ok := locate(tt.git, tt.forge)
		if got := r.String(); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%s at %s: %s %t", tt.git, tt.forge, got, ok)
		}
	}
}

// FuzzNames: whatever a URL says, a name is one that the API takes, and files
// are told apart and stay in their directory.
func FuzzNames(f *testing.F) {
	f.Add("https://github.com/team/shop.git", "shop", 42)
	f.Add("https://github.com/../..", "a.b", -1)
	s := &Store{specs: "/specs"}
	f.Fuzz(func(t *testing.T, url, base string, n int) {
		if r, ok := locate(url, "https://github.com"); ok && (r.Owner == "" || r.Name == "" || strings.Contains(r.Name, "/")) {
			t.Errorf("%q is of %q", url, r)
		}
		if r, ok := parseRef(base); ok && (r.base() != base || r.Number < 1 || strings.HasPrefix(base, ".")) {
			t.Errorf("%q is %+v", base, r)
		}
		if r, ok := s.Ref("/specs/" + base + ".yaml"); ok && s.File(r) != "/specs/"+base+".yaml" {
			t.Errorf("%q is another file than that of %+v", base, r)
		}
		if n < 1 {
			return
		}
		text, name, err := previewSpec(Ref{"shop", n}, &v1alpha1.RepositorySpec{URL: url}, "", Verdict{Commit: commitA})
		if err != nil || len(name) > v1alpha1.MaxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasPrefix(name, "-") || !strings.Contains(string(text), name) {
			t.Errorf("%q makes the name %q: %v", url, name, err)
		}
	})
}
