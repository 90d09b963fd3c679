package database

import (
	"strings"
	"testing"

	"tekton.host/pkg/resource"
)

// TestIsolation plays a tenant that tries everything with its own login.
func TestIsolation(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a, b := newTenant(1, "a"), newTenant(2, "b")
	w.putTenant(a)
	w.putTenant(b)
	w.refilled()

	ctx := t.Context()
	refusedLogins := []struct {
		reason                   string
		as                       tenant
		role, password, database string
	}{
		{"another's database", a, a.name, a.password(), b.name},
		{"another's role, with its password, from the wrong address", a, b.name, b.password(), b.name},
		{"the maintenance database", a, a.name, a.password(), "postgres"},
		{"the template", a, a.name, a.password(), "template1"},
		{"the superuser", a, admin, "", "postgres"},
		{"a wrong password", a, a.name, "wrong", a.name},
	}
	for _, c := range refusedLogins {
		if conn, err := connect(ctx, c.as.addr, c.role, c.password, c.database); err == nil {
			conn.Close(ctx)
			t.Errorf("%s: let in", c.reason)
		}
	}

	conn := w.login(a)
	mustExec(t, conn, "CREATE TABLE t (x text); CREATE SCHEMA s; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	refused := map[string]string{
		"run a program":            "COPY t FROM PROGRAM 'id'",
		"read a file of the host":  "SELECT pg_read_file('/etc/passwd')",
		"copy a file of the host":  "COPY t FROM '/etc/passwd'",
		"write a file of the host": "COPY t TO '/tmp/x'",
		"list a directory":         "SELECT pg_ls_dir('.')",
		"import a file":            "SELECT lo_import('/etc/passwd')",
		"read the verifiers":       "SELECT rolpassword FROM pg_authid",
		"make a role":              "CREATE ROLE x",
		"make a database":          "CREATE DATABASE x",
		"rename its database":      "ALTER DATABASE " + quoted(a.name) + " RENAME TO x",
		"give its database away":   "ALTER DATABASE " + quoted(a.name) + " OWNER TO " + quoted(b.name),
		"change its mark":          "COMMENT ON ROLE " + quoted(a.name) + " IS 'tekton/x/y'",
		"lift its limit":           "ALTER ROLE " + quoted(a.name) + " CONNECTION LIMIT 1000",
		"change another's comment": "COMMENT ON DATABASE " + quoted(b.name) + " IS ''",
		"become another":           "SET ROLE " + quoted(b.name),
		"become the superuser":     "SET SESSION AUTHORIZATION " + admin,
		"change the server":        "ALTER SYSTEM SET log_statement = 'all'",
		"end another's session":    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + admin + "'",
		"an untrusted language":    "CREATE FUNCTION g() RETURNS int LANGUAGE c AS 'x'",
		"an untrusted extension":   "CREATE EXTENSION dblink",
	}
	for reason, sql := range refused {
		if _, err := conn.Exec(ctx, sql); err == nil && !strings.Contains(sql, "pg_terminate_backend") {
			t.Errorf("%s: %s was allowed", reason, sql)
		}
	}
	var queries string
	if err := conn.QueryRow(ctx, "SELECT coalesce(string_agg(query, ';'), '') FROM pg_stat_activity WHERE usename <> current_user").Scan(&queries); err != nil {
		t.Fatal(err)
	}
	if strings.Trim(strings.ReplaceAll(queries, "<insufficient privilege>", ""), "; ") != "" {
		t.Errorf("a tenant sees the statements of others: %s", queries)
	}
	w.forgery(a)
}

// forgery lets the owner scribble on its database, which must be put right and
// must not keep the database from being deleted.
func (w *world) forgery(a tenant) {
	t := w.t
	conn := w.login(a)
	want := a.resources(w.layout)[1]
	for _, scribble := range []string{"''", "'tekton/" + testInstallation + "/uid-b {}'", "'tekton/" + testInstallation + "/retained {}'"} {
		mustExec(t, conn, "COMMENT ON DATABASE "+quoted(a.name)+" IS "+scribble+"; GRANT CONNECT ON DATABASE "+quoted(a.name)+" TO PUBLIC")
		got, there := w.observe(resource.KindDatabase)[want.ID]
		if !there || got.Owner != a.uid || got.Equal(want) {
			t.Errorf("comment %s: observed %v, want one of %s that differs", scribble, got, a.uid)
		}
		w.must(resource.Put, want)
		if got := w.observe(resource.KindDatabase)[want.ID]; !got.Equal(want) {
			t.Errorf("comment %s: not put right: %v", scribble, got)
		}
	}
	// What the owner sets for its database does not reach our own sessions.
	mustExec(t, conn, "CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'trap'; END $$; ALTER DATABASE "+quoted(a.name)+" SET search_path = public; ALTER DATABASE "+quoted(a.name)+" SET default_transaction_read_only = on")
	a.ext = []string{"citext"}
	w.must(resource.Put, a.resources(w.layout)[1])
	mustExec(t, conn, "COMMENT ON DATABASE "+quoted(a.name)+" IS ''")
	// Nor does it hide its database, or keep it from being dropped.
	mustExec(t, conn, "ALTER DATABASE "+quoted(a.name)+" IS_TEMPLATE true")
	if got, there := w.observe(resource.KindDatabase)[want.ID]; !there || got.Equal(want) {
		t.Errorf("a template: observed %v, want one that differs", got)
	}
	w.deleteTenant(a)
	if got := w.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = '"+a.name+"'"); got != "0" {
		t.Error("a database whose comment its owner emptied survived its deletion")
	}
}

func TestDeletedAccessEndsConnections(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	conn := w.login(a)
	access := a.resources(w.layout)[2]
	w.must(resource.Delete, access)
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a connection outlived its access")
	}
	if conn, err := connect(t.Context(), a.addr, a.name, a.password(), a.name); err == nil {
		conn.Close(t.Context())
		t.Error("a deleted access still lets in")
	}
	w.must(resource.Put, access)
	w.login(a)
}

func TestAccessBatch(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	var steps []resource.Step
	for i, object := range []string{"a", "b", "bad"} {
		r := newTenant(1+i%2, object).resources(w.layout)[2]
		if object == "bad" {
			r.Name = "other"
		}
		steps = append(steps, resource.Step{Verb: resource.Put, Resource: r})
	}
	errs := w.driver.Apply(t.Context(), steps)
	if errs[0] != nil || errs[1] != nil || !isTerminal(errs[2]) {
		t.Errorf("errors = %v, want nil, nil and a terminal one", errs)
	}
	if got := w.observe(resource.KindAccess); len(got) != 2 {
		t.Errorf("observed %v, want two accesses", got)
	}
	if rules := w.psql("postgres", "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NULL"); rules != "3" {
		t.Errorf("PostgreSQL reads %s valid rules, want 3", rules)
	}
}
