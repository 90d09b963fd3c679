package database

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/resource"
)

// revised is a tenant's database as it was set up for a revision.
func (n tenant) revised(w *world, revision string, seeded bool) resource.Resource {
	r := n.resources(w.layout)[1]
	v := r.Value.(resource.Database)
	v.Revision, v.Seeded = revision, seeded
	r.Value = v
	return r
}

func before(n tenant, revision string) resource.Resource {
	return resource.New(n.uid, "", n.name+"@"+revision, resource.Dump{Database: n.name, Revision: revision})
}

// TestHistory: what was done with a database stays known over daemons, objects
// and the trash, and is nothing that its owner could change.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	a.policy = resource.RetainData
	w.putTenant(a)
	plain := w.observe(resource.KindDatabase)[a.resources(w.layout)[1].ID].Value.(resource.Database)
	if plain.OID == 0 || plain.Revision != "" || plain.Seeded {
		t.Errorf("a new database is observed as %+v", plain)
	}
	want := a.revised(w, "c1", true)
	w.must(resource.Put, want)
	mustExec(t, w.login(a), "CREATE TABLE t (x text); INSERT INTO t VALUES ('kept'); COMMENT ON DATABASE "+quoted(a.name)+" IS ''")
	w.must(resource.Put, want)
	w.restartDaemon()
	have := func() resource.Database {
		return w.observe(resource.KindDatabase)[want.ID].Value.(resource.Database)
	}
	if got := have(); !got.Equal(want.Value) || got.OID != plain.OID {
		t.Errorf("observed %+v, want %+v", got, want.Value)
	}
	// Retained, and adopted by one that knows nothing of it.
	w.deleteTenant(a)
	a.uid = "uid-a-again"
	w.putTenant(a)
	if got := have(); got.Revision != "c1" || !got.Seeded {
		t.Errorf("adopted as %+v", got)
	}
	// Into the trash, and back.
	a.policy = resource.DeleteData
	w.deleteTenant(a)
	if err := w.driver.RestoreData(t.Context(), w.data()[0].ID); err != nil {
		t.Fatal(err)
	}
	a.uid = "uid-a-once-more"
	w.putTenant(a)
	if got := have(); got.Revision != "c1" || !got.Seeded || got.OID == plain.OID {
		t.Errorf("restored as %+v", got)
	}
	// Made anew under a role that remembers another one.
	w.psql("postgres", "DROP DATABASE "+quoted(a.name)+" WITH (FORCE)")
	w.must(resource.Put, a.resources(w.layout)[1])
	if got := have(); got.Revision != "" || got.Seeded {
		t.Errorf("made anew as %+v", got)
	}
}

