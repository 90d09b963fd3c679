package database

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"

	"tekton.host/pkg/resource"
)

var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()}

func TestNoClusterIsKnownEmpty(t *testing.T) {
	w := newWorld(t)
	for _, kind := range w.driver.Kinds() {
		if got := w.observe(kind); len(got) != 0 {
			t.Errorf("%s: observed %v on a host without cluster", kind, got)
		}
	}
	rs := newTenant(1, "a").resources(w.layout)
	w.must(resource.Delete, rs...) // already gone is success
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	for _, r := range rs {
		if err := w.apply(resource.Put, r); err == nil {
			t.Errorf("put %s without a cluster: no error", r.ID)
		}
	}
	if entries, _ := os.ReadDir(w.layout.State); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestLife is the life of two objects' databases, from nothing to nothing.
func TestLife(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a, b := newTenant(1, "a"), newTenant(2, "b")
	a.ext = []string{"citext", "pgcrypto"}
	w.putTenant(a)
	w.putTenant(b)

	want := resource.NewSet(append(a.resources(w.layout), b.resources(w.layout)...)...)
	got := resource.Set{}
	for _, kind := range []resource.Kind{resource.KindRole, resource.KindDatabase, resource.KindAccess} {
		for id, r := range w.observe(kind) {
			got[id] = r
		}
	}
	if diff := cmp.Diff(want, got, equate); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	wantCluster := resource.NewSet(resource.New(resource.HostOwner, "", serviceName, cluster))
	if diff := cmp.Diff(wantCluster, w.observe(resource.KindCluster), equate); diff != "" {
		t.Errorf("observed cluster (-want +got):\n%s", diff)
	}

	conn := w.login(a)
	mustExec(t, conn, "CREATE TABLE notes (line citext); INSERT INTO notes VALUES ('first'); SELECT digest('x', 'sha256')")
	if owner := w.psql(a.name, "SELECT rolname FROM pg_extension e JOIN pg_roles r ON r.oid = extowner WHERE extname = 'citext'"); owner != a.name {
		t.Errorf("a trusted extension belongs to %q, want %q", owner, a.name)
	}

	w.putCluster() // and all of it once more: nothing changes
	before := w.psql("postgres", "SELECT string_agg(oid::text || datname, ',' ORDER BY oid) FROM pg_database WHERE datname NOT LIKE 'spare%'")
	w.putTenant(a)
	w.putTenant(b)
	if after := w.psql("postgres", "SELECT string_agg(oid::text || datname, ',' ORDER BY oid) FROM pg_database WHERE datname NOT LIKE 'spare%'"); after != before {
		t.Errorf("databases changed by a second Put: %s, before %s", after, before)
	}
	mustExec(t, conn, "SELECT 1") // the connection lived through it

	w.deleteTenant(a)
	w.deleteTenant(a)
	w.deleteTenant(b)
	for _, kind := range []resource.Kind{resource.KindRole, resource.KindDatabase, resource.KindAccess} {
		if got := w.observe(kind); len(got) != 0 {
			t.Errorf("%s left: %v", kind, got)
		}
	}
	if left := w.psql("postgres", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'tekton_%'"); left != "" {
		t.Errorf("roles left: %s", left)
	}
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	if exists(w.driver.dir) || exists(w.driver.socketDir()) {
		t.Error("the cluster left its directories behind")
	}
	w.noCanary()
}

// noCanary looks for passwords where they must not be.
func (w *world) noCanary() {
	w.t.Helper()
	if strings.Contains(w.log.String(), canary) {
		w.t.Error("a password is in our log")
	}
	filepath.WalkDir(filepath.Dir(w.layout.State), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !e.Type().IsRegular() || strings.HasPrefix(path, w.layout.Passwords()) {
			return nil
		}
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), canary) {
			w.t.Errorf("a password is in %s", path)
		}
		return nil
	})
}

