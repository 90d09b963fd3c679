package database

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"tekton.host/pkg/resource"
)

// template makes a database of an operator's, with something of each sort that
// has an owner: one part is a superuser's, one that of a role.
func (w *world) template() {
	w.t.Helper()
	w.psql("postgres", "CREATE ROLE maker; CREATE ROLE reader")
	w.psql("postgres", "CREATE DATABASE golden OWNER maker")
	w.psql("golden", `
		CREATE EXTENSION citext; CREATE EXTENSION dblink;
		CREATE TABLE public.supers (id serial PRIMARY KEY, ident int GENERATED ALWAYS AS IDENTITY, line citext);
		INSERT INTO supers (line) VALUES ('from the template');
		CREATE FUNCTION who() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';
		CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
		CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
		SELECT lo_create(4242);
		SET ROLE maker;
		CREATE SCHEMA "it's";
		CREATE TABLE "it's".parts (at date, n int) PARTITION BY RANGE (at);
		CREATE TABLE "it's"."part 1" PARTITION OF "it's".parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
		CREATE TYPE "it's".mood AS ENUM ('good'); CREATE TYPE "it's".pair AS (a int, b int); CREATE DOMAIN "it's".small AS int CHECK (VALUE < 9);
		CREATE TYPE "it's".span AS RANGE (SUBTYPE = int);
		CREATE VIEW "it's".seen AS SELECT 1 AS one; CREATE MATERIALIZED VIEW "it's".kept AS SELECT 1 AS one; CREATE SEQUENCE "it's".free;
		CREATE COLLATION "it's".c FROM "C"; CREATE STATISTICS "it's".st (ndistinct) ON at, n FROM "it's".parts;
		CREATE TEXT SEARCH CONFIGURATION "it's".words (COPY = pg_catalog.simple); CREATE TEXT SEARCH DICTIONARY "it's".dict (TEMPLATE = pg_catalog.simple);
		CREATE FUNCTION "it's".plus(int, int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $2';
		CREATE OPERATOR "it's".=+= (FUNCTION = "it's".plus, LEFTARG = int, RIGHTARG = int);
		GRANT USAGE ON SCHEMA "it's" TO reader`)
	w.psql("postgres", "ALTER DATABASE golden IS_TEMPLATE true")
}

// copied is a tenant whose database is made of a template.
func (w *world) copied(n tenant, template string) resource.Resource {
	w.t.Helper()
	w.storePassword(n)
	rs := n.resources(w.layout)
	v := rs[1].Value.(resource.Database)
	v.Template = template
	rs[1].Value = v
	w.must(resource.Put, rs[0], rs[2])
	return rs[1]
}

// owners tells whose the things of a database are, but those of extensions.
func (w *world) owners(database string) string {
	return w.psql(database, `SELECT string_agg(DISTINCT pg_get_userbyid(owner), ',') FROM (
		SELECT relowner AS owner, oid FROM pg_class WHERE relkind <> 't' UNION ALL SELECT proowner, oid FROM pg_proc UNION ALL SELECT nspowner, oid FROM pg_namespace
		UNION ALL SELECT typowner, oid FROM pg_type WHERE typtype <> 'm' AND typelem = 0 UNION ALL SELECT collowner, oid FROM pg_collation
		UNION ALL SELECT oprowner, oid FROM pg_operator UNION ALL SELECT stxowner, oid FROM pg_statistic_ext UNION ALL SELECT lomowner, 16384 FROM pg_largeobject_metadata
		UNION ALL SELECT dictowner, oid FROM pg_ts_dict UNION ALL SELECT cfgowner, oid FROM pg_ts_config) x
		WHERE oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = x.oid AND d.deptype IN ('e', 'i'))`)
}

// TestTemplate: a copy is wholly its role's, and nothing of the template changes.
func TestTemplate(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	w.template()
	before := w.owners("golden") + w.psql("postgres", "SELECT datistemplate, datallowconn, datacl, pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'golden'")
	a := newTenant(1, "a")
	want := w.copied(a, "golden")
	w.must(resource.Put, want)
	if got := w.owners(a.name); got != a.name {
		t.Errorf("in the copy things are owned by %s", got)
	}
	if got := w.ask(a, "SELECT line FROM supers WHERE who() = current_user"); got != "from the template" {
		t.Errorf("the copy says %q", got)
	}
	mustExec(t, w.login(a), `INSERT INTO supers (line) VALUES ('more'); DROP SCHEMA "it's" CASCADE; CREATE OR REPLACE FUNCTION who() RETURNS name LANGUAGE sql AS 'SELECT NULL::name';
		ALTER TABLE supers ADD COLUMN x int; SELECT lo_unlink(4242); CREATE TABLE own ()`)
	w.must(resource.Put, want)
	if got := w.psql(a.name, "SELECT count(*) FROM supers"); got != "2" {
		t.Errorf("another put changed the data: %s lines", got)
	}
	if after := w.owners("golden") + w.psql("postgres", "SELECT datistemplate, datallowconn, datacl, pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'golden'"); after != before {
		t.Errorf("the template was\n%s\nis\n%s", before, after)
	}
	if got, want := w.observe(resource.KindDatabase)[want.ID], want; !got.Equal(want) {
		t.Errorf("observed %+v, want %+v", got, want)
	}
	w.deleteTenant(a)
	// No object needs PostgreSQL any more: the template stays in it.
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	w.putCluster()
	b := newTenant(2, "b")
	w.must(resource.Put, w.copied(b, "golden"))
	if got := w.ask(b, "SELECT string_agg(line, ',') FROM supers"); got != "from the template" {
		t.Errorf("after a rest the copy says %q", got)
	}
}

