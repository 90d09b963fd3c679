package database

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

func (w *world) data() []Item {
	w.t.Helper()
	items, err := w.driver.ListData(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return items
}

func (w *world) ask(n tenant, sql string) string {
	w.t.Helper()
	var answer string
	if err := w.login(n).QueryRow(w.t.Context(), sql).Scan(&answer); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func TestTrash(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	a.ext = []string{"citext"}
	w.putTenant(a)
	// What a tenant's dump may hold: an extension with a comment, and code that wants to be more than it is when it is restored.
	mustExec(t, w.login(a), `CREATE EXTENSION hstore; CREATE SCHEMA own;
		CREATE FUNCTION own.climb(citext) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
			BEGIN RESET SESSION AUTHORIZATION; COPY (SELECT 1) TO '/tmp/tekton-climbed'; EXCEPTION WHEN OTHERS THEN NULL; END;
			RETURN current_user NOT IN ('tekton'); END $$;
		CREATE TABLE own.notes (line citext CHECK (own.climb(line)), at int GENERATED ALWAYS AS IDENTITY);
		INSERT INTO own.notes (line) VALUES ('kept')`)
	w.deleteTenant(a)
	items := w.data()
	if len(items) != 1 || items[0].State != StateTrash || items[0].Database != a.name || items[0].Size == 0 || items[0].Label == "" {
		t.Fatalf("data = %+v, want one dump of %s", items, a.name)
	}
	id := items[0].ID
	dump := filepath.Join(w.driver.trashPath(strings.TrimPrefix(id, trashPrefix)), dumpFile)
	st, err := os.Stat(dump)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("dump: %v, mode %v, want 0600", err, st.Mode())
	}
	list, err := host.Run(t.Context(), host.Command{Argv: []string{filepath.Join(w.driver.binDirs()[0], "pg_restore"), "--list", dump}})
	if err != nil || !strings.Contains(string(list), "TABLE DATA own notes") {
		t.Errorf("pg_restore cannot read the dump: %v\n%s", err, list)
	}

	// Into nothing: a retained database, which the object adopts when it comes back.
	if err := w.driver.RestoreData(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := w.observe(resource.KindDatabase); len(got) != 0 {
		t.Errorf("observed %v, want nothing: nobody owns it yet", got)
	}
	a.uid = "uid-a-again"
	w.putTenant(a)
	if got := w.ask(a, "SELECT line FROM own.notes"); got != "kept" {
		t.Errorf("restored %q", got)
	}
	mustExec(t, w.login(a), "INSERT INTO own.notes (line) VALUES ('and writable'); DROP TABLE own.notes; DROP SCHEMA own CASCADE; CREATE TABLE t (x int)")
	if err := w.driver.RestoreData(t.Context(), id); err == nil {
		t.Error("restored over data that is there")
	}
	// Into the empty database of a live object.
	mustExec(t, w.login(a), "DROP TABLE t")
	if err := w.driver.RestoreData(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := w.ask(a, "SELECT line FROM own.notes"); got != "kept" {
		t.Errorf("restored %q", got)
	}
	if exists("/tmp/tekton-climbed") {
		os.Remove("/tmp/tekton-climbed")
		t.Error("code of a dump ran as superuser")
	}
	if !w.driver.filesRight() || strings.Contains(w.psql("postgres", "SELECT string_agg(type, ',') FROM pg_hba_file_rules WHERE '"+a.name+"' = any(user_name)"), "local") {
		t.Error("the way of a restore is still open")
	}

	if err := w.driver.PurgeTrash(time.Now().Add(-time.Hour)); err != nil || len(w.data()) != 1 {
		t.Errorf("a fresh dump was purged (%v)", err)
	}
	if err := w.driver.PurgeTrash(time.Now().Add(time.Hour)); err != nil || len(w.data()) != 0 {
		t.Errorf("an old dump was not purged (%v)", err)
	}
	w.noCanary()
}

func TestRetain(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	a.policy = resource.RetainData
	w.putTenant(a)
	conn := w.login(a)
	mustExec(t, conn, "CREATE TABLE t (x text); INSERT INTO t VALUES ('kept')")
	w.deleteTenant(a)
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a session outlived its object")
	}
	if got := w.psql("postgres", "SELECT rolcanlogin::text || coalesce(rolpassword, '') FROM pg_authid WHERE rolname = '"+a.name+"'"); got != "false" {
		t.Errorf("the role of retained data can log in or has a password: %s", got)
	}
	items := w.data()
	if len(items) != 1 || items[0].State != StateRetained {
		t.Fatalf("data = %+v, want one retained database", items)
	}
	for _, kind := range []resource.Kind{resource.KindRole, resource.KindDatabase, resource.KindAccess} {
		if got := w.observe(kind); len(got) != 0 {
			t.Errorf("%s: observed %v, want nothing that somebody could delete", kind, got)
		}
	}

	// The cluster goes and comes back with it.
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	if got := w.observe(resource.KindCluster); len(got) != 0 {
		t.Errorf("observed %v, want no cluster", got)
	}
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	w.putCluster()

	a.uid = "uid-a-again"
	w.putTenant(a)
	if got := w.ask(a, "SELECT x FROM t"); got != "kept" {
		t.Errorf("adopted %q", got)
	}
	if got := w.observe(resource.KindDatabase)[a.resources(w.layout)[1].ID]; !got.Equal(a.resources(w.layout)[1]) {
		t.Errorf("observed %v after the adoption", got)
	}
	w.deleteTenant(a)
	if err := w.driver.DeleteData(t.Context(), retainedPrefix+a.name); err != nil {
		t.Fatal(err)
	}
	if len(w.data()) != 0 || w.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = '"+a.name+"'") != "0" {
		t.Error("deleted data is still there")
	}
}

// TestAtRest restores and deletes while no object needs PostgreSQL.
func TestAtRest(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	kept, gone := newTenant(1, "kept"), newTenant(2, "gone")
	kept.policy = resource.RetainData
	for _, n := range []tenant{kept, gone} {
		w.putTenant(n)
		mustExec(t, w.login(n), "CREATE TABLE t (x text); INSERT INTO t VALUES ('"+n.name+"')")
		w.deleteTenant(n)
	}
	rests := func() {
		t.Helper()
		if st, _, err := w.driver.running(); err != nil || st.Running || w.driver.clusterExists() || exists(w.driver.socketDir()) {
			t.Errorf("PostgreSQL is not at rest: %+v %v", st, err)
		}
	}
	states := func(want ...State) []Item {
		t.Helper()
		items := w.data()
		var got []State
		for _, i := range items {
			got = append(got, i.State)
			if i.Size == 0 || i.Label == "" {
				t.Errorf("%+v has no size or label", i)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("data %+v, want %v", items, want)
		}
		return items
	}
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	rests()
	dump := states(StateRetained, StateTrash)[1].ID
	for range 2 { // the second time there is no data directory any more
		if err := w.driver.RestoreData(t.Context(), dump); err != nil {
			t.Fatal(err)
		}
		rests()
		if err := w.driver.RestoreData(t.Context(), dump); err == nil || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("restored over retained data: %v", err)
		}
		rests()
		for _, item := range w.data() {
			if item.State != StateRetained {
				continue
			}
			if err := w.driver.DeleteData(t.Context(), item.ID); err != nil {
				t.Fatal(err)
			}
			rests()
		}
		states(StateTrash)
		if exists(w.driver.dir) {
			t.Errorf("%s is there with nothing in it", w.driver.dir)
		}
	}
	if err := w.driver.RestoreData(t.Context(), dump); err != nil {
		t.Fatal(err)
	}
	w.putCluster()
	gone.uid = "uid-gone-again"
	w.putTenant(gone)
	if got := w.ask(gone, "SELECT x FROM t"); got != gone.name {
		t.Errorf("adopted %q", got)
	}
	// Whom a daemon that died had woken is ended as what nobody wants.
	w.deleteTenant(gone)
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	if err := w.driver.startOffline(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.restartDaemon()
	woken := w.observe(resource.KindCluster)
	if len(woken) != 1 {
		t.Fatalf("observed %v, want the one that was woken", woken)
	}
	for _, r := range woken {
		w.must(resource.Delete, r)
	}
	rests()
}

func TestDataRefusals(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	for _, id := range []string{"", "x", "retained/nosuch", "retained/postgres", "retained/" + a.name, "trash/nosuch", "trash/../../etc", "trash/.."} {
		if err := w.driver.DeleteData(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete %q: %v, want ErrNotFound", id, err)
		}
		if err := w.driver.RestoreData(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("restore %q: %v, want ErrNotFound", id, err)
		}
	}
	w.login(a)
}

func TestTakeOver(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	thief := a
	thief.uid = "uid-other"
	for i, r := range thief.resources(w.layout)[:2] {
		blind := resource.Step{Verb: resource.Put, Resource: r}
		if err := w.driver.Apply(t.Context(), []resource.Step{blind})[0]; err == nil {
			t.Errorf("step %d: took over what the plan did not see", i)
		}
		if err := w.driver.Apply(t.Context(), []resource.Step{{Verb: resource.Delete, Resource: r}})[0]; !errors.Is(err, resource.ErrStale) {
			t.Errorf("step %d: delete with another owner: %v, want ErrStale", i, err)
		}
	}
	w.putTenant(thief) // and knowingly
	for _, r := range thief.resources(w.layout)[:2] {
		if got := w.observe(r.Kind)[r.ID]; !got.Equal(r) {
			t.Errorf("observed %v, want %v", got, r)
		}
	}
	w.login(thief)
}

// TestDumpOutlivesItsStep: a step that runs out of time leaves the dump running, and a later one joins it.
func TestDumpOutlivesItsStep(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	runs := 0
	job := func(context.Context) error { runs++; <-release; return nil }
	first := w.driver.joinDump("a.1", "a.1", job)
	if again := w.driver.joinDump("a.1", "a.1", job); again != first {
		t.Error("a second dump of the same database was begun")
	}
	close(release)
	<-first.done
	if runs != 1 {
		t.Errorf("%d runs, want 1", runs)
	}

	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	ctx, cancel := context.WithCancel(t.Context())
	step := resource.Step{Verb: resource.Delete, Resource: a.resources(w.layout)[1]}
	c, err := readCatalog(ctx, w.pool(), a.name)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := w.driver.dump(ctx, trashEntry(c.databases[a.name]), resource.Dump{}, c.databases[a.name], c.roles[a.name]); err != nil {
		if _, ok := errors.AsType[*resource.WaitingError](err); !ok {
			t.Errorf("%v is not waiting", err)
		}
	}
	w.must(resource.Delete, step.Resource)
	if len(w.data()) != 1 {
		t.Errorf("data = %v, want one dump", w.data())
	}
}

func TestPostgresMissing(t *testing.T) {
	w := newWorld(t)
	broken := []struct {
		change   func(*Options)
		reason   string
		terminal bool // nothing on the host can cure it
	}{
		{func(o *Options) { o.User = "no-such-user" }, "PostgresUser", false},
		{func(o *Options) { o.User = "root" }, "PostgresUser", true},
		{func(o *Options) { o.BinDir = "/nonexistent" }, "PostgresMissing", false},
	}
	for _, c := range broken {
		o := w.driver.opts
		c.change(&o)
		d, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		s := resource.Step{Verb: resource.Put, Resource: resource.New(resource.HostOwner, "", serviceName, cluster)}
		err = d.Apply(t.Context(), []resource.Step{s})[0]
		wantReason(t, err, c.reason)
		if isTerminal(err) != c.terminal {
			t.Errorf("terminal is not %v: %v", c.terminal, err)
		}
	}
	if err := os.MkdirAll(w.driver.dataDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.driver.dataDir(), "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.apply(resource.Put, resource.New(resource.HostOwner, "", serviceName, cluster))
	wantReason(t, err, "PostgresVersion")
	if isTerminal(err) {
		t.Errorf("nobody would see that it was installed: %v", err)
	}
	o := w.driver.opts
	o.Layout.Run = "/" + strings.Repeat("x", 100)
	if _, err := New(o); err == nil {
		t.Error("a socket path that is too long was accepted")
	}
}

func TestServiceAddress(t *testing.T) {
	w := newWorld(t)
	moved := cluster
	moved.Listen = netip.AddrPortFrom(naming.HostAddr(9), 5433)
	want := resource.New(resource.HostOwner, "", serviceName, moved)
	err := w.apply(resource.Put, want)
	wantReason(t, err, "ServiceAddressMissing")
	addAddress(t, moved.Listen.Addr())
	w.putCluster()
	w.must(resource.Put, want) // a restart
	if got := w.observe(resource.KindCluster)[want.ID]; !got.Equal(want) {
		t.Errorf("observed %v, want %v", got, want)
	}
	if err := os.WriteFile(w.driver.conf(hbaConf), []byte("host all all 0.0.0.0/0 trust\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := w.postmaster()
	if got := w.observe(resource.KindCluster)[want.ID]; got.Equal(want) {
		t.Error("a foreign pg_hba.conf is observed as right")
	}
	w.must(resource.Put, want)
	if got := w.observe(resource.KindCluster)[want.ID]; !got.Equal(want) || w.postmaster() != pid {
		t.Errorf("pg_hba.conf was not put right without a restart: %v", got)
	}
}
