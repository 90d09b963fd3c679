package setup_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/resource"
)

// mirror is a repository of git's user, and a work tree that is pushed to it.
type mirror struct {
	r          *rig
	bare, work string
}

func newMirror(r *rig) *mirror {
	r.t.Helper()
	m := &mirror{r: r, bare: filepath.Join(r.layout.State, "checkouts", "m"), work: r.t.TempDir()}
	r.check(os.MkdirAll(filepath.Dir(m.bare), 0o711))
	m.git("init", "--quiet", "--bare", m.bare)
	m.git("init", "--quiet", "--initial-branch=main", m.work)
	return m
}

func (m *mirror) git(args ...string) string {
	m.r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = m.work
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.r.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes a commit of what edit leaves, which git's user has then.
func (m *mirror) commit(edit string) string {
	m.r.t.Helper()
	cmd := exec.Command("sh", "-ec", edit)
	cmd.Dir = m.work
	if out, err := cmd.CombinedOutput(); err != nil {
		m.r.t.Fatalf("%v: %s", err, out)
	}
	m.git("add", "--all")
	m.git("commit", "--quiet", "-m", "change")
	return m.push()
}

func (m *mirror) push() string {
	m.r.t.Helper()
	m.r.check(exec.Command("chown", "-R", "root", m.bare).Run())
	m.git("push", "--quiet", "--force", m.bare, "HEAD:refs/heads/main")
	m.r.check(exec.Command("chown", "-R", "nobody", m.bare).Run())
	return m.git("rev-parse", "HEAD")
}

func (m *mirror) setup(commit, script string) resource.Setup {
	return resource.Setup{
		Revision: commit, Command: sh(script), User: "app", WorkDir: "/var/lib/app/src",
		Checkout: &resource.SetupCheckout{Dir: m.bare, Commit: commit, Path: "/var/lib/app/src", User: "app"},
	}
}

func withUser(r *rig) {
	r.inside("sh", "-c", "echo 'app:x:1234:1234::/var/lib/app:/bin/sh' >>/etc/passwd; mkdir -p /var/lib/app; chown 1234:1234 /var/lib/app")
}

// TestCheckout: the tree of the commit, just as it is; what was the earlier
// commit's is replaced, what is not git's is kept.
func TestCheckout(t *testing.T) {
	r := newRig(t, nil)
	withUser(r)
	m := newMirror(r)
	one := m.commit(`
		mkdir -p src/deep lib; echo one >a; echo same >same; echo gone >src/deep/gone; echo dir >was-dir-x; mkdir was-dir; echo f >was-dir/f
		printf '#!/bin/sh\n' >run; chmod +x run; ln -s ../a src/link; echo x >was-file
		printf 'hidden export-ignore\n$Id$ text eol=crlf\n' >.gitattributes; echo kept >hidden; printf 'caf\351' >"$(printf 'l\351tin')"`)
	r.mustRun(m.setup(one, "mkdir node_modules; echo mine >node_modules/x; echo mine >src/mine; cat a hidden"))
	r.wantInside("one", "cat", "/var/lib/app/src/a")
	r.wantInside("755 app", "stat", "-c", "%a %U", "/var/lib/app/src/run")
	r.wantInside("../a", "readlink", "/var/lib/app/src/src/link")
	r.wantInside("kept", "cat", "/var/lib/app/src/hidden")
	r.wantInside("", "sh", "-c", `find /var/lib/app/src ! -user app`)
	if !strings.Contains(r.log(), "one\n") {
		t.Errorf("the command did not run in the checkout:\n%s", r.log())
	}
	before := r.inside("stat", "-c", "%i", "/var/lib/app/src/same")

	two := m.commit(`echo two >a; rm -r src/deep was-dir was-file src/link; echo file >was-dir; mkdir was-file; echo new >was-file/new; chmod -x run`)
	r.inside("sh", "-c", "cd /var/lib/app/src; echo modified >a; rm run; echo changed >>hidden")
	r.mustRun(m.setup(two, "true"))
	r.wantInside("two", "cat", "/var/lib/app/src/a")
	r.wantInside("644 app", "stat", "-c", "%a %U", "/var/lib/app/src/run")
	r.wantInside("kept", "cat", "/var/lib/app/src/hidden")
	r.wantInside("file", "cat", "/var/lib/app/src/was-dir")
	r.wantInside("new", "cat", "/var/lib/app/src/was-file/new")
	r.wantInside("mine\nmine", "cat", "/var/lib/app/src/node_modules/x", "/var/lib/app/src/src/mine")
	r.wantInside(before, "stat", "-c", "%i", "/var/lib/app/src/same")
	if out, err := r.tryInside("ls", "/var/lib/app/src/src/deep"); err == nil {
		t.Errorf("what the commit does not have is left: %s", out)
	}
	// Of a force-push that took a commit away, only this object is told.
	if run := r.run(m.setup(strings.Repeat("1", 40), "true")); run.Reason != "SetupFailed" || !strings.Contains(run.Message, "commit 1111") {
		t.Errorf("%+v", run)
	}
	r.wantInside("two", "cat", "/var/lib/app/src/a")
}

// TestCheckoutKeepsInside: links that the machine or the commit has put there
// lead nowhere out of the checkout.
func TestCheckoutKeepsInside(t *testing.T) {
	r := newRig(t, nil)
	withUser(r)
	m := newMirror(r)
	one := m.commit("mkdir dir; echo one >dir/file; echo one >file; ln -s / root")
	r.inside("sh", "-c", "mkdir /etc/outside; echo untouched >/etc/outside/file; chmod 777 /etc/outside; chmod 666 /etc/outside/file")
	r.mustRun(m.setup(one, "true"))
	r.inside("sh", "-c", "cd /var/lib/app/src; rm -r dir file; ln -s /etc/outside dir; ln -s /etc/outside/file file")
	two := m.commit("echo two >dir/file; echo two >file")
	r.mustRun(m.setup(two, "true"))
	r.wantInside("untouched", "cat", "/etc/outside/file")
	r.wantInside("two", "cat", "/var/lib/app/src/dir/file")
	// A link in the place of the checkout is what the user may have there; another's is refused.
	r.inside("sh", "-c", "mkdir /var/lib/app/srv; ln -s /etc/outside /srv/app")
	v := m.setup(two, "true")
	v.Revision, v.Checkout.Path, v.WorkDir = "link", "/srv/app", ""
	if run := r.run(v); run.Reason != "SetupFailed" {
		t.Errorf("a checkout through a link: %+v", run)
	}
	r.wantInside("untouched", "cat", "/etc/outside/file")
	v.Revision, v.Checkout.Path = "elsewhere", "/srv/new/app"
	r.mustRun(v)
	r.wantInside("755 app", "stat", "-c", "%a %U", "/srv/new/app")
}

// TestSubmodule is an empty directory, as git leaves it.
func TestSubmodule(t *testing.T) {
	r := newRig(t, nil)
	withUser(r)
	m := newMirror(r)
	m.commit("echo a >a")
	m.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",vendor/lib")
	m.git("commit", "--quiet", "-m", "submodule")
	r.mustRun(m.setup(m.push(), "true"))
	r.wantInside("directory", "stat", "-c", "%F", "/var/lib/app/src/vendor/lib")
}