// TestTemplateRefused: what is no template of the operator's is copied to nobody,
// and says why; it is tried again.
func TestTemplateRefused(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	w.template()
	b := newTenant(2, "b")
	w.putTenant(b)
	mustExec(t, w.login(b), "ALTER DATABASE "+quoted(b.name)+" IS_TEMPLATE true")
	w.psql("postgres", "CREATE DATABASE plain")
	a := newTenant(1, "a")
	for template, want := range map[string]struct{ reason, message string }{
		"nothing": {"TemplateMissing", "has no database nothing"},
		"plain":   {"TemplateNotAllowed", `ALTER DATABASE "plain" IS_TEMPLATE true`},
		b.name:    {"TemplateNotAllowed", "belongs to an object"},
	} {
		err := w.apply(resource.Put, w.copied(a, template))
		wantReason(t, err, want.reason)
		if err == nil || isTerminal(err) || !strings.Contains(err.Error(), want.message) {
			t.Errorf("%s: %v", template, err)
		}
	}
	// Somebody is connected.
	conn, err := pgx.ConnectConfig(t.Context(), w.superuser("golden"))
	if err != nil {
		t.Fatal(err)
	}
	golden := w.copied(a, "golden")
	wantReason(t, w.apply(resource.Put, golden), "TemplateBusy")
	conn.Close(t.Context())
	w.eventually("the end of the session", func() bool {
		return w.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'golden'") == "0"
	})
	// What would run with the server's rights.
	w.psql("golden", "CREATE FUNCTION trap() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER trap ON ddl_command_end EXECUTE FUNCTION trap();"+
		"CREATE FUNCTION yes(text) RETURNS inet LANGUAGE sql AS 'SELECT NULL::inet'; CREATE CAST (text AS inet) WITH FUNCTION yes AS IMPLICIT")
	err = w.apply(resource.Put, golden)
	wantReason(t, err, "TemplateNotAllowed")
	if err == nil || !strings.Contains(err.Error(), "event trigger trap") || !strings.Contains(err.Error(), "cast from text to inet") {
		t.Error(err)
	}
	if got := w.unfinished(); got != "" {
		t.Errorf("left behind: %s", got)
	}
	w.psql("golden", "DROP EVENT TRIGGER trap; DROP CAST (text AS inet)")
	w.must(resource.Put, golden)
	w.login(a)
}

func (w *world) superuser(database string) *pgx.ConnConfig {
	c, err := connConfig(w.driver.socketDir(), 5432, database)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.ConnConfig
}

// unfinished lists the copies that are no database's yet.
func (w *world) unfinished() string {
	return w.psql("postgres", "SELECT string_agg(datname, ',') FROM pg_database WHERE datname LIKE 'clone-%'")
}

// TestHalfCopy: what a crash has left at any point is never taken for the
// database, and goes with the next try, or with the role.
func TestHalfCopy(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	w.template()
	a := newTenant(1, "a")
	want := w.copied(a, "golden")
	v := want.Value.(resource.Database)
	half := cloneName(testInstallation, a.name)
	crash := func() {
		t.Helper()
		// Copied, and some of it the role's.
		if err := w.driver.copyTemplate(t.Context(), half, v); err != nil {
			t.Fatal(err)
		}
		w.psql(half, fmt.Sprintf("DELETE FROM supers; ALTER TABLE supers OWNER TO %s", quoted(a.name)))
		w.restartDaemon()
		if got := w.observe(resource.KindDatabase); len(got) != 0 {
			t.Fatalf("half a copy is observed as %v", got)
		}
	}
	crash()
	w.must(resource.Put, want)
	if got := w.ask(a, "SELECT line FROM supers"); got != "from the template" || w.unfinished() != "" {
		t.Errorf("after a crash the copy says %q; left: %s", got, w.unfinished())
	}
	w.deleteTenant(a)
	w.must(resource.Put, a.resources(w.layout)[0])
	crash()
	w.must(resource.Delete, a.resources(w.layout)[0])
	if got := w.unfinished(); got != "" {
		t.Errorf("left when its role has gone: %s", got)
	}

	// A step that is cut short.
	w.must(resource.Put, a.resources(w.layout)[0])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.driver.Apply(ctx, []resource.Step{{Verb: resource.Put, Resource: want}})[0]; err == nil {
		t.Error("a step that was cut short succeeded")
	}
	w.must(resource.Put, want)
}
