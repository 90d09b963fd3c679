package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/jackc/pgx/v5"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/cgroup"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var (
	naming  = resource.Naming{Instance: "t", Subnet: netip.MustParsePrefix("10.99.0.0/16")}
	cluster = resource.Cluster{Listen: netip.AddrPortFrom(naming.Service(), 5432), MaxConnections: 40}
)

// world is a host with a driver and, beside it, an independent way to look.
type world struct {
	t       *testing.T
	driver  *Driver
	manager *supervise.Manager
	layout  host.Layout
	log     *strings.Builder
	system  *System
}

// newWorld makes directories that the cluster's user can reach, service and
// machine addresses on lo, and a supervisor; all of it goes with the test.
func newWorld(t *testing.T) *world {
	testenv.Root(t, "initdb", "unshare")
	for _, addr := range []netip.Addr{naming.Service(), naming.Addr(1), naming.Addr(2)} {
		addAddress(t, addr)
	}
	base, err := os.MkdirTemp("", "tk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	// In memory: the disk that all tests share is slow to sync. The mount ends with the namespace, if not before.
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	w := &world{t: t, log: &strings.Builder{}, layout: host.Layout{State: base + "/state", Run: base + "/run", Secrets: base + "/secrets"}}
	program := filepath.Join(base, "tekton-supervise")
	if out, err := exec.Command("go", "build", "-o", program, "tekton.host/cmd/tekton-supervise").CombinedOutput(); err != nil {
		t.Fatalf("build tekton-supervise: %v\n%s", err, out)
	}
	parent := fmt.Sprintf("tkdb%d", time.Now().UnixNano())
	w.manager, err = supervise.New(supervise.Options{Form: supervise.Supervised, Program: program, Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	w.driver = w.newDriver()
	t.Cleanup(func() {
		w.driver.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := w.manager.Stop(ctx, w.driver.dir, time.Nanosecond); err != nil {
			t.Errorf("stop PostgreSQL: %v", err)
		}
		w.manager.Close()
		if h, err := cgroup.Find(); err == nil {
			if err := h.Group(parent).Remove(ctx); err != nil {
				t.Errorf("remove the test's cgroup: %v", err)
			}
		}
	})
	return w
}

func (w *world) newDriver() *Driver {
	w.t.Helper()
	d, err := New(Options{
		Layout: w.layout, Naming: naming, Installation: testInstallation, Supervisor: w.manager, System: w.system, Port: 5432,
		Log: funcr.New(func(_, args string) { fmt.Fprintln(w.log, args) }, funcr.Options{Verbosity: 2}),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// restartDaemon replaces the driver by a new one, as a daemon that died would.
func (w *world) restartDaemon() {
	w.driver.Close()
	w.driver = w.newDriver()
}

func addAddress(t *testing.T, addr netip.Addr) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrReplace(lo, a); err != nil {
		t.Fatal(err)
	}
}

// tenant is what one object has: password, role, database, access.
type tenant struct {
	uid, name string
	addr      netip.Addr
	policy    resource.DeletionPolicy
	ext       []string
}

func newTenant(slot int, object string) tenant {
	return tenant{uid: "uid-" + object, name: naming.DatabaseName("Container", object, "main"), addr: naming.Addr(slot), policy: resource.DeleteData}
}

func (n tenant) resources(l host.Layout) []resource.Resource {
	role := resource.Role{Name: n.name, PasswordFile: filepath.Join(l.Passwords(), n.name), ConnectionLimit: 5}
	db := resource.Database{Name: n.name, Owner: n.name, Extensions: n.ext, Policy: n.policy, Label: "Container/" + n.name + "/main"}
	access := resource.Access{Role: n.name, Database: n.name, Addr: n.addr}
	return []resource.Resource{
		resource.New(n.uid, "", n.name, role),
		resource.New(n.uid, "", n.name, db),
		resource.New(n.uid, n.name+"-1", accessName(access), access),
	}
}

// canary is in every password: no log, error, argument or statement may hold it.
const canary = "canary-7f3e-"

func (n tenant) password() string { return canary + n.name }

func (w *world) storePassword(n tenant) {
	w.t.Helper()
	if err := os.MkdirAll(w.layout.Passwords(), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.layout.Passwords(), n.name), []byte(n.password()), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// apply runs one step the way the engine does: Seen is what was just observed.
func (w *world) apply(verb resource.Verb, r resource.Resource) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	s := resource.Step{Verb: verb, Resource: r}
	if seen, there, known := resource.Observed(w.driver.Observe(ctx)).Get(r.ID); known && there {
		s.Seen = &seen
	}
	return w.driver.Apply(ctx, []resource.Step{s})[0]
}

func (w *world) must(verb resource.Verb, rs ...resource.Resource) {
	w.t.Helper()
	for _, r := range rs {
		if err := w.apply(verb, r); err != nil {
			w.t.Fatalf("%s %s: %v", verb, r.ID, err)
		}
	}
}

func (w *world) putCluster() {
	w.t.Helper()
	w.must(resource.Put, resource.New(resource.HostOwner, "", serviceName, cluster))
}

func (w *world) putTenant(n tenant) {
	w.t.Helper()
	w.storePassword(n)
	w.must(resource.Put, n.resources(w.layout)...)
}

func (w *world) deleteTenant(n tenant) {
	w.t.Helper()
	rs := n.resources(w.layout)
	w.must(resource.Delete, rs[2], rs[1], rs[0])
}

// observe returns one kind, which must be known.
func (w *world) observe(kind resource.Kind) resource.Set {
	w.t.Helper()
	d := w.driver.Observe(w.t.Context())[kind]
	if d.Err != nil {
		w.t.Fatalf("%s is unknown: %v", kind, d.Err)
	}
	return d.Items
}

// connect logs in as a machine would: from its address, over TCP, with a password.
func connect(ctx context.Context, from netip.Addr, role, password, database string) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig("host=" + naming.Service().String() + " port=5432 sslmode=disable")
	if err != nil {
		return nil, err
	}
	c.User, c.Password, c.Database = role, password, database
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	c.DialFunc = dialer.DialContext
	return pgx.ConnectConfig(ctx, c)
}

func (w *world) login(n tenant) *pgx.Conn {
	w.t.Helper()
	conn, err := connect(w.t.Context(), n.addr, n.name, n.password(), n.name)
	if err != nil {
		w.t.Fatalf("%s cannot use its own database: %v", n.name, err)
	}
	w.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// psql asks PostgreSQL independently of the driver, as the superuser.
func (w *world) psql(database, sql string) string {
	w.t.Helper()
	out, err := w.tryPsql(database, sql)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) tryPsql(database, sql string) (string, error) {
	dirs := w.driver.binDirs()
	cmd := exec.Command(filepath.Join(dirs[0], "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", w.driver.socketDir(), "-U", admin, "-d", database, "-c", sql)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", sql, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// exec runs a statement as a tenant.
func mustExec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if got := resource.Reason(err, ""); got != reason {
		t.Errorf("reason = %q (%v), want %q", got, err, reason)
	}
}

func isTerminal(err error) bool {
	_, ok := errors.AsType[*resource.TerminalError](err)
	return ok
}
