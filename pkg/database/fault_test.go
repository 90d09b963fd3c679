package database

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/resource"
)

// refilled waits until the spares are there and nothing runs in the background.
func (w *world) refilled() {
	w.t.Helper()
	w.eventually("spares", func() bool {
		return w.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'spare-"+testInstallation+"-%'") == fmt.Sprint(spareCount)
	})
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatalf("%s: not in time", what)
}

func (w *world) postmaster() int {
	w.t.Helper()
	st, found, err := w.manager.Status(w.driver.dir)
	if err != nil || !found || st.PID == 0 {
		w.t.Fatalf("status of PostgreSQL: %v %v %v", st, found, err)
	}
	return st.PID
}

func TestKilledServer(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	mustExec(t, w.login(a), "CREATE TABLE t (x int); INSERT INTO t VALUES (1)")
	if err := syscall.Kill(w.postmaster(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	want := resource.New(resource.HostOwner, "", serviceName, cluster)
	w.eventually("the end is seen", func() bool { return !w.observe(resource.KindCluster)[want.ID].Equal(want) })
	observed := w.driver.Observe(t.Context())
	for _, kind := range []resource.Kind{resource.KindRole, resource.KindDatabase} {
		wantReason(t, observed[kind].Err, "PostgresUnavailable")
	}
	if len(observed[resource.KindAccess].Items) != 1 {
		t.Errorf("accesses = %v, want the one in the file", observed[resource.KindAccess])
	}
	b := newTenant(2, "b")
	w.storePassword(b)
	rs := b.resources(w.layout)
	wantReason(t, w.apply(resource.Put, rs[0]), "PostgresUnavailable")
	w.must(resource.Put, rs[2]) // the file is enough
	w.putCluster()
	w.must(resource.Put, rs...)
	w.login(b)
	mustExec(t, w.login(a), "INSERT INTO t SELECT x + 1 FROM t")
}

func TestStoppedServerIsUnknownSoon(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	w.putTenant(a)
	w.refilled()
	pids := w.group()
	signal := func(s syscall.Signal) {
		for _, pid := range pids {
			syscall.Kill(pid, s)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*observeTimeout) // a bound for a test that hangs, no measurement
		observed := w.driver.Observe(ctx)
		if ctx.Err() != nil {
			t.Fatal("Observe waited for a stopped PostgreSQL")
		}
		cancel()
		for _, kind := range []resource.Kind{resource.KindRole, resource.KindDatabase} {
			wantReason(t, observed[kind].Err, "PostgresUnavailable")
		}
		if observed[resource.KindAccess].Err != nil || observed[resource.KindCluster].Err != nil {
			t.Error("what is in our files is unknown while PostgreSQL is slow")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	step := resource.Step{Verb: resource.Put, Resource: newTenant(2, "b").resources(w.layout)[0]}
	wantReason(t, w.driver.Apply(ctx, []resource.Step{step})[0], "PostgresUnavailable")
	access := newTenant(2, "b").resources(w.layout)[2]
	bounded, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	wantReason(t, w.driver.Apply(bounded, []resource.Step{{Verb: resource.Put, Resource: access}})[0], "PostgresUnavailable")
	right := resource.New(resource.HostOwner, "", serviceName, cluster)
	if w.observe(resource.KindCluster)[right.ID].Equal(right) {
		t.Error("a cluster that has not read its files is observed as right: nobody would try again")
	}
	signal(syscall.SIGCONT)
	w.eventually("known again", func() bool { return w.driver.Observe(t.Context())[resource.KindRole].Err == nil })
	w.must(resource.Put, a.resources(w.layout)...)
	w.putCluster()
	if !w.observe(resource.KindCluster)[right.ID].Equal(right) {
		t.Error("the cluster is still not right")
	}
}

// group lists the server's processes.
func (w *world) group() []int {
	postmaster := w.postmaster()
	pids := []int{postmaster}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range strings.Fields(string(children)) {
		var pid int
		fmt.Sscan(f, &pid)
		pids = append(pids, pid)
	}
	return pids
}

// TestCrashBetweenSteps leaves what a daemon that died half way leaves, at each
// boundary, and lets a new daemon go on.
func TestCrashBetweenSteps(t *testing.T) {
	w := newWorld(t)

	// initdb cut short.
	if err := os.MkdirAll(filepath.Join(w.driver.dir, "data.new", "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The configuration is written, the server was never started.
	if _, err := w.driver.writeFiles(); err == nil {
		t.Fatal("writeFiles without directories worked")
	}
	w.putCluster()
	if exists(filepath.Join(w.driver.dir, "data.new")) {
		t.Error("the unfinished data directory is still there")
	}

	a := newTenant(1, "a")
	a.ext = []string{"citext"}
	w.storePassword(a)
	rs := a.resources(w.layout)
	w.must(resource.Put, rs[0])
	w.refilled()

	// After CREATE DATABASE, before it was renamed and marked: spares beyond the usual number.
	orphan := newSpareName(testInstallation)
	w.psql("postgres", "CREATE DATABASE "+quoted(orphan))
	w.restartDaemon()
	if got := w.observe(resource.KindDatabase); len(got) != 0 {
		t.Errorf("observed %v, want no database", got)
	}
	// After the rename, before the extensions.
	v := rs[1].Value.(resource.Database)
	first := noteOf(v)
	first.Extensions = nil
	if err := w.driver.create(t.Context(), w.pool(), v, comment(w.driver.ownedBy(a.uid), first)); err != nil {
		t.Fatal(err)
	}
	w.restartDaemon()
	if got := w.observe(resource.KindDatabase)[rs[1].ID]; got.Owner != a.uid || got.Equal(rs[1]) {
		t.Errorf("observed %v, want ours without extensions", got)
	}
	w.must(resource.Put, rs[1])
	// After pg_hba.conf was written, before the reload.
	if err := w.driver.changeHBA(func(h hba) {
		access := rs[2].Value.(resource.Access)
		h.entries[rs[2].Name] = entry{access: access, mark: w.driver.ownedBy(a.uid), instance: rs[2].Instance}
	}); err != nil {
		t.Fatal(err)
	}
	w.restartDaemon()
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	go w.driver.Watch(watching, func() {})
	w.eventually("a new daemon makes PostgreSQL read its files", func() bool {
		conn, err := connect(t.Context(), a.addr, a.name, a.password(), a.name)
		if err == nil {
			conn.Close(t.Context())
		}
		return err == nil
	})
	mustExec(t, w.login(a), "CREATE TABLE t (x citext); INSERT INTO t VALUES ('kept')")

	// Deletion: after the login was taken; after the dump, before the drop.
	if err := lockOut(t.Context(), w.pool(), a.name, ""); err != nil {
		t.Fatal(err)
	}
	c, err := readCatalog(t.Context(), w.pool(), a.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.driver.dump(t.Context(), trashEntry(c.databases[a.name]), resource.Dump{}, c.databases[a.name], c.roles[a.name]); err != nil {
		t.Fatal(err)
	}
	w.restartDaemon()
	w.deleteTenant(a)
	items, err := w.driver.ListData(t.Context())
	if err != nil || len(items) != 1 {
		t.Errorf("trash = %v (%v), want one dump", items, err)
	}
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	if exists(w.driver.dir) {
		t.Error("spares of a crash kept the cluster from going")
	}
}

func (w *world) pool() *pgxpool.Pool {
	pool, err := w.driver.connections()
	if err != nil {
		w.t.Fatal(err)
	}
	return pool
}
