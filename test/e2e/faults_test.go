package e2e_test

import (
	"fmt"
	"net"
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
	taken, err := net.Listen("tcp", k.service()+":5432")
	k.check(err)
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

// TestIngressTaken starts the daemon while somebody else has Caddy's port, has
// Caddy frozen, and gives it a certificate that is none.
func TestIngressTaken(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	bad := k.path("bad.pem")
	k.check(os.WriteFile(bad, []byte("no certificate"), 0o600))
	config, err := os.ReadFile(k.path("host.yaml"))
	k.check(err)
	k.check(os.WriteFile(k.path("host.yaml"), []byte(strings.Replace(string(config), `httpsPort: 0, tls: "off"}`,
		fmt.Sprintf(`httpsPort: %d, tls: "off", certificates: [{hosts: [bad.test], certFile: %s, keyFile: %s}]}`, k.httpPort()+10000, bad, bad), 1)), 0o644))
	k.up()
	route := func(name string) string { return k.guest(name, "routes: [{host: "+name+".test, port: 8080}]") }
	k.write("one.yaml", route("one"))
	k.ready("one")
	pid := k.leader("one")

	// The culprit is told, others are served.
	k.write("bad.yaml", k.guest("bad", "routes: [{host: bad.test, port: 8080, tls: files}]"))
	k.write("two.yaml", route("two"))
	k.ready("two")
	k.told("bad", v1alpha1.ConditionRouteReady, bad)
	k.mustServe("one.test")
	k.mustServe("two.test")

	caddy := k.pidOf("caddy")
	k.check(syscall.Kill(caddy, syscall.SIGSTOP))
	t.Cleanup(func() { syscall.Kill(caddy, syscall.SIGCONT) })
	k.write("plain.yaml", k.guest("plain"))
	k.write("three.yaml", route("three"))
	k.ready("plain")
	k.told("three", v1alpha1.ConditionRouteReady, "Caddy")
	k.check(syscall.Kill(caddy, syscall.SIGCONT))
	k.ready("three")
	k.mustServe("three.test")

	k.signal(syscall.SIGKILL)
	k.check(syscall.Kill(k.pidOf("caddy"), syscall.SIGKILL))
	// A file beside ours in what Caddy reads is no site.
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
	k.write("four.yaml", route("four"))
	k.write("more.yaml", k.guest("more"))
	k.up()
	k.ready("more")
	k.told("four", v1alpha1.ConditionRouteReady, fmt.Sprintf("port %d is used by", k.httpPort()))
	taken.Close()
	k.ready("one", "two", "three", "four")
	for _, name := range []string{"one", "two", "three", "four"} {
		k.mustServe(name + ".test")
	}
	if code, body, err := k.through("planted.test", "/"); err != nil || code != 404 {
		t.Errorf("the planted site answers %d %q %v", code, body, err)
	}
	if k.leader("one") != pid {
		t.Error("the machine was restarted")
	}
}

// TestCrashLoop has machines crash at boot again and again, beside one that serves.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	pid := k.leader("web")
	crash := func(name string) string {
		return container(name, "system: {rootfs: "+k.rootfs+"}", "command: [guest, crash]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]")
	}
	const loops, crashes = 5, 4 // each
	names := make([]string, loops)
	for i := range names {
		names[i] = fmt.Sprintf("loop%d", i)
		k.write(names[i]+".yaml", crash(names[i]))
	}
	// held counts what a machine has on the host; what a start leaks adds up.
	held := func() string {
		links := strings.Count(output("ip", "-o", "link", "show"), ": tk"+k.instance)
		dirs, _ := filepath.Glob(k.state("machines", "*"))
		volumes, _ := filepath.Glob(k.state("volumes", "container", "*"))
		return fmt.Sprintln(links, "links", len(dirs), "directories", len(volumes), "volumes", strings.Count(k.mounts(), k.dir), "mounts")
	}
	for _, name := range names {
		k.condition(name, v1alpha1.ConditionStarted, "CrashLoopBackOff")
		k.told(name, v1alpha1.ConditionStarted, "exit code 7")
		k.told(name, v1alpha1.ConditionStarted, "cannot find my keys")
	}
	before := held()
	for _, name := range names {
		k.eventually(fmt.Sprintf("%s has crashed %d times", name, crashes), func() error {
			if n := k.get(name).Status.Restarts; n < crashes {
				return fmt.Errorf("%d times", n)
			}
			return nil
		})
	}
	k.eventually("all wait", func() error {
		if now := held(); now != before {
			return fmt.Errorf("before: %s now: %s", before, now)
		}
		for _, dir := range k.cgroups() {
			if inside, _ := filepath.Glob(dir + "/main*"); strings.Contains(dir, ".loop") && len(inside) > 0 {
				return fmt.Errorf("cgroups of ended machines: %s", inside)
			}
		}
		return nil
	})
	if a, err := k.served("web.test", "/"); err != nil || k.leader("web") != pid {
		t.Errorf("the other machine: %+v %v", a, err)
	}
	// Repaired, it runs at once; deleted, it is gone at once, whatever its turn.
	k.write("loop0.yaml", k.guest("loop0"))
	k.ready("loop0")
	for _, name := range names[1:] {
		k.must("delete", name)
	}
	k.gone(names[1:]...)
}

