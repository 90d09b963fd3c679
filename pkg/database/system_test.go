package database

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

// operator is somebody with a PostgreSQL of their own, set up as distributions do.
type operator struct {
	*world
	dir, bin string
	user     user
	server   *exec.Cmd
}

const (
	stockRules  = "local all postgres peer\nlocal all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n"
	ownRule     = "host sameuser all 10.99.0.0/16 scram-sha-256\n"
	theirSecret = "SELECT string_agg(who, ',') FROM secrets"
)

func newOperator(t *testing.T) *operator {
	w := newWorld(t)
	o := &operator{world: w, dir: filepath.Join(filepath.Dir(w.layout.State), "theirs"), bin: w.driver.binDirs()[0]}
	var err error
	if o.user, err = w.driver.user(); err != nil {
		t.Fatal(err)
	}
	if err := o.user.mkdir(o.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o.run("initdb", "-D", o.dir+"/data", "-U", "postgres", "--auth=peer", "--locale=C.UTF-8", "-E", "UTF8")
	o.rules(stockRules)
	o.start("localhost")
	t.Cleanup(o.stop)
	o.sql("postgres", "CREATE ROLE them LOGIN PASSWORD 'theirs'")
	o.sql("postgres", "CREATE DATABASE theirs OWNER them")
	o.sql("theirs", "CREATE TABLE secrets (who text); INSERT INTO secrets VALUES ('us'); ALTER TABLE secrets OWNER TO them")
	w.system = &System{SocketDir: o.dir}
	w.restartDaemon()
	return o
}

func (o *operator) run(program string, args ...string) string {
	o.t.Helper()
	out, err := o.user.run(o.t.Context(), o.dir, "", append([]string{filepath.Join(o.bin, program)}, args...)...)
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func (o *operator) sql(database, sql string) string {
	o.t.Helper()
	return o.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", o.dir, "-U", "postgres", "-d", database, "-c", sql)
}

func (o *operator) rules(text string) {
	o.t.Helper()
	if err := os.WriteFile(o.dir+"/data/pg_hba.conf", []byte(text), 0o644); err != nil {
		o.t.Fatal(err)
	}
	if o.server != nil {
		o.sql("postgres", "SELECT pg_reload_conf()")
		time.Sleep(100 * time.Millisecond) // nobody tells the operator when it has
	}
}

func (o *operator) start(listen string) {
	o.t.Helper()
	o.server = exec.Command(filepath.Join(o.bin, "postgres"), "-D", o.dir+"/data", "-k", o.dir, "-h", listen, "-c", "fsync=off")
	o.server.SysProcAttr = &syscall.SysProcAttr{Credential: o.user.Credential}
	o.server.Dir = o.dir
	if err := o.server.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.eventually("the operator's PostgreSQL is up", func() bool {
		_, err := o.user.run(o.t.Context(), o.dir, "", filepath.Join(o.bin, "pg_isready"), "-h", o.dir)
		return err == nil
	})
}

func (o *operator) stop() {
	if o.server != nil {
		o.server.Process.Signal(syscall.SIGINT)
		o.server.Wait()
		o.server = nil
	}
}

func (o *operator) restart(listen string) { o.stop(); o.start(listen) }

// all is everything in the server, as the operator sees it.
func (o *operator) all() string {
	dump := o.run("pg_dumpall", "-h", o.dir, "-U", "postgres")
	lines := strings.Split(dump, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, `\restrict`) || strings.HasPrefix(l, `\unrestrict`) {
			lines[i] = "" // random
		}
	}
	return strings.Join(lines, "\n")
}

// TestSystemPostgres: databases come and go in a PostgreSQL that is not ours,
// and it is as before afterwards.
func TestSystemPostgres(t *testing.T) {
	o := newOperator(t)
	o.rules(stockRules + ownRule)
	o.restart("localhost," + naming.Service().String())
	before := o.all()
	o.putCluster()
	a, b := newTenant(1, "a"), newTenant(2, "b")
	a.ext = []string{"citext"}
	b.policy = resource.RetainData
	o.putTenant(a)
	o.putTenant(b)
	want := resource.NewSet(append(append(a.resources(o.layout), b.resources(o.layout)...), resource.New(resource.HostOwner, "", serviceName, cluster))...)
	observed := func() {
		t.Helper()
		got := resource.Set{}
		for _, kind := range o.driver.Kinds() {
			for id, r := range o.observe(kind) {
				got[id] = r
			}
		}
		if diff := cmp.Diff(want, got, equate); diff != "" {
			t.Errorf("observed (-want +got):\n%s", diff)
		}
	}
	observed()
	o.restartDaemon()
	observed() // a new daemon has nothing to do

	conn := o.login(a)
	mustExec(t, conn, "CREATE TABLE notes (line citext); INSERT INTO notes VALUES ('first')")
	// What a backup holds comes back here, too: over the network, as a role of its own.
	o.backedUp(a.name)
	o.sql("postgres", "DROP DATABASE \""+a.name+"\" WITH (FORCE)")
	o.putTenant(a)
	conn = o.login(a)
	if got := o.ask(a, "SELECT line FROM notes"); got != "first" {
		t.Errorf("made of a backup: %q", got)
	}
	for _, database := range []string{b.name, "theirs", "postgres"} {
		if c, err := connect(t.Context(), a.addr, a.name, a.password(), database); err == nil {
			c.Close(t.Context())
			t.Errorf("%s reaches %s", a.name, database)
		}
	}
	theirs := "host=127.0.0.1 user=them password=theirs dbname=theirs"
	if got := o.run("psql", "-XAtq", theirs, "-c", theirSecret); got != "us" {
		t.Errorf("the operator's own access: %q", got)
	}
	// An access that goes ends what it allowed.
	o.must(resource.Delete, a.resources(o.layout)[2])
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a connection outlives its access")
	}
	o.deleteTenant(a)
	o.deleteTenant(b)

	trash, kept := RetainedID(b.name), ""
	for _, i := range o.data() {
		if i.ID != trash {
			kept = i.ID
		}
	}
	if err := o.driver.RestoreData(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if got := o.sql(a.name, "SELECT line FROM notes"); got != "first" {
		t.Errorf("restored: %q", got)
	}
	if got := o.sql("postgres", "SELECT rolcanlogin OR rolpassword IS NOT NULL FROM pg_authid WHERE rolname = '"+a.name+"'"); got != "f" {
		t.Error("the restored role can log in")
	}
	o.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	for _, i := range o.data() { // also listed and removed while no object needs the server
		if err := o.driver.DeleteData(t.Context(), i.ID); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, o.all()); diff != "" {
		t.Errorf("the server is not as before:\n%s", diff)
	}
	if _, err := os.Lstat(o.driver.dir); err == nil {
		t.Error("files are left")
	}
	o.noCanary()
}

// TestSystemPostgresRule: what the operator has to write is said, until it is there.
func TestSystemPostgresRule(t *testing.T) {
	o := newOperator(t)
	put := func(reason string, lines ...string) {
		t.Helper()
		err := o.apply(resource.Put, resource.New(resource.HostOwner, "", serviceName, cluster))
		wantReason(t, err, reason)
		for _, line := range lines {
			if err == nil || !strings.Contains(err.Error(), line) {
				t.Errorf("%q is not said in: %v", line, err)
			}
		}
	}
	put("PostgresUnreachable", "listen_addresses = 'localhost,10.99.0.1'", "net.ipv4.ip_nonlocal_bind = 1")
	o.restart("localhost," + naming.Service().String())
	put("PostgresRule", strings.TrimSpace(ownRule), "host all all 10.99.0.0/16 reject")
	o.rules(stockRules + "host all all 0.0.0.0/0 scram-sha-256\n") // too much
	put("PostgresRule")
	o.rules(stockRules + "host all all 10.99.0.0/16 trust\n")
	put("PostgresRule")
	o.rules(stockRules + ownRule + "host all all 0.0.0.0/0 scram-sha-256\n")
	put("PostgresRule")
	o.rules(stockRules + ownRule + "host all all 10.99.0.0/16 reject\nhost all all 0.0.0.0/0 scram-sha-256\n")
	put("")
	observed := func() resource.Value {
		for _, r := range o.observe(resource.KindCluster) {
			return r.Value
		}
		return nil
	}
	if got := observed(); !cluster.Equal(got) {
		t.Errorf("observed %v", got)
	}
	o.rules(stockRules) // taken away again: it is tried again
	if got := observed(); cluster.Equal(got) {
		t.Errorf("observed %v", got)
	}
	put("PostgresRule")
	o.stop()
	put("PostgresUnavailable")
	if d := o.driver.Observe(t.Context())[resource.KindDatabase]; d.Err == nil {
		t.Errorf("databases of a server that is down are known: %v", d.Items)
	}
	// The other mode does not look past what is there.
	o.system = nil
	if _, err := New(Options{Layout: o.layout, Naming: naming, Installation: testInstallation, Supervisor: o.manager}); err == nil || !strings.Contains(err.Error(), "system") {
		t.Errorf("mode managed: %v", err)
	}
}
