package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source/git/gittest"
)

// fleet starts a daemon with the plain directory and, after it, a git source
// that is looked at when a test says so.
func fleet(t *testing.T) (*tekton, *gittest.Remote, *gittest.Server) {
	t.Helper()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	k := prepare(t)
	k.extra = fmt.Sprintf("git: {user: nobody}\n  sources:\n  - {name: local, path: %s}\n  - {name: fleet, git: {url: %q, path: hosts/a, interval: 1h, timeout: 20s}}", k.specs(), srv.Address())
	k.writeConfig()
	r.Push(map[string]string{"hosts/a/.tekton-source": "x", "README.md": "x"})
	k.up()
	return k, r, srv
}

// at is the path of a spec file in the repository.
func at(name string) string { return "hosts/a/" + name + ".yaml" }

// fleet is what the API says of the git source.
func (k *tekton) fleet() v1alpha1.SourceStatus {
	k.t.Helper()
	sources, err := k.api().Sources(k.t.Context())
	k.check(err)
	for _, s := range sources {
		if s.Git != nil {
			return s
		}
	}
	k.t.Fatal("there is no git source")
	return v1alpha1.SourceStatus{}
}

// TestGitSource is the life of specs in a repository: pushed, broken, mended,
// claimed by another source, held, removed.
func TestGitSource(t *testing.T) {
	t.Parallel()
	k, r, srv := fleet(t)
	web := func(generation string) string {
		return k.guest("web", "routes: [{host: web.test, port: 8080}]", `environment: {GENERATION: "`+generation+`"}`)
	}
	first := r.Push(map[string]string{at("web"): web("1")})
	if out := k.must("source", "sync", "fleet"); !strings.Contains(out, first[:12]) {
		t.Errorf("sync says %q", out)
	}
	k.ready("web")
	k.mustServe("web.test")

	bad := r.Push(map[string]string{at("web"): web("2"), at("api"): k.guest("api", "comand: [x]")})
	_, err := k.run("source", "sync", "fleet")
	if want := bad[:12] + ":" + at("api") + ":10:3: spec.comand"; exitCode(err) != 1 || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("sync of a bad commit: %v, expected %s", err, want)
	}
	k.condition("api", v1alpha1.ConditionSpecValid, "UnknownField")
	k.settled()
	if a, err := k.served("web.test", "/"); err != nil || a.Generation != "1" {
		t.Errorf("with a bad commit web answers %+v %v", a, err)
	}
	if s := k.fleet(); s.Git.Commit != first || s.Git.Rejected != bad || s.Git.Error == "" || s.Git.SyncedAt.IsZero() {
		t.Errorf("status %+v", s.Git)
	}
	k.eventually("the events tell of both commits", func() error {
		out, err := k.run("events", "-o", "json")
		if err == nil && (!strings.Contains(out, "CommitRejected") || !strings.Contains(out, first)) {
			err = errors.New(out)
		}
		return err
	})
	if out := k.must("source", "list"); !strings.Contains(out, "Rejected "+bad[:12]) {
		t.Errorf("source list says\n%s", out)
	}

	r.Push(map[string]string{at("api"): ""})
	k.must("source", "sync", "fleet")
	k.eventually("the mended commit serves", func() error {
		a, err := k.served("web.test", "/")
		if err == nil && a.Generation != "2" {
			err = fmt.Errorf("it is generation %s", a.Generation)
		}
		return err
	})
	k.claimed(web("3"))
	k.committed(r)

	srv.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if _, err := k.run("source", "sync", "fleet"); exitCode(err) != 1 {
		t.Errorf("sync without a remote: %v", err)
	}
	k.eventually("an event tells that it fails", func() error {
		out, err := k.run("events", "source/fleet")
		if err == nil && !strings.Contains(out, " Failing ") {
			err = errors.New(out)
		}
		return err
	})
	k.signal(syscall.SIGKILL)
	k.up()
	if _, err := k.run("source", "sync", "fleet"); exitCode(err) != 1 {
		t.Errorf("sync without a remote: %v", err)
	}
	k.settled()
	k.mustServe("web.test")
	if s := k.fleet(); !s.Complete || s.Objects != 1 || s.Git.Commit != r.Git("rev-parse", "HEAD") || s.Git.Error == "" {
		t.Errorf("after a start without the remote: %+v %+v", s, s.Git)
	}
	srv.Intercept(nil)
	r.Push(map[string]string{at("web"): ""})
	k.must("source", "sync", "fleet")
	k.gone("web")
	k.eventually("nothing is left", k.nothingLeft)
}

// claimed: an object of the git source is written into the directory too, which
// comes first; who had it keeps it.
func (k *tekton) claimed(doc string) {
	k.t.Helper()
	before := k.get("web")
	k.write("web.yaml", doc)
	k.eventually("the directory is told", func() error {
		problems, err := k.api().Problems(k.t.Context())
		if err == nil && !strings.Contains(fmt.Sprint(problems), "is taken by Container web of source fleet") {
			err = fmt.Errorf("problems %v", problems)
		}
		return err
	})
	k.settled()
	if after := k.get("web"); after.Metadata.UID != before.Metadata.UID || after.Metadata.Source.Name != "fleet" || after.Metadata.Generation != before.Metadata.Generation {
		k.t.Errorf("web is now %+v, was %+v", after.Metadata, before.Metadata)
	}
	k.remove("web.yaml")
}

