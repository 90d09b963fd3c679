package database

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// backedUp waits for the dump of a database for a backup, and puts it where one
// that was put back lies.
func (w *world) backedUp(name string) {
	w.t.Helper()
	w.eventually("database "+name+" is dumped", func() bool {
		p, err := w.driver.Backup(w.t.Context(), name)
		if err != nil {
			w.t.Fatal(err)
		}
		return p.Done
	})
	if err := os.MkdirAll(w.layout.Restored(), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(w.layout.Backup(), name), w.driver.restoredPath(name)); err != nil {
		w.t.Fatal(err)
	}
}

// TestBackup: a database that is made where a backup was put back has what it
// held, all of it its own role's, and nothing of the way there is left.
func TestBackup(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	a.ext = []string{"citext"}
	w.putTenant(a)
	const climbed = "/tmp/tekton-climbed-by-backup"
	mustExec(t, w.login(a), `CREATE EXTENSION hstore; CREATE SCHEMA own; ALTER DEFAULT PRIVILEGES IN SCHEMA own GRANT SELECT ON TABLES TO PUBLIC;
		CREATE FUNCTION own.climb(citext) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
			BEGIN RESET SESSION AUTHORIZATION; COPY (SELECT 1) TO '`+climbed+`'; EXCEPTION WHEN OTHERS THEN NULL; END;
			RETURN current_user NOT IN ('tekton'); END $$;
		CREATE TABLE own.notes (line citext CHECK (own.climb(line)), at int GENERATED ALWAYS AS IDENTITY);
		INSERT INTO own.notes (line) VALUES ('kept'); CREATE TYPE own.mood AS ENUM ('good'); SELECT lo_from_bytea(0, 'large')`)
	if names, err := w.driver.Databases(t.Context()); err != nil || len(names) != 1 || names[0] != a.name {
		t.Fatalf("databases %v %v", names, err)
	}
	w.backedUp(a.name)
	mustExec(t, w.login(a), "INSERT INTO own.notes (line) VALUES ('after the backup')")

	// Another host: nothing is there but the dump.
	w.deleteTenant(a) // what was put back waits for the next one, as long as its database is there
	if exists(w.driver.restoredPath(a.name)) {
		t.Fatal("the dump of a database that was there was left to its next one")
	}
	w.putTenant(a)
	mustExec(t, w.login(a), "CREATE EXTENSION hstore; CREATE SCHEMA own; CREATE TABLE own.notes (line citext); INSERT INTO own.notes VALUES ('kept')")
	w.backedUp(a.name)
	for _, sql := range []string{"DROP DATABASE \"" + a.name + "\" WITH (FORCE)", "DROP ROLE \"" + a.name + "\""} {
		w.psql("postgres", sql)
	}
	items := w.data()
	if len(items) != 2 { // and what deleteTenant has left in the trash
		t.Fatalf("data %+v", items)
	}
	// A daemon that was killed half way has left a role and a database.
	unfinished := cloneName(testInstallation, a.name)
	w.psql("postgres", "CREATE ROLE \""+unfinished+"\"")
	w.psql("postgres", "CREATE DATABASE \""+unfinished+"\" OWNER \""+unfinished+"\"")
	w.restartDaemon()
	w.putTenant(a)
	if got := w.ask(a, "SELECT string_agg(line, ',') FROM own.notes"); got != "kept" {
		t.Errorf("it holds %q", got)
	}
	mustExec(t, w.login(a), "INSERT INTO own.notes (line) VALUES ('and writable'); DROP TABLE own.notes; DROP SCHEMA own CASCADE; DROP EXTENSION hstore")
	if exists(climbed) {
		os.Remove(climbed)
		t.Error("code of a dump ran as superuser")
	}
	if left := w.psql("postgres", "SELECT (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'clone-%') + (SELECT count(*) FROM pg_database WHERE datname LIKE 'clone-%')"); left != "0" {
		t.Errorf("%s roles and databases of the way there are left", left)
	}
	if exists(w.driver.restoredPath(a.name)) {
		t.Error("the dump is left")
	}
	if got := w.observe(resource.KindDatabase); len(got) != 1 {
		t.Errorf("observed %v", got)
	}
	w.noCanary()
}

// TestBackupOfObjectThatGoes: what was put back and never became a database goes
// to the trash with its object, or stays, by its policy.
func TestBackupOfObjectThatGoes(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	for _, policy := range []resource.DeletionPolicy{resource.RetainData, resource.DeleteData} {
		a := newTenant(1, "a")
		a.policy = policy
		w.putTenant(a)
		w.backedUp(a.name)
		w.psql("postgres", "DROP DATABASE \""+a.name+"\" WITH (FORCE)")
		w.deleteTenant(a)
		items := w.data()
		if want := map[resource.DeletionPolicy]State{resource.RetainData: StateRetained, resource.DeleteData: StateTrash}[policy]; len(items) != 1 || items[0].State != want {
			t.Fatalf("%s: data %+v, want it %s", policy, items, want)
		}
		if err := w.driver.DeleteData(t.Context(), items[0].ID); err != nil || len(w.data()) != 0 {
			t.Errorf("%s: deleted: %v, left %+v", policy, err, w.data())
		}
	}
}

// TestBackupOfDatabaseThatGoes: one that is deleted while it is dumped is told apart
// from one that cannot be dumped.
func TestBackupOfDatabaseThatGoes(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	conn := w.login(a)
	mustExec(t, conn, "CREATE TABLE held (i int)")
	mustExec(t, conn, "BEGIN; LOCK TABLE held") // for which the dump waits
	if p, err := w.driver.Backup(t.Context(), a.name); err != nil || p.Done {
		t.Fatalf("%+v %v", p, err)
	}
	w.psql("postgres", "DROP DATABASE \""+a.name+"\" WITH (FORCE)")
	var err error
	w.eventually("the dump ends", func() bool {
		_, err = w.driver.Backup(t.Context(), a.name)
		return err != nil
	})
	if !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestBackupOfOthers: a dump that is not this installation's is nobody's database.
func TestBackupOfOthers(t *testing.T) {
	d := &Driver{opts: Options{Installation: testInstallation, Layout: host.Layout{State: t.TempDir()}}}
	if err := os.MkdirAll(d.restoredPath("web_db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		`{"installation": "` + testInstallation + `", "database": "web_db"}`:  true,
		`{"installation": "ffffffffffff", "database": "web_db"}`:              false,
		`{"installation": "` + testInstallation + `", "database": "another"}`: false,
		`{`: false,
	} {
		if err := os.WriteFile(filepath.Join(d.restoredPath("web_db"), infoFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, waits := d.readRestored("web_db"); waits != want {
			t.Errorf("%s: waits %v", text, waits)
		}
	}
	if _, waits := d.readRestored("../restored/web_db"); waits {
		t.Error("a name leads elsewhere")
	}
}
