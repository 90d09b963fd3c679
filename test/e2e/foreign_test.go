package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// TestForeignThings puts things on the host that look like ours and are not,
// and lets objects come, change and go beside them.
func TestForeignThings(t *testing.T) {
	t.Parallel()
	k := start(t)
	// One object brings up everything that foreign things can be put into.
	k.write("first.yaml", k.guest("first", "databases: [{name: main, deletionPolicy: Delete}]", "routes: [{host: first.test, port: 8080}]"))
	k.ready("first")

	link, table := "tk"+k.instance+"900", "tekton_"+k.instance+"x"
	mustRun(t, "ip", "link", "add", link, "type", "veth", "peer", "name", link+"p")
	mustRun(t, "ip", "link", "set", link, "alias", "tekton/ffffffffffff/0123456789abcdef of somebody else")
	mustRun(t, "nft", "add", "table", "inet", table)
	mustRun(t, "nft", "add", "chain", "inet", table, "forward")
	mustRun(t, "ip", "rule", "add", "from", "192.0.2.77", "lookup", "main", "priority", "19999")
	t.Cleanup(func() {
		exec.Command("ip", "link", "del", link).Run()
		exec.Command("nft", "delete", "table", "inet", table).Run()
		exec.Command("ip", "rule", "del", "priority", "19999").Run()
	})
	// A directory among our machines, a volume, a file among our services.
	foreign := []string{k.state("machines", "theirs-1", "file"), k.state("volumes", "container", "theirs", "data", "file"), k.state("services", "theirs", "file")}
	for _, path := range foreign {
		k.check(os.MkdirAll(filepath.Dir(path), 0o755))
		k.check(os.WriteFile(path, []byte("theirs"), 0o644))
	}
	conn := k.admin()
	database := "tekton" + k.instance + "_container_theirs_main"
	for _, q := range []string{"CREATE ROLE " + database + " LOGIN", "CREATE DATABASE " + database + " OWNER " + database, "COMMENT ON DATABASE " + database + " IS 'theirs'"} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	foreignView := func() string {
		row := ""
		err := conn.QueryRow(t.Context(), "SELECT d.oid::text || r.rolname || shobj_description(d.oid, 'pg_database') FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE datname = $1", database).Scan(&row)
		files := ""
		for _, path := range foreign {
			b, err := os.ReadFile(path)
			files += fmt.Sprintln(string(b), err)
		}
		return fmt.Sprintln(output("ip", "-d", "link", "show", link), output("nft", "list", "table", "inet", table), output("ip", "rule", "show", "priority", "19999"), row, err, files)
	}
	before := foreignView()

	k.write("second.yaml", k.guest("second", "databases: [{name: main, deletionPolicy: Delete}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"))
	k.ready("second")
	k.write("second.yaml", k.guest("second", "databases: [{name: main, deletionPolicy: Delete}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]", `environment: {GENERATION: "2"}`))
	k.generation("second", "2")
	k.signal(syscall.SIGKILL)
	k.up()
	k.must("delete", "second")
	k.gone("second")
	if diff := cmp.Diff(before, foreignView()); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	conn.Close(t.Context())
	k.must("delete", "first")
	k.gone("first")
	k.eventually("Caddy has ended", func() error {
		if left := k.processes(func(p process) bool { return k.ours(p) && p.pid != k.daemon.Process.Pid }); len(left) > 0 {
			return fmt.Errorf("%q", left)
		}
		return nil
	})
	// The cluster stays as data: somebody else's database is in it.
	if _, err := os.Stat(k.state("services", "postgres", "data", "PG_VERSION")); err != nil {
		t.Errorf("the cluster with a foreign database in it: %v", err)
	}
	for _, path := range foreign {
		if b, err := os.ReadFile(path); string(b) != "theirs" {
			t.Errorf("%s: %q %v", path, b, err)
		}
	}
	mustRun(t, "ip", "link", "del", link)
	mustRun(t, "nft", "delete", "table", "inet", table)
	mustRun(t, "ip", "rule", "del", "priority", "19999")
}

// admin connects to the private PostgreSQL as its administrator, over the
// socket, which is open to root.
func (k *tekton) admin() *pgx.Conn {
	k.t.Helper()
	var conn *pgx.Conn
	k.eventually("the administrator is connected", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var err error
		conn, err = pgx.Connect(ctx, fmt.Sprintf("host=%s port=5432 user=tekton dbname=postgres sslmode=disable", k.path("run", "postgres")))
		return err
	})
	return conn
}
