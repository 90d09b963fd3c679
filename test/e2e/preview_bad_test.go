package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source/git/gittest"
)

// badPreview was Ready once, with rows in its database and a file in its home,
// and is given one bad thing after the other.
type badPreview struct {
	*tekton
	repo *gittest.Remote
	srv  *gittest.Server
	good string // commit
}

const (
	badHost   = "notes.preview.test"
	badUpload = "mine"
	badProbe  = "probe: {http: {path: /, port: 3000}, deadline: 10s}"
)

// goodBranch has 200 characters, of all sorts that git allows.
var goodBranch = "feat/it's-$(id)-\"ü\"-`$HOME`-%n;&|#/" + strings.Repeat("x", 165)

// badCase is a branch that differs from the good one.
type badCase struct {
	name  string
	files map[string]string // "": goes
	tree  func()            // more that the branch has
	// The condition that tells of it, with its reason and parts of its message.
	condition, reason string
	says              []string
	// Silent is what does not answer: it was set up.
	silent string
}

// push puts a branch that differs from the good commit.
func (b *badPreview) push(branch string, files map[string]string, tree func()) string {
	b.t.Helper()
	b.repo.Git("checkout", "--quiet", "--force", "-B", "work", b.good)
	for file, text := range files {
		if text == "" {
			b.repo.Git("rm", "--quiet", file)
			continue
		}
		b.repo.Write(file, text)
	}
	if tree != nil {
		tree()
	}
	id := b.repo.Commit()
	b.repo.Git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/"+branch)
	return id
}

// shows has the preview be of a branch.
func (b *badPreview) shows(branch string) {
	b.t.Helper()
	b.write("notes.yaml", fmt.Sprintf("apiVersion: tekton.host/v1alpha1\nkind: Preview\nmetadata: {name: notes}\nspec:\n  repository: {url: %q, secret: forge}\n  branch: %q\n  refresh: 5s\n", b.srv.Address(), branch))
}

// says waits until a condition tells of a trouble, and the phase where nothing is as it was asked for.
func (b *badPreview) says(c badCase) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%s: %s is %s", c.name, c.condition, c.reason), func() error {
		i, err := b.item("notes")
		if err != nil {
			return err
		}
		// A commit that is there stays Ready, also when no newer one can be had.
		told := c.condition == v1alpha1.ConditionFetched || i.Status.Phase == v1alpha1.PhaseDegraded || i.Status.Phase == v1alpha1.PhaseFailed
		for _, have := range i.Status.Conditions {
			if have.Type != c.condition || have.Reason != c.reason {
				continue
			}
			for _, part := range c.says {
				told = told && strings.Contains(have.Message, part)
			}
			if told {
				return nil
			}
		}
		return fmt.Errorf("%s: %+v", i.Status.Phase, i.Status.Conditions)
	})
}

// kept demands that the good commit serves, with its rows and files.
func (b *badPreview) kept(name string) {
	b.t.Helper()
	b.previewed(badHost, b.good)
	b.noted(badHost, `["kept"]`)
	upload, err := os.ReadFile(b.state("volumes/preview/notes/home/upload"))
	if err != nil || string(upload) != badUpload {
		b.t.Errorf("%s: the file of its home is %q %v", name, upload, err)
	}
}

// goes through a case, to its end.
func (b *badPreview) goes(c badCase) {
	b.t.Helper()
	b.push("bad", c.files, c.tree)
	b.shows("bad")
	b.says(c)
	if c.silent != "" {
		b.eventually(c.name+" serves nobody", func() error {
			if code, page, err := b.through(badHost, c.silent); err == nil && code != http.StatusServiceUnavailable {
				return fmt.Errorf("served is %d %s", code, page)
			}
			return nil
		})
	} else {
		b.kept(c.name)
	}
	if c.condition == v1alpha1.ConditionSetUp { // whoever ends starts again as what it was
		b.must("exec", "notes", "--", "systemctl", "kill", "--signal=KILL", "preview-service-web.service")
		b.kept(c.name)
	}
	b.shows(goodBranch)
	b.ready("notes")
	b.kept(c.name + ", mended")
}

