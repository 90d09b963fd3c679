package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/cgroup"
	"tekton.host/test/systemdhost"
)

// TestForeignThings puts things on the host that look like ours and are not,
// and lets objects come, change and go beside them.
func TestForeignThings(t *testing.T) { eachRuntime(t, testForeignThings) }

func testForeignThings(t *testing.T, k *tekton) {
	full := []string{"databases: [{name: main, deletionPolicy: Delete}]", "routes: [{host: first.test, port: 8080}]"}
	// One object brings up everything that foreign things can be put into.
	k.write("first.yaml", k.guest("first", full...))
	k.ready("first")
	theirs := k.plant()
	host, databases := theirs.host(), theirs.databases()

	second := []string{"databases: [{name: main, deletionPolicy: Delete}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]", "routes: [{host: second.test, port: 8080}]"}
	k.write("second.yaml", k.guest("second", second...))
	k.ready("second")
	k.write("second.yaml", k.guest("second", append(second, `environment: {GENERATION: "2"}`)...))
	k.generation("second", "2")
	k.signal(syscall.SIGKILL)
	k.up()
	k.must("delete", "second")
	k.gone("second")
	k.must("delete", "first")
	k.gone("first")
	k.eventually("all of ours has ended", func() error {
		if left := k.processes(func(p process) bool { return k.ours(p) && p.pid != k.daemon.Process.Pid }); len(left) > 0 {
			return fmt.Errorf("%q", left)
		}
		return nil
	})
	if diff := cmp.Diff(host, theirs.host()); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	// The cluster has stayed, as somebody else's data is in it.
	k.write("first.yaml", k.guest("first", full...))
	k.ready("first")
	if diff := cmp.Diff(databases, theirs.databases()); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	theirs.uproot()
}

// foreign are things of others beside ours, and what they are like.
type foreign struct {
	host, databases func() string
	uproot          func()
}

// planting is held while things are planted: their names are the whole host's.
var planting sync.Mutex

// plant puts things of others wherever ours are.
func (k *tekton) plant() foreign {
	k.t.Helper()
	planting.Lock()
	var undo []func()
	uproot := sync.OnceFunc(func() {
		defer planting.Unlock()
		for _, f := range slices.Backward(undo) {
			f()
		}
	})
	// Before the end of the installation, which demands that nothing is left.
	k.t.Cleanup(uproot)
	network, files, processes := k.plantNetwork(&undo), k.plantFiles(&undo), k.plantProcesses(&undo)
	return foreign{
		host:      func() string { return network() + files() + processes() },
		databases: k.plantDatabases(&undo),
		uproot:    uproot,
	}
}

func (k *tekton) plantNetwork(undo *[]func()) func() string {
	k.t.Helper()
	link, table := "tk"+k.instance+"900", "tekton_"+k.instance+"x"
	for _, line := range []string{
		"ip link add " + link + " address 02:00:00:00:00:01 type veth peer name " + link + "p address 02:00:00:00:00:02",
		"ip link add ve-x address 02:00:00:00:00:03 type veth peer name vb-x address 02:00:00:00:00:04", "ip link set ve-x up",
		"ip address add 192.0.2.1/30 dev ve-x", "ip route add 198.51.100.0/24 dev ve-x", "ip rule add from 192.0.2.77 lookup main priority 19999",
		"nft add table inet " + table, "nft add chain inet " + table + " forward { type filter hook forward priority 0 ; }", "nft add rule inet " + table + " forward tcp dport 1 drop",
	} {
		mustRun(k.t, strings.Fields(line)...)
	}
	mustRun(k.t, "ip", "link", "set", link, "alias", "tekton/ffffffffffff/0123456789abcdef of somebody else")
	*undo = append(*undo, func() {
		for _, line := range []string{"ip link del " + link, "ip link del ve-x", "nft delete table inet " + table, "ip rule del priority 19999"} {
			mustRun(k.t, strings.Fields(line)...)
		}
	})
	return func() string {
		return output("ip", "-d", "address", "show", link) + output("ip", "-d", "address", "show", "ve-x") + output("ip", "route", "show", "dev", "ve-x") +
			output("ip", "rule", "show", "priority", "19999") + output("nft", "-a", "list", "table", "inet", table)
	}
}

