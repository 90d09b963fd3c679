package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

const ownDatabase = "databases: [{name: main, deletionPolicy: Delete}]"

// told waits until an object that is not Ready says why, in words that hold want.
func (k *tekton) told(name, typ, want string) {
	k.t.Helper()
	k.eventually(fmt.Sprintf("%s of %s tells of %q", typ, name, want), func() error {
		i, err := k.item(name)
		if err != nil {
			return err
		}
		for _, c := range i.Status.Conditions {
			if c.Type == typ && c.Status != v1alpha1.ConditionTrue && strings.Contains(c.Message, want) && i.Status.Phase != v1alpha1.PhaseReady {
				return nil
			}
		}
		return fmt.Errorf("%s: %+v", i.Status.Phase, i.Status.Conditions)
	})
}

// TestPostgresAtStart starts the daemon while PostgreSQL is frozen, dead with
// its lock file left behind, and kept from its port.
func TestPostgresAtStart(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", ownDatabase, "routes: [{host: app.test, port: 8080}]"))
	k.ready("app")
	k.mustAsk("app", "/sql", "q", "CREATE TABLE t (x int)")
	pid := k.leader("app")
	back := func(names ...string) {
		t.Helper()
		k.eventually("the data is back", func() error { _, err := k.ask("app", "/sql", "q", "SELECT count(*) FROM t"); return err })
		k.ready(append(names, "app")...)
	}

	k.signal(syscall.SIGKILL)
	frozen := k.freezePostgres()
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.write("needs.yaml", k.guest("needs", ownDatabase))
	k.up()
	k.ready("web")
	k.mustServe("web.test")
	k.mustServe("app.test")
	k.told("needs", v1alpha1.ConditionDatabaseReady, "PostgreSQL")
	frozen.signal(syscall.SIGCONT)
	back("needs")

	// Dead, and the number in its lock file belongs to another process of its user by now.
	k.signal(syscall.SIGKILL)
	k.killPostgres()
	lock := k.state("services", "postgres", "data", "postmaster.pid")
	content, err := os.ReadFile(lock)
	k.check(err)
	other := asPostgres("sleep", "1000")
	k.check(other.Start())
	t.Cleanup(func() { other.Process.Kill(); other.Wait() })
	_, rest, _ := strings.Cut(string(content), "\n")
	k.check(os.WriteFile(lock, []byte(strconv.Itoa(other.Process.Pid)+"\n"+rest), 0o600))
	k.up()
	back("needs")

	// Somebody else listens where it is to listen.
	k.signal(syscall.SIGKILL)
	k.killPostgres()
	var taken net.Listener
	k.eventually("the last process of PostgreSQL has left the port", func() (err error) {
		taken, err = net.Listen("tcp", k.service()+":5432")
		return err
	})
	t.Cleanup(func() { taken.Close() })
	k.write("late.yaml", k.guest("late", ownDatabase))
	k.write("more.yaml", k.guest("more", "routes: [{host: more.test, port: 8080}]"))
	k.up()
	k.ready("more")
	k.mustServe("more.test")
	k.told("late", v1alpha1.ConditionDatabaseReady, "ddress already in use")
	taken.Close()
	back("needs", "late")
	if k.leader("app") != pid {
		t.Error("the machine was restarted")
	}
}