// TestPreviewBadInput: whatever a repository, its server or an application does
// wrong is told, loses nothing, and is over when it is mended.
func TestPreviewBadInput(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	b := &badPreview{repo: r, srv: gittest.Serve(t, r)}
	b.srv.Intercept(gittest.Demand("git", "first"))
	b.tekton = start(t, "git: {user: nobody}", "previews: {domain: preview.test}")
	_, err := b.runWith("first", "secret", "set", "forge")
	b.check(err)
	files := application(t)
	files["preview.yaml"] = strings.Replace(files["preview.yaml"], "probe: {http: {path: /, port: 3000}}", badProbe, 1)
	b.good = r.Push(files)
	r.Git("push", "--quiet", "origin", "HEAD:refs/heads/"+goodBranch)
	b.shows(goodBranch)
	b.previewed(badHost, b.good)
	b.ready("notes")
	b.noted(badHost, "[]")
	if code, body, err := request(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/notes", b.httpPort()), badHost, "kept"); err != nil || code != http.StatusOK {
		t.Fatalf("add a note: %d %s %v", code, body, err)
	}
	b.must("exec", "notes", "--", "sh", "-c", "printf "+badUpload+" >"+v1alpha1.PreviewHome+"/upload")
	b.kept("at first")

	b.badNames()
	for _, c := range badCases(files) {
		b.goes(c)
	}
	b.badLink()
	b.crashLoop(files)
	b.oddTree()
	b.badServer()
	b.must("preview", "destroy", "notes")
	b.gone("notes")
	b.eventually("nothing is left", b.nothingLeft)
}

func badCases(files map[string]string) []badCase {
	config := files["preview.yaml"]
	const wrong = "from pathlib import Path\nraise SystemExit('this is not what served')\n"
	return []badCase{
		{name: "no configuration", files: map[string]string{"preview.yaml": ""}, condition: v1alpha1.ConditionConfigured, reason: "ConfigInvalid", says: []string{"preview.yaml: commit", "add one to the repository"}},
		{name: "large configuration", files: map[string]string{"preview.yaml": config + "#" + strings.Repeat("x", 70<<10)}, condition: v1alpha1.ConditionConfigured, reason: "ConfigInvalid", says: []string{"at most 64 KiB"}},
		{name: "wrong configuration", files: map[string]string{"preview.yaml": config + "secrets: [ROOT_PASSWORD]\nsystem: windows\n"}, condition: v1alpha1.ConditionConfigured, reason: "ConfigInvalid",
			says: []string{"preview.yaml:16:11: secrets[0]: \"ROOT_PASSWORD\" is not granted", "preview.yaml:17:9: system: \"windows\" is not a base"}},
		{name: "a setup that fails", files: map[string]string{"migrate.py": "print('no such table'); raise SystemExit(3)\n", "web.py": wrong}, condition: v1alpha1.ConditionSetUp, reason: "SetupFailed",
			says: []string{"ExecMainStatus=3", "no such table"}},
		{name: "a setup that fails, with another port", files: map[string]string{"migrate.py": "raise SystemExit(4)\n", "web.py": wrong,
			"preview.yaml": strings.NewReplacer("- port: 3000", "- port: 3998", badProbe, "probe: {tcp: {port: 3998}}").Replace(config)}, condition: v1alpha1.ConditionSetUp, reason: "SetupFailed",
			says: []string{"ExecMainStatus=4"}},
		{name: "a setup that hangs", files: map[string]string{"migrate.py": "import time; time.sleep(1e6)\n", "web.py": wrong, "preview.yaml": strings.Replace(config, "timeout: 2m", "timeout: 2s", 1)},
			condition: v1alpha1.ConditionSetUp, reason: "SetupFailed", says: []string{"Result=timeout"}},
		{name: "a probe that nobody answers", files: map[string]string{"web.py": "import socket, time\nlistening = socket.create_server(('', 3000))\ntime.sleep(1e6)\n"},
			condition: v1alpha1.ConditionAnswered, reason: "ProbeFailed", says: []string{"did not answer within 10s"}, silent: "/"},
		{name: "a route to a closed port", files: map[string]string{"preview.yaml": strings.NewReplacer("- port: 3000", "- port: 3999", badProbe, "probe: {tcp: {port: 3999}, deadline: 10s}").Replace(config)},
			condition: v1alpha1.ConditionAnswered, reason: "ProbeFailed", says: []string{":3999", "connection refused"}, silent: "/"},
		{name: "another route to a closed port", files: map[string]string{"preview.yaml": strings.Replace(config, "path: /api, port: 4000", "path: /api, port: 4999", 1)},
			condition: v1alpha1.ConditionAnswered, reason: "ProbeFailed", says: []string{"a route leads to port 4999", "connection refused"}, silent: "/api/notes"},
	}
}

// badNames are refused before anybody sees them as an argument.
func (b *badPreview) badNames() {
	for _, name := range []string{"a b", "a\nb", "-rf", "--upload-pack=touch /tmp/x", "a..b", strings.Repeat("x", 300), "a\x1b[2J"} {
		if out, err := b.run("preview", "create", "--", b.srv.Address(), name); err == nil || !strings.Contains(err.Error(), "branch") {
			b.t.Errorf("%q: %s %v", name, out, err)
		}
	}
	b.shows("--upload-pack=touch /tmp/x")
	b.says(badCase{name: "an option as a branch", condition: v1alpha1.ConditionSpecValid, reason: "InvalidValue", says: []string{"notes.yaml:6:11: spec.branch"}})
	b.kept("an option as a branch")
	b.shows("nothere")
	b.says(badCase{name: "no branch", condition: v1alpha1.ConditionFetched, reason: "RefNotFound", says: []string{"next step: push it"}})
	b.kept("no branch")
}