// committed: what a commit wants is changed by a commit; deletions of many are held.
func (k *tekton) committed(r *gittest.Remote) {
	k.t.Helper()
	if _, err := k.run("delete", "web"); exitCode(err) != 1 || !strings.Contains(fmt.Sprint(err), at("web")) {
		k.t.Errorf("delete of an object of a repository: %v", err)
	}
	k.check(os.WriteFile(k.path("new.yaml"), []byte(k.guest("new")), 0o644))
	if _, err := k.run("apply", "--source", "fleet", "-f", k.path("new.yaml")); exitCode(err) != 1 {
		k.t.Errorf("apply to a repository: %v", err)
	}
	many, none := map[string]string{}, map[string]string{}
	for i := range 7 {
		name := fmt.Sprint("many", i)
		many[at(name)], none[at(name)] = k.guest(name, "enabled: false"), ""
	}
	r.Push(many)
	k.must("source", "sync", "fleet")
	k.eventually("all are there", func() error { _, err := k.item("many6"); return err })
	r.Push(none)
	k.must("source", "sync", "fleet")
	k.eventually("the source holds", func() error {
		if s := k.fleet(); len(s.Held) != 7 {
			return fmt.Errorf("held: %v", s.Held)
		}
		return nil
	})
	k.must("release-deletes", "fleet")
	k.gone("many0", "many6")
	k.mustServe("web.test")
}

// TestGitRemoval: half of a small repository may go at once, and the last one too.
func TestGitRemoval(t *testing.T) {
	t.Parallel()
	k, r, _ := fleet(t)
	r.Push(map[string]string{at("a"): k.guest("a"), at("b"): k.guest("b")})
	k.must("source", "sync", "fleet")
	k.ready("a", "b")
	r.Push(map[string]string{at("a"): ""})
	k.must("source", "sync", "fleet")
	k.gone("a")
	k.ready("b")
	k.must("source", "suspend", "fleet")
	r.Push(map[string]string{at("b"): ""})
	if _, err := k.run("source", "sync", "fleet"); exitCode(err) != 1 || !strings.Contains(fmt.Sprint(err), "tekton source resume fleet") {
		t.Errorf("sync of a suspended source: %v", err)
	}
	k.signal(syscall.SIGTERM)
	k.up()
	k.ready("b")
	if s := k.fleet(); !s.Git.Suspended || s.Objects != 1 {
		t.Errorf("suspended, after a restart: %+v %+v", s, s.Git)
	}
	k.must("source", "resume", "fleet")
	k.gone("b")
	k.eventually("nothing is left", k.nothingLeft)
}

// TestGitOnce: --once waits for the remote, and a commit that is not used is no success.
func TestGitOnce(t *testing.T) {
	t.Parallel()
	k, r, srv := fleet(t)
	k.signal(syscall.SIGTERM)
	r.Push(map[string]string{at("web"): k.guest("web")})
	if code, out := k.once(); code != 0 || len(k.machines()) != 1 {
		t.Errorf("with a good commit: %d %s", code, out)
	}
	r.Push(map[string]string{at("web"): k.guest("web", "comand: [x]")})
	if code, out := k.once(); code != 1 || !strings.Contains(out, at("web")) || len(k.machines()) != 1 {
		t.Errorf("with a bad commit: %d %s", code, out)
	}
	srv.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if code, out := k.once(); code != 1 || !strings.Contains(out, "503") || len(k.machines()) != 1 {
		t.Errorf("without the remote: %d %s", code, out)
	}
	srv.Intercept(nil)
	r.Push(map[string]string{at("web"): ""})
	if code, out := k.once(); code != 0 || len(k.machines()) != 0 {
		t.Errorf("with nothing wanted: %d %s", code, out)
	}
	k.up()
}

// TestGitKilled kills the daemon while it fetches: git dies with it, what is in
// effect stays, and the next daemon goes on.
func TestGitKilled(t *testing.T) {
	t.Parallel()
	k, r, srv := fleet(t)
	r.Push(map[string]string{at("web"): k.guest("web")})
	k.must("source", "sync", "fleet")
	k.ready("web")
	pids := k.machines()
	r.Push(map[string]string{at("api"): k.guest("api")})
	stalled, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	srv.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPost || strings.Contains(req.Header.Get("Git-Protocol"), "ls-refs") {
			return false
		}
		once.Do(func() { close(stalled) })
		<-release
		return false
	})
	done := make(chan struct{})
	go func() { defer close(done); k.run("source", "sync", "fleet") }()
	<-stalled
	if len(k.gits()) == 0 {
		t.Error("git does not run while it waits for the remote")
	}
	k.signal(syscall.SIGKILL)
	k.eventually("git dies with the daemon", func() error {
		if g := k.gits(); len(g) > 0 {
			return fmt.Errorf("%q run", g)
		}
		return nil
	})
	<-done
	close(release)
	srv.Intercept(nil)
	k.up()
	k.must("source", "sync", "fleet")
	k.ready("web", "api")
	if now := k.machines(); len(now) != 2 || !strings.Contains(strings.Join(now, " "), pids[0]) {
		t.Errorf("machines %q before, %q after", pids, now)
	}
	r.Push(map[string]string{at("web"): "", at("api"): ""})
	k.must("source", "sync", "fleet")
	k.gone("web", "api")
}

// gits are the programs that work on the mirrors of this daemon.
func (k *tekton) gits() (found []string) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	k.check(err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			k.check(err)
		}
		if line := strings.ReplaceAll(string(text), "\x00", " "); strings.Contains(line, k.state("git")) {
			found = append(found, line)
		}
	}
	return found
}
