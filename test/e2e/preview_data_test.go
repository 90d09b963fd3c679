package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source/git/gittest"
	"tekton.host/pkg/supervise/supervisetest"
)

// psql asks the managed PostgreSQL as its operator does.
func (k *tekton) psql(database, sql string) string {
	k.t.Helper()
	out, err := exec.Command("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", k.path("run", "postgres"), "-U", "tekton", "-d", database, "-c", sql).CombinedOutput()
	if err != nil {
		k.t.Fatalf("%s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

// noted waits until the application tells exactly these notes.
func (k *tekton) noted(host, want string) {
	k.t.Helper()
	k.eventually("the notes are "+want, func() error {
		if got := k.notes(host); got != want {
			return fmt.Errorf("they are %s", got)
		}
		return nil
	})
}

// TestPreviewData: a database that begins as a copy of a template, is seeded once
// and dumped before each changed commit; that outlives a commit without it, and
// comes back from a dump.
func TestPreviewData(t *testing.T) {
	t.Parallel()
	supervisetest.Root(t, "psql")
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	files := application(t)
	config := strings.Replace(files["preview.yaml"], "database: {env: DATABASE_URL}", "database: {seed: {command: [python3, seed.py]}}", 1)
	files["preview.yaml"] = config
	files["seed.py"] = "from database import sql\nsql(\"INSERT INTO note (text) VALUES ('seeded');\")\nprint('sown')\n"
	push := func(files map[string]string) string {
		id := r.Push(files)
		r.Git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/main")
		return id
	}
	first := push(files)
	k := start(t, "git: {user: nobody}", "previews: {domain: preview.test}")
	spec := fmt.Sprintf("apiVersion: tekton.host/v1alpha1\nkind: Preview\nmetadata: {name: notes}\nspec:\n  repository: {url: %q}\n  branch: main\n  refresh: 5s\n  database: {template: golden}\n", srv.Address())
	k.write("notes.yaml", spec)
	const host = "notes.preview.test"

	// The template comes later; what is in it is a superuser's.
	missing := k.condition("notes", v1alpha1.ConditionDatabaseReady, "TemplateMissing")
	if !strings.Contains(missing.Message, `ALTER DATABASE "golden" IS_TEMPLATE true`) {
		t.Errorf("it says %s", missing.Message)
	}
	k.psql("postgres", "CREATE DATABASE golden")
	k.psql("golden", files["migrations/001_notes.sql"]+"INSERT INTO note (text) VALUES ('copied'); CREATE TABLE migration (name text PRIMARY KEY); INSERT INTO migration VALUES ('001_notes.sql')")
	k.psql("postgres", "ALTER DATABASE golden IS_TEMPLATE true ALLOW_CONNECTIONS false")
	k.previewed(host, first)
	k.noted(host, `["copied", "seeded"]`)

	second := push(map[string]string{"migrations/002_loud.sql": "UPDATE note SET text = text || '!';\n"})
	k.previewed(host, second)
	k.noted(host, `["copied!", "seeded!"]`)
	list := strings.Fields(k.must("data", "list", "-o", "name"))
	var dumps []string
	for _, id := range list {
		if strings.HasSuffix(id, "."+second) {
			dumps = append(dumps, id)
		}
	}
	if len(dumps) != 1 || strings.Contains(strings.Join(list, "\n"), first) {
		t.Fatalf("data: %s; want one dump before %s", list, second)
	}

	// A commit that asks for none, and the next that does again; the daemon dies between.
	third := push(map[string]string{"preview.yaml": "services: [{name: web, command: [python3, web.py]}]\nroutes: [{port: 3000}]\n"})
	k.previewed(host, third)
	unused := k.condition("notes", v1alpha1.ConditionDatabaseReady, "Unused")
	if out := k.must("describe", "preview/notes"); !strings.Contains(out, unused.Message) {
		t.Errorf("describe says nothing of %q:\n%s", unused.Message, out)
	}
	k.signal(syscall.SIGKILL)
	k.awaitEnd()
	k.up()
	fourth := push(map[string]string{"preview.yaml": config})
	k.previewed(host, fourth)
	k.noted(host, `["copied!", "seeded!"]`)

	// Back to what was before the second commit: set up again, and not seeded again.
	k.must("preview", "destroy", "notes")
	k.gone("notes")
	k.must("data", "restore", dumps[0])
	k.write("notes.yaml", spec)
	k.previewed(host, fourth)
	k.noted(host, `["copied!", "seeded!"]`)
	k.psql("postgres", "ALTER DATABASE golden IS_TEMPLATE false")
	k.psql("postgres", "DROP DATABASE golden")
	k.must("preview", "destroy", "notes")
	k.gone("notes")
	k.eventually("nothing is left", k.nothingLeft)
	if left, err := filepath.Glob(k.state("services", "postgres", "data")); err != nil || len(left) > 0 {
		t.Errorf("left: %s %v", left, err)
	}
}
