package e2e_test

import (
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source/git/gittest"
)

// application is the example, as files of a repository.
func application(t testing.TB) map[string]string {
	t.Helper()
	const dir = "../../examples/preview-app/app"
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// previewed expects that the page of a host name tells of a commit.
func (k *tekton) previewed(host, commit string) {
	k.t.Helper()
	k.eventually(host+" shows "+commit, func() error {
		code, page, err := k.through(host, "/")
		if err == nil && (code != http.StatusOK || !strings.Contains(page, " at "+commit)) {
			err = fmt.Errorf("it shows %d %s", code, page)
		}
		return err
	})
}

// notes are what the application's API tells, a service that the probe does not ask.
func (k *tekton) notes(host string) (body string) {
	k.t.Helper()
	k.eventually(host+" has notes", func() error {
		code, text, err := k.through(host, "/api/notes")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("notes: %d %s", code, text)
		}
		body = text
		return err
	})
	return body
}

// TestPreview is the life of a preview, from a repository to its URL: created,
// changed by pushes, kept serving over a bad configuration and a setup that
// fails, destroyed without a trace.
func TestPreview(t *testing.T) {
	t.Parallel()
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	files := application(t)
	// Whatever git calls a branch; a shell or systemd would read it otherwise.
	const branch = "feat/it's-$(id)-\"$HOME\"-`id`-%n-ü"
	push := func(files map[string]string) string {
		id := r.Push(files)
		r.Git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/"+branch)
		return id
	}
	first := push(files)
	k := start(t, "git: {user: nobody}", "previews: {domain: preview.test}")
	if out, err := k.run("preview", "create", srv.Address(), branch, "--name", "notes", "--refresh", "5s"); err != nil {
		t.Fatal(out, err)
	}
	const host = "notes.preview.test"
	k.previewed(host, first)
	k.ready("notes")
	machine := k.get("notes").Status.Machine
	if _, page, _ := k.through(host, "/"); !strings.Contains(html.UnescapeString(page), "<p>"+branch+" at ") {
		t.Errorf("the service sees another branch than %s:\n%s", branch, page)
	}
	if got := k.must("exec", "notes", "--", "sh", "-c", `. /etc/preview.env; printf %s "$PREVIEW_BRANCH"`); got != branch {
		t.Errorf("a shell reads the branch %s", got)
	}
	if got := k.notes(host); got != "[]" {
		t.Errorf("the first notes are %s", got)
	}
	if code, body, err := request(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/notes", k.httpPort()), host, "kept"); err != nil || code != http.StatusOK {
		t.Fatalf("add a note: %d %s %v", code, body, err)
	}

	// Code and a migration only: the machine and its data stay.
	second := push(map[string]string{"migrations/002_more.sql": "ALTER TABLE note ADD COLUMN more text;\n", "web.py": files["web.py"] + "# changed\n"})
	k.previewed(host, second)
	k.ready("notes")
	if got := k.get("notes").Status.Machine; got != machine {
		t.Errorf("the machine is %s, was %s", got, machine)
	}
	if got := k.notes(host); got != `["kept"]` {
		t.Errorf("after an update the notes are %s", got)
	}

	// What cannot be served is told, with its place, and the last good one serves.
	bad := push(map[string]string{"preview.yaml": files["preview.yaml"] + "image: x\n"})
	k.condition("notes", v1alpha1.ConditionConfigured, "ConfigInvalid")
	if c := fmt.Sprint(k.get("notes").Status.Conditions); !strings.Contains(c, "preview.yaml:16:1: image: unknown field") || !strings.Contains(c, bad[:12]) {
		t.Errorf("conditions %s", c)
	}
	k.previewed(host, second)
	push(map[string]string{"preview.yaml": files["preview.yaml"], "migrations/003_bad.sql": "ALTER TABLE nothing;\n"})
	k.condition("notes", v1alpha1.ConditionSetUp, "SetupFailed")
	k.previewed(host, second)

	// A commit to stay at is a rollback; without it the branch is followed again.
	k.must("preview", "rollback", "notes", first, "--wait")
	k.previewed(host, first)
	mended := push(map[string]string{"migrations/003_bad.sql": ""})
	k.must("preview", "update", "notes")
	k.previewed(host, mended)
	k.ready("notes")
	if out := k.must("preview", "list"); !strings.Contains(out, "feat/it's") || !strings.Contains(out, mended[:12]) || !strings.Contains(out, host) {
		t.Errorf("list says\n%s", out)
	}
	if got := k.notes(host); got != `["kept"]` {
		t.Errorf("in the end the notes are %s", got)
	}
	k.must("preview", "destroy", "notes")
	k.gone("notes")
	k.eventually("nothing is left", k.nothingLeft)
}