// TestStaleLink finds a link in its place: of a predecessor that was killed,
// and of somebody else.
func TestStaleLink(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", "routes: [{host: app.test, port: 8080}]"))
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("app", "web")
	link := "tk" + k.instance + strconv.Itoa(k.get("app").Status.Slot)
	_, alias, _ := strings.Cut(mustRun(t, "ip", "link", "show", "dev", link), "alias ")
	mark, _, _ := strings.Cut(alias, " ")
	replace := func(alias string) {
		k.signal(syscall.SIGKILL)
		mustRun(t, "kill", "-KILL", strings.Fields(k.nspawnOf("app-1"))[0])
		exec.Command("ip", "link", "del", link).Run()
		mustRun(t, "ip", "link", "add", link, "type", "veth", "peer", "name", link+"x")
		mustRun(t, "ip", "address", "add", "192.0.2.9/32", "dev", link)
		if alias != "" {
			mustRun(t, "ip", "link", "set", link, "alias", alias)
		}
		k.up()
	}
	served := func() {
		t.Helper()
		k.eventually("app is served", func() error { _, err := k.served("app.test", "/"); return err })
		k.ready("app", "web")
	}
	replace(mark + " app-1 attached")
	served()
	if a := output("ip", "-o", "address", "show", "dev", link); strings.Contains(a, "192.0.2.9") {
		t.Errorf("the stale link's address is there: %s", a)
	}
	replace("")
	k.told("app", v1alpha1.ConditionNetworkReady, link)
	k.mustServe("web.test")
	if a := output("ip", "-o", "address", "show", "dev", link); !strings.Contains(a, "192.0.2.9") {
		t.Errorf("somebody else's link was changed: %s", a)
	}
	mustRun(t, "ip", "link", "del", link)
	served()
}

// nspawnOf is the process that runs a machine, found without the daemon.
func (k *tekton) nspawnOf(machine string) string {
	k.t.Helper()
	for _, line := range k.machines() {
		if strings.Contains(line, "--machine="+machine+" ") {
			return line
		}
	}
	k.t.Fatalf("%s does not run", machine)
	return ""
}

// TestLeftovers deletes a machine with mounts and immutable files in its directories.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"))
	k.ready("app")
	k.mustAsk("app", "/append", "path", "/data/var/empty/file", "data", "x")
	k.mustAsk("app", "/append", "path", "/var/empty/deep/file", "data", "x")
	machine := k.state("machines", k.get("app").Status.Machine)
	precious := k.path("precious")
	k.check(os.MkdirAll(precious, 0o755))
	k.check(os.WriteFile(precious+"/file", []byte("precious"), 0o644))
	for _, dir := range []string{"upper/srv/bind", "upper/srv/tmpfs", "looked at"} {
		k.check(os.MkdirAll(filepath.Join(machine, dir), 0o755))
	}
	mustRun(t, "mount", "--bind", precious, machine+"/upper/srv/bind")
	mustRun(t, "mount", "-t", "tmpfs", "tmpfs", machine+"/upper/srv/tmpfs")
	mustRun(t, "mount", "-t", "overlay", "overlay", "-o", "lowerdir="+precious+":"+k.rootfs, machine+"/looked at")
	volume := k.state("volumes", "container", "app", "data")
	for _, path := range []string{machine + "/upper/var/empty/deep/file", machine + "/upper/var/empty", volume + "/var/empty/file", volume + "/var/empty", volume} {
		mustRun(t, "chattr", "+i", path)
	}
	k.must("delete", "app")
	k.gone("app")
	k.eventually("nothing is left", k.nothingLeft)
	if _, err := os.Lstat(machine); err == nil {
		t.Errorf("%s is there", machine)
	}
	if b, err := os.ReadFile(precious + "/file"); err != nil || string(b) != "precious" {
		t.Errorf("the file behind a mount: %q %v", b, err)
	}
	list := k.must("data", "list")
	id, _, _ := strings.Cut(list[strings.Index(list, "volume:"):], " ")
	k.must("data", "delete", id)
	if left, _ := filepath.Glob(k.state("trash", "*volume*")); len(left) > 0 {
		t.Errorf("in the trash: %s", left)
	}
}