// TestDumpBefore: a database in use is dumped to the trash, once a revision; the
// dump is restorable, shown to no other object, and goes alone.
func TestDumpBefore(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a, b := newTenant(1, "a"), newTenant(2, "b")
	w.putTenant(a)
	w.putTenant(b)
	w.must(resource.Put, a.revised(w, "c1", true))
	conn := w.login(a)
	mustExec(t, conn, "CREATE TABLE t (x text); INSERT INTO t VALUES ('of c1')")
	first := before(a, "c2")
	w.must(resource.Put, first)
	mustExec(t, conn, "UPDATE t SET x = 'broken by c2'") // its sessions go on
	w.must(resource.Put, first, before(a, "c3"))
	w.restartDaemon()
	got := w.observe(resource.KindDump)
	if len(got) != 2 || !got[first.ID].Equal(first) || got[first.ID].Value.(resource.Dump).MadeAt.IsZero() {
		t.Errorf("observed %v", got)
	}
	made := got[first.ID].Value.(resource.Dump).MadeAt
	again := func(after time.Time) (at time.Time) {
		v := first.Value.(resource.Dump)
		v.After = after
		w.must(resource.Put, resource.New(first.Owner, "", first.Name, v))
		return w.observe(resource.KindDump)[first.ID].Value.(resource.Dump).MadeAt
	}
	if at := again(made); !at.Equal(made) {
		t.Error("dumped once more, though nothing was set up since")
	}
	future := made.Add(time.Hour) // as of a clock that was set back
	if at := again(made.Add(1)); !at.After(made) || !again(future).Equal(future) || len(w.observe(resource.KindDump)) != 2 {
		t.Errorf("the dump of %s was not replaced by that of %s", made, at)
	}
	stolen := before(a, "c4")
	stolen.Owner = b.uid
	if err := w.apply(resource.Put, stolen); !errors.Is(err, resource.ErrStale) {
		t.Errorf("somebody else's database was dumped: %v", err)
	}
	if err := w.apply(resource.Put, before(a, "../x")); !isTerminal(err) {
		t.Errorf("a revision that leads elsewhere: %v", err)
	}
	// One that cannot be written says so, and leaves nothing.
	if err := os.Rename(w.driver.trashPath(""), w.driver.trashPath("")+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.driver.trashPath(""), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if w.driver.Observe(t.Context())[resource.KindDump].Err == nil {
		t.Error("a trash that cannot be read has no dumps")
	}
	if err := w.apply(resource.Put, before(a, "c4")); err == nil {
		t.Error("dumped to nowhere")
	}
	if err := errors.Join(os.Remove(w.driver.trashPath("")), os.Rename(w.driver.trashPath("")+".away", w.driver.trashPath(""))); err != nil {
		t.Fatal(err)
	}
	w.must(resource.Delete, got[before(a, "c3").ID])
	items := w.data()
	if len(items) != 1 || items[0].Before != "c2" || !strings.HasSuffix(items[0].ID, ".c2") {
		t.Fatalf("data: %+v", items)
	}
	w.deleteTenant(a)
	if items = w.data(); len(items) != 2 {
		t.Fatalf("data: %+v", items)
	}
	if err := w.driver.RestoreData(t.Context(), items[1].ID); err != nil {
		t.Fatal(err)
	}
	a.uid = "uid-a-again"
	w.putTenant(a)
	if got := w.ask(a, "SELECT x FROM t"); got != "broken by c2" {
		t.Errorf("the dump before c2 that replaced the first holds %q", got)
	}
}

// TestDumpOfLockedDatabase: an application that holds a lock makes the dump before
// a revision fail in time, and another revision ends the one that waits.
func TestDumpOfLockedDatabase(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	conn := w.login(a)
	mustExec(t, conn, "CREATE TABLE t (x text)")
	mustExec(t, conn, "BEGIN; LOCK TABLE t")
	w.driver.opts.LockWait = 300 * time.Millisecond
	err := w.apply(resource.Put, before(a, "c2"))
	wantReason(t, err, "DatabaseLocked")
	if isTerminal(err) || !strings.Contains(err.Error(), "(idle in transaction)") || !strings.Contains(err.Error(), "LOCK TABLE public.t") {
		t.Errorf("told as %v", err)
	}

	w.driver.opts.LockWait = time.Hour
	sessions := func() string {
		return w.psql("postgres", "SELECT coalesce(string_agg(pid::text, ','), '') FROM pg_stat_activity WHERE datname = '"+a.name+"' AND usename = '"+admin+"' AND wait_event_type = 'Lock'")
	}
	begin := func(revision string) (end context.CancelFunc, failed chan error) {
		had := sessions()
		ctx, end := context.WithCancel(t.Context())
		failed = make(chan error, 1)
		go func() {
			failed <- w.driver.Apply(ctx, []resource.Step{{Verb: resource.Put, Resource: before(a, revision)}})[0]
		}()
		w.eventually("the dump before "+revision+" waits, alone", func() bool {
			got := sessions()
			return got != "" && got != had && !strings.Contains(got, ",")
		})
		return end, failed
	}
	_, first := begin("c3")
	end, second := begin("c4")
	if err := <-first; err == nil {
		t.Error("the dump before c3 was made of a locked database")
	}
	end()
	if err := <-second; err == nil {
		t.Error("the dump before c4 was made of a locked database")
	}
	w.eventually("a dump that nobody wants has ended", func() bool { return sessions() == "" })
	mustExec(t, conn, "COMMIT")
	w.must(resource.Put, before(a, "c4"))
	if got := w.observe(resource.KindDump); len(got) != 1 {
		t.Errorf("observed %v", got)
	}
}

// TestDumpOfLockedParts: what pg_dump takes no lock on beforehand, and has no limit
// of its own for, holds a dump up no longer than a table does.
func TestDumpOfLockedParts(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	conn := w.login(a)
	mustExec(t, conn, "CREATE SEQUENCE s; CREATE TABLE t (x text); CREATE VIEW v AS SELECT x FROM t")
	w.driver.opts.LockWait = 300 * time.Millisecond
	for what, statement := range map[string]string{
		"sequence": "ALTER SEQUENCE s RENAME TO s2",
		"view":     "CREATE OR REPLACE VIEW v AS SELECT x FROM t WHERE true",
	} {
		mustExec(t, conn, "BEGIN; "+statement)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := w.driver.Apply(ctx, []resource.Step{{Verb: resource.Put, Resource: before(a, "c2")}})[0]
		cancel()
		if resource.Reason(err, "") != "DatabaseLocked" || !strings.Contains(err.Error(), "(idle in transaction)") {
			t.Errorf("with a locked %s: %v", what, err)
		}
		mustExec(t, conn, "ROLLBACK")
	}
	w.must(resource.Put, before(a, "c2"))
}

func TestDumpsSafely(t *testing.T) {
	for version, want := range map[int]bool{110022: false, 120019: false, 120020: true, 150007: false, 150008: true, 160003: false, 160004: true, 170000: true} {
		if got := dumpsSafely(version); got != want {
			t.Errorf("%d: %v, want %v", version, got, want)
		}
	}
}