func TestPassword(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	err := w.apply(resource.Put, a.resources(w.layout)[0])
	wantReason(t, err, "PasswordMissing")
	w.putTenant(a)
	stored := func() string {
		return w.psql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = '"+a.name+"'")
	}
	first := stored()
	if !matches(first, a.password()) {
		t.Errorf("PostgreSQL stores %q, which is no verifier of the password", first)
	}
	w.restartDaemon()
	w.putTenant(a)
	if stored() != first {
		t.Error("an equal password was stored again")
	}

	conn := w.login(a)
	mustExec(t, conn, "ALTER ROLE CURRENT_USER PASSWORD 'my own'")
	id := resource.ID{Kind: resource.KindRole, Name: a.name}
	if got := w.observe(resource.KindRole)[id]; got.Equal(a.resources(w.layout)[0]) {
		t.Error("a role that changed its password is observed as right")
	}
	w.putTenant(a)
	if !matches(stored(), a.password()) {
		t.Error("a changed password was not put right")
	}
	w.psql("postgres", "ALTER ROLE "+quoted(a.name)+" CREATEDB")
	if got := w.observe(resource.KindRole)[id]; got.Equal(a.resources(w.layout)[0]) {
		t.Error("a role with another privilege is observed as right")
	}
	w.putTenant(a)
	if got := w.observe(resource.KindRole)[id]; !got.Equal(a.resources(w.layout)[0]) {
		t.Error("a role was not put right")
	}
	if err := os.WriteFile(filepath.Join(w.layout.Passwords(), a.name), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantReason(t, w.apply(resource.Put, a.resources(w.layout)[0]), "PasswordInvalid")
	w.noCanary()
}

func TestForeignThingsStay(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	rs := a.resources(w.layout)
	w.storePassword(a)
	w.psql("postgres", "CREATE ROLE "+quoted(a.name)+" LOGIN; COMMENT ON ROLE "+quoted(a.name)+" IS 'mine'")
	for _, verb := range []resource.Verb{resource.Put, resource.Delete} {
		err := w.apply(verb, rs[0])
		wantReason(t, err, "RoleConflict")
		if isTerminal(err) {
			t.Errorf("%s of a foreign role: nobody would see that it was moved: %v", verb, err)
		}
	}
	w.psql("postgres", "DROP ROLE "+quoted(a.name))
	w.psql("postgres", "CREATE DATABASE "+quoted(a.name))
	w.must(resource.Put, rs[0])
	for _, verb := range []resource.Verb{resource.Put, resource.Delete} {
		err := w.apply(verb, rs[1])
		wantReason(t, err, "DatabaseConflict")
		if isTerminal(err) {
			t.Errorf("%s of a foreign database: nobody would see that it was moved: %v", verb, err)
		}
	}
	if owner := w.psql("postgres", "SELECT rolname FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE datname = '"+a.name+"'"); owner != admin {
		t.Errorf("a foreign database now belongs to %s", owner)
	}
	w.must(resource.Delete, rs[0])
	w.must(resource.Delete, resource.New(resource.HostOwner, "", serviceName, cluster))
	if !exists(w.driver.dataDir()) {
		t.Error("the data directory with a foreign database was removed")
	}
	w.putCluster()
	if got := w.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = '"+a.name+"'"); got != "1" {
		t.Error("the foreign database is gone")
	}
}

func TestExtensions(t *testing.T) {
	w := newWorld(t)
	w.putCluster()
	a := newTenant(1, "a")
	a.ext = []string{"pg_stat_statements"}
	w.storePassword(a)
	rs := a.resources(w.layout)
	w.must(resource.Put, rs[0])
	wantReason(t, w.apply(resource.Put, rs[1]), "ExtensionNotAllowed")
	a.ext = []string{"nosuch"}
	unavailable := w.apply(resource.Put, a.resources(w.layout)[1])
	wantReason(t, unavailable, "ExtensionUnavailable")
	if isTerminal(unavailable) {
		t.Errorf("nobody would see that it was installed: %v", unavailable)
	}
	if got := w.observe(resource.KindDatabase)[rs[1].ID]; len(got.Value.(resource.Database).Extensions) != 0 {
		t.Errorf("observed extensions that are not there: %v", got)
	}
	a.ext = []string{"hstore"}
	rs = a.resources(w.layout)
	w.must(resource.Put, rs[1])
	if got := w.observe(resource.KindDatabase)[rs[1].ID]; !got.Equal(rs[1]) {
		t.Errorf("observed %v, want %v", got, rs[1])
	}
}