func (k *tekton) plantFiles(undo *[]func()) func() string {
	k.t.Helper()
	current, err := filepath.EvalSymlinks(k.state("services", "caddy", "current"))
	k.check(err)
	paths := []string{
		k.state("machines", "theirs", "file"), k.state("machines", "theirs-1", "file"), k.state("volumes", "container", "theirs", "data", "file"),
		k.state("services", "theirs", "file"), k.state("passwords", "theirs"), k.state("trash", "theirs", "file"), k.path("run", "theirs", "file"),
		k.state("services", "caddy", "sites", "theirs.caddy"), k.state("services", "caddy", "generations", "theirs", "sites", "theirs.caddy"),
		filepath.Join(current, "sites", "theirs.caddy"),
	}
	for _, path := range paths {
		k.check(os.MkdirAll(filepath.Dir(path), 0o755))
		k.check(os.WriteFile(path, []byte("http://theirs.test {\n}\n"), 0o640))
	}
	*undo = append(*undo, func() {
		for _, path := range paths {
			k.check(os.Remove(path))
		}
	})
	return func() string {
		var b strings.Builder
		for _, path := range paths {
			var s syscall.Stat_t
			err := syscall.Lstat(path, &s)
			content, err2 := os.ReadFile(path)
			fmt.Fprintf(&b, "%s inode %d mode %o of %d:%d changed %d: %q %v\n", path, s.Ino, s.Mode, s.Uid, s.Gid, s.Ctim.Nano(), content, errors.Join(err, err2))
		}
		return b.String()
	}
}

// plantDatabases makes databases with their roles: with a prefix like ours, and
// with a name as we would give it.
func (k *tekton) plantDatabases(undo *[]func()) func() string {
	k.t.Helper()
	names := []string{"tekton_x", "tekton" + k.instance + "_container_theirs_main", "spare-ffffffffffff-0123456789abcdef"}
	query := func(database string, queries ...string) (out string) {
		k.t.Helper()
		conn := k.adminOf(database)
		defer conn.Close(context.Background())
		for _, q := range queries {
			rows, err := conn.Query(context.Background(), q)
			k.check(err)
			values, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				k.t.Fatalf("%s: %v", q, err)
			}
			out += strings.Join(values, "\n") + "\n"
		}
		return out
	}
	for _, n := range names {
		query("postgres", fmt.Sprintf("CREATE ROLE %q LOGIN PASSWORD 'theirs'", n), fmt.Sprintf("CREATE DATABASE %q OWNER %[1]q", n), fmt.Sprintf("COMMENT ON DATABASE %q IS 'theirs'", n))
		query(n, "CREATE TABLE t (x text)", "INSERT INTO t VALUES ('theirs')")
	}
	*undo = append(*undo, func() {
		if _, err := os.Stat(k.path("run", "postgres")); errors.Is(err, fs.ErrNotExist) {
			return // the cluster is a directory that goes with the test
		}
		for _, n := range names {
			query("postgres", fmt.Sprintf("DROP DATABASE %q", n), fmt.Sprintf("DROP ROLE %q", n))
		}
	})
	return func() (out string) {
		for _, n := range names {
			out += query("postgres",
				fmt.Sprintf("SELECT (to_jsonb(d) - '{datfrozenxid,datminmxid}'::text[])::text || shobj_description(oid, 'pg_database') FROM pg_database d WHERE datname = '%s'", n),
				fmt.Sprintf("SELECT to_jsonb(r)::text FROM pg_authid r WHERE rolname = '%s'", n))
			out += query(n, "SELECT t.ctid::text || t.x FROM t")
		}
		return out
	}
}

func (k *tekton) admin() *pgx.Conn { return k.adminOf("postgres") }

// adminOf connects to a database of the private PostgreSQL as its
// administrator, over the socket, which is open to root.
func (k *tekton) adminOf(database string) (conn *pgx.Conn) {
	k.t.Helper()
	k.eventually("the administrator is connected", func() (err error) {
		conn, err = k.connect(database)
		return err
	})
	return conn
}

func (k *tekton) connect(database string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=5432 user=tekton dbname=%s sslmode=disable", k.path("run", "postgres"), database))
}