// badLink is a configuration that leads to a file of the host.
func (b *badPreview) badLink() {
	link := func() {
		path := filepath.Join(b.repo.Clone, "preview.yaml")
		b.check(os.Remove(path))
		b.check(os.Symlink("/etc/passwd", path))
	}
	b.goes(badCase{name: "a link", tree: link, condition: v1alpha1.ConditionConfigured, reason: "ConfigInvalid", says: []string{"it is no regular file"}})
}

// crashLoop: a service that ends is started again however often that was in vain,
// until it finds what it needs.
func (b *badPreview) crashLoop(files map[string]string) {
	b.t.Helper()
	c := badCase{name: "a service that crashes", condition: v1alpha1.ConditionAnswered, reason: "ProbeFailed", says: []string{"connection refused"}}
	crashing := b.push("bad", map[string]string{"web.py": "import os\nif not os.path.exists('../needed'): raise SystemExit('not yet')\n" + files["web.py"]}, nil)
	b.shows("bad")
	b.says(c)
	b.eventually("it has crashed often", func() error {
		n, err := b.run("exec", "notes", "--", "systemctl", "show", "--property=NRestarts", "--value", "preview-service-web.service")
		if times, _ := strconv.Atoi(strings.TrimSpace(n)); err == nil && times < 7 {
			err = fmt.Errorf("%s times", n)
		}
		return err
	})
	b.must("exec", "notes", "--", "touch", v1alpha1.PreviewHome+"/needed")
	b.previewed(badHost, crashing)
	b.ready("notes")
	b.shows(goodBranch)
	b.ready("notes")
	b.kept(c.name)
}

// oddTree: links and submodules are what they are to git, inside the machine.
func (b *badPreview) oddTree() {
	b.t.Helper()
	odd := b.push("bad", map[string]string{".gitmodules": "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ext::sh -c touch% /tmp/tekton-e2e-ran\n", "kilroy\nwas here ü": "x"}, func() {
		for name, to := range map[string]string{"shadow": "/etc/shadow", "up": "../../../../../../etc", "itself": "itself"} {
			b.check(os.Symlink(to, filepath.Join(b.repo.Clone, name)))
		}
		b.repo.Git("add", "--all")
		b.repo.Git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("12", 20)+",vendor/lib")
		b.check(os.MkdirAll(filepath.Join(b.repo.Clone, "vendor/lib"), 0o755))
	})
	b.shows("bad")
	b.previewed(badHost, odd)
	b.ready("notes")
	if got := b.must("exec", "notes", "--", "sh", "-c", "cd "+v1alpha1.PreviewHome+"/app; readlink shadow up itself; ls -A vendor/lib; ls -d kilroy* | wc -l"); got != "/etc/shadow\n../../../../../../etc\nitself\n2\n" {
		b.t.Errorf("in the checkout is %q", got)
	}
	if _, err := os.Stat("/tmp/tekton-e2e-ran"); err == nil {
		b.t.Error("a submodule's url was run")
	}
	b.shows(goodBranch)
	b.ready("notes")
	b.kept("an odd tree")
}

// badServer: the repository goes, its token is revoked, and its branch is another one.
func (b *badPreview) badServer() {
	b.t.Helper()
	b.srv.Intercept(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusNotFound); return true })
	gone := badCase{name: "no repository", condition: v1alpha1.ConditionFetched, reason: "RepositoryNotFound", says: []string{b.good[:12] + " stays", "check the url"}}
	b.says(gone)
	b.kept(gone.name)
	b.srv.Intercept(gittest.Demand("git", "second"))
	revoked := badCase{name: "a revoked token", condition: v1alpha1.ConditionFetched, reason: "AuthenticationFailed", says: []string{b.good[:12] + " stays", "tekton secret set"}}
	b.says(revoked)
	b.kept(revoked.name)
	b.repo.Git("checkout", "--quiet", "--force", "--orphan", "other", b.good)
	b.good = b.repo.Commit()
	b.repo.Git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/"+goodBranch)
	b.repo.Run("", "-C", b.repo.Bare, "gc", "--quiet", "--prune=now")
	_, err := b.runWith("second", "secret", "set", "forge")
	b.check(err)
	b.kept("another history")
	b.ready("notes")
}