// asPostgres runs a program as PostgreSQL's user.
func asPostgres(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	if u, err := user.Lookup("postgres"); err == nil {
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	cmd.Dir = "/"
	return cmd
}

// TestPostgresSlow holds a lock on the catalogue of roles: nobody can connect,
// and every question about roles waits. All that needs no database goes on.
func TestPostgresSlow(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", ownDatabase, "routes: [{host: app.test, port: 8080}]"))
	k.write("old.yaml", k.guest("old"))
	k.ready("app", "old")
	conn := k.admin()
	for _, q := range []string{"BEGIN", "LOCK TABLE pg_authid, pg_database IN ACCESS EXCLUSIVE MODE"} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	k.write("needs.yaml", k.guest("needs", ownDatabase))
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.write("app.yaml", k.guest("app", ownDatabase, "routes: [{host: moved.test, port: 8080}]"))
	k.must("delete", "old")
	k.ready("web")
	k.gone("old")
	k.mustServe("web.test")
	k.eventually("the route of a machine with a database moves", func() error { _, err := k.served("moved.test", "/"); return err })
	k.told("needs", v1alpha1.ConditionDatabaseReady, "PostgreSQL")
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	k.ready("needs", "app")
	k.mustAsk("needs", "/sql", "q", "SELECT 1")
}

// TestPostgresCrowded has tenants take all connections that there are for them.
func TestPostgresCrowded(t *testing.T) {
	t.Parallel()
	k := start(t, "postgres: {maxConnections: 24}") // 8 are kept for us
	hogs := []string{"hog1", "hog2", "hog3"}
	for _, name := range hogs {
		k.write(name+".yaml", k.guest(name, ownDatabase))
	}
	k.ready(hogs...)
	total := 0
	for i, name := range hogs {
		n, err := strconv.Atoi(k.mustAsk(name, "/hold", "n", "100"))
		k.check(err)
		if n > 6 {
			t.Errorf("%s has %d of 24 connections", name, n)
		}
		if total += n; i == 0 {
			k.mustAsk("hog2", "/sql", "q", "SELECT 1") // one alone takes nothing from others
		}
	}
	// What the daemon has open itself counts, too.
	if total < 12 || total > 16 {
		t.Errorf("the tenants have %d connections, want all of the 16 that nobody else has", total)
	}
	k.write("needs.yaml", k.guest("needs", ownDatabase))
	k.ready("needs") // the daemon gets in
	if out, err := k.ask("needs", "/sql", "q", "SELECT 1"); err == nil {
		t.Errorf("a connection was free: %s", out)
	}
	k.must("delete", "hog2") // as does the dump of what is deleted
	k.gone("hog2")
	k.eventually("others have what it held", func() error { _, err := k.ask("needs", "/sql", "q", "SELECT 1"); return err })
	k.mustAsk("hog1", "/drop")
}

// TestDataAtRest restores and deletes databases while no object needs PostgreSQL.
func TestDataAtRest(t *testing.T) {
	t.Parallel()
	k := start(t)
	spec := k.guest("app", ownDatabase)
	k.write("app.yaml", spec)
	k.ready("app")
	k.mustAsk("app", "/sql", "q", "CREATE TABLE kept AS SELECT 42 AS x")
	k.must("delete", "app")
	k.gone("app")
	k.eventually("PostgreSQL is gone", k.nothingLeft)
	id := func(state string) string {
		t.Helper()
		for line := range strings.Lines(k.must("data", "list")) {
			if f := strings.Fields(line); strings.Contains(line, state) && strings.HasPrefix(f[0], "database:") {
				return f[0]
			}
		}
		t.Fatalf("no database is %s:\n%s", state, k.must("data", "list"))
		return ""
	}
	k.must("data", "restore", id("trash"))
	k.eventually("PostgreSQL is gone", k.nothingLeft)
	k.must("data", "delete", id("retained"))
	k.must("data", "restore", id("trash"))
	k.eventually("PostgreSQL is gone", k.nothingLeft)
	k.write("app.yaml", spec)
	k.ready("app")
	if got := k.mustAsk("app", "/sql", "q", "SELECT x FROM kept"); got != "42" {
		t.Errorf("the row says %q", got)
	}
}

// TestIngressCulprit gives one route a certificate that is none, and has Caddy
// frozen: the one is told, others are served.
func TestIngressCulprit(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.badCertificate("bad.test")
	k.up()
	k.write("one.yaml", k.routed("one"))
	k.ready("one")
	k.write("bad.yaml", k.guest("bad", "routes: [{host: bad.test, port: 8080, tls: files}]"))
	k.write("two.yaml", k.routed("two"))
	k.ready("two")
	k.told("bad", v1alpha1.ConditionRouteReady, k.path("bad.pem"))
	k.mustServe("one.test")
	k.mustServe("two.test")

	caddy := k.pidOf("caddy")
	k.check(syscall.Kill(caddy, syscall.SIGSTOP))
	t.Cleanup(func() { syscall.Kill(caddy, syscall.SIGCONT) })
	k.write("plain.yaml", k.guest("plain"))
	k.write("three.yaml", k.routed("three"))
	k.ready("plain")
	k.told("three", v1alpha1.ConditionRouteReady, "Caddy")
	k.check(syscall.Kill(caddy, syscall.SIGCONT))
	k.ready("three")
	k.mustServe("three.test")
}

// TestIngressTaken starts the daemon while Caddy is dead, somebody else has its
// port, and files were planted beside its sites.
func TestIngressTaken(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.badCertificate("bad.test") // must not hide what is worse
	k.up()
	k.write("one.yaml", k.routed("one"))
	k.ready("one")
	pid := k.leader("one")
	k.signal(syscall.SIGKILL)
	k.check(syscall.Kill(k.pidOf("caddy"), syscall.SIGKILL))
	current, err := filepath.EvalSymlinks(k.state("services", "caddy", "current"))
	k.check(err)
	for name, text := range map[string]string{"planted.test.caddy": fmt.Sprintf("http://planted.test:%d {\n\trespond planted\n}\n", k.httpPort()), "broken.caddy": "this is { no Caddyfile"} {
		k.check(os.WriteFile(filepath.Join(current, "sites", name), []byte(text), 0o644))
	}
	var taken net.Listener
	k.eventually("the port is free", func() (err error) {
		taken, err = net.Listen("tcp", fmt.Sprintf(":%d", k.httpPort()))
		return err
	})
	t.Cleanup(func() { taken.Close() })
	k.write("two.yaml", k.routed("two"))
	k.write("more.yaml", k.guest("more"))
	k.up()
	k.ready("more")
	k.told("two", v1alpha1.ConditionRouteReady, fmt.Sprintf("port %d is used by", k.httpPort()))
	taken.Close()
	k.ready("one", "two")
	k.mustServe("one.test")
	k.mustServe("two.test")
	if code, body, err := k.through("planted.test", "/"); err != nil || code != http.StatusNotFound {
		t.Errorf("the planted site answers %d %q %v", code, body, err)
	}
	if k.leader("one") != pid {
		t.Error("the machine was restarted")
	}
}

// routed is a guest with a route of its name.
func (k *tekton) routed(name string) string {
	return k.guest(name, "routes: [{host: "+name+".test, port: 8080}]")
}

// badCertificate configures a certificate for a host that is none, before the daemon starts.
func (k *tekton) badCertificate(host string) {
	k.t.Helper()
	bad := k.path("bad.pem")
	k.check(os.WriteFile(bad, []byte("no certificate"), 0o600))
	config, err := os.ReadFile(k.path("host.yaml"))
	k.check(err)
	text := strings.Replace(string(config), `httpsPort: 0, tls: "off"}`,
		fmt.Sprintf(`httpsPort: %d, tls: "off", certificates: [{hosts: [%s], certFile: %s, keyFile: %s}]}`, k.httpPort()+10000, host, bad, bad), 1)
	k.check(os.WriteFile(k.path("host.yaml"), []byte(text), 0o644))
}