// plantProcesses runs a machine `web`, a Caddy with a site and, where units
// are, a unit.
func (k *tekton) plantProcesses(undo *[]func()) func() string {
	k.t.Helper()
	dir := filepath.Join(os.TempDir(), "theirs-"+k.instance)
	root := filepath.Join(dir, "web")
	k.check(os.CopyFS(root, os.DirFS(k.rootfs)))
	k.check(os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte("{\n\tadmin off\n}\nhttp://127.0.0.1:17999 {\n\trespond theirs\n}\n"), 0o644))
	nspawn := []string{"systemd-nspawn", "--quiet", "--machine=web", "--directory=" + root, "--private-network", "--as-pid2", "--settings=no", "--console=pipe"}
	looks := []func() string{func() string {
		_, body, err := fetch("http://127.0.0.1:17999/", "first.test")
		return fmt.Sprintln(body, err)
	}}
	if systemdhost.Inside() {
		unit := "tekton-web-1.service" // as an installation without a name of its own would call it
		mustRun(k.t, "systemd-run", "--quiet", "--unit="+unit, "--description=tekton/ffffffffffff/0123456789abcdef", "sleep", "infinity")
		*undo = append(*undo, func() { mustRun(k.t, "systemctl", "stop", unit) })
		looks = append(looks,
			func() string {
				return output("systemctl", "show", "-p", "Id,Description,MainPID,InvocationID,ActiveState,StateChangeTimestampMonotonic", unit)
			},
			func() string { return output("machinectl", "show", "web") })
	} else {
		nspawn = append(nspawn, "--register=no", "--keep-unit")
	}
	for _, argv := range [][]string{append(nspawn, "guest", "stubborn"), {"caddy", "run", "--config", filepath.Join(dir, "Caddyfile")}} {
		looks = append(looks, k.plantProcess(dir, argv, undo))
	}
	*undo = append(*undo, func() { k.check(os.RemoveAll(dir)) })
	k.eventually("the others serve", func() error { _, _, err := fetch("http://127.0.0.1:17999/", ""); return err })
	if systemdhost.Inside() {
		k.eventually("the machine is registered", func() error { return exec.Command("machinectl", "show", "web").Run() })
		// Before its nspawn is killed: a name that stays registered is refused to the next one.
		*undo = append(*undo, func() {
			exec.Command("machinectl", "terminate", "web").Run()
			k.eventually("the machine is not registered", func() error {
				if exec.Command("machinectl", "show", "web").Run() == nil {
					return errors.New("it is")
				}
				return nil
			})
		})
	}
	return func() (out string) {
		for _, look := range looks {
			out += look()
		}
		return out
	}
}

// plantProcess runs a process in a cgroup of its own.
func (k *tekton) plantProcess(dir string, argv []string, undo *[]func()) func() string {
	k.t.Helper()
	groups, err := cgroup.Find()
	k.check(err)
	group := groups.Group("theirs-" + k.instance + "-" + filepath.Base(argv[0]))
	k.check(group.Create())
	// The process itself joins the group, in every hierarchy.
	script := `for g in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do [ ! -d $g$0 ] || echo $$ >$g$0/cgroup.procs; done; exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, group.Path()}, argv...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "SYSTEMD_SECCOMP=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	k.check(cmd.Start())
	*undo = append(*undo, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		k.check(group.KillAll(ctx))
		cmd.Process.Kill()
		cmd.Wait()
		k.check(group.Remove(ctx))
		// A killed nspawn leaves it, and the next one of the name refuses to start.
		unix.Unmount("/run/systemd/nspawn/unix-export/web", unix.MNT_DETACH)
		os.Remove("/run/systemd/nspawn/unix-export/web")
	})
	look := func() string {
		var out []string
		for _, line := range k.processes(func(p process) bool { return strings.Contains(p.cgroup, group.Path()) || p.pid == cmd.Process.Pid }) {
			stat, _ := os.ReadFile("/proc/" + strings.Fields(line)[0] + "/stat")
			_, after, _ := strings.Cut(string(stat), ") ")
			if fields := strings.Fields(after); len(fields) > 19 {
				line += " started at " + fields[19]
			}
			out = append(out, line)
		}
		return strings.Join(out, "\n") + "\n"
	}
	k.eventually("theirs runs: "+argv[0], func() error {
		for line := range strings.Lines(look()) {
			// Not the shell, whose command line has it at its end.
			if _, cmdline, _ := strings.Cut(line, " "); strings.HasPrefix(cmdline, argv[0]) {
				return nil
			}
		}
		return errors.New(look())
	})
	return look
}
