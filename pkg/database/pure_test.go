package database

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgconn"

	"tekton.host/pkg/resource"
)

const testInstallation = "0123456789ab"

func TestVerifier(t *testing.T) {
	const head = "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$"
	salt := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	v, err := verifier("correct horse battery staple", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(v, head) {
		t.Errorf("verifier = %q, want prefix %q", v, head)
	}
	cases := []struct {
		reason, stored, password string
		want                     bool
	}{
		{"the same password", v, "correct horse battery staple", true},
		{"another password", v, "correct horse battery stapl", false},
		{"no password", "", "", false},
		{"MD5", "md5abcdef", "correct horse battery staple", false},
		{"iterations missing", "SCRAM-SHA-256$AAEC$x:y", "x", false},
		{"iterations absurd", "SCRAM-SHA-256$999999999:AAEC$x:y", "x", false},
		{"salt is no base64", "SCRAM-SHA-256$4096:!$x:y", "x", false},
	}
	for _, c := range cases {
		if got := matches(c.stored, c.password); got != c.want {
			t.Errorf("%s: matches = %v, want %v", c.reason, got, c.want)
		}
	}
	a, _ := newVerifier("secret")
	b, _ := newVerifier("secret")
	if a == b || !matches(a, "secret") || !matches(b, "secret") {
		t.Error("two verifiers of one password must differ and both match")
	}
}

func TestHBARoundTrip(t *testing.T) {
	e := func(role, addr, owner, instance string) entry {
		return entry{
			access:   resource.Access{Role: role, Database: role, Addr: netip.MustParseAddr(addr)},
			mark:     resource.Mark{Installation: testInstallation, Owner: owner},
			instance: instance,
		}
	}
	h := hba{entries: map[string]entry{}}
	for _, e := range []entry{e("b_x", "10.0.0.5", "u2", "b-1"), e("a_x", "10.0.0.3", "u1", ""), e("a_x", "10.0.0.9", "u1", "a-2")} {
		h.entries[accessName(e.access)] = e
	}
	const want = `# Written by tekton; changes are overwritten.
local all tekton peer map=tekton
host "a_x" "a_x" 10.0.0.3/32 scram-sha-256 # tekton/0123456789ab/u1 
host "b_x" "b_x" 10.0.0.5/32 scram-sha-256 # tekton/0123456789ab/u2 b-1
host "a_x" "a_x" 10.0.0.9/32 scram-sha-256 # tekton/0123456789ab/u1 a-2
`
	if diff := cmp.Diff(want, string(h.render())); diff != "" {
		t.Errorf("render (-want +got):\n%s", diff)
	}
	opts := cmp.Options{cmp.AllowUnexported(hba{}, entry{}), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(h, parseHBA(h.render(), testInstallation), opts); diff != "" {
		t.Errorf("parse of render (-want +got):\n%s", diff)
	}
	intruder := want + "host all all 0.0.0.0/0 trust\n" + `host "c_x" "c_x" 10.0.0.7/32 scram-sha-256 # tekton/ffffffffffff/u3 c-1` + "\n"
	if diff := cmp.Diff(h, parseHBA([]byte(intruder), testInstallation), opts); diff != "" {
		t.Errorf("lines that are not ours are left out (-want +got):\n%s", diff)
	}
}

func TestComment(t *testing.T) {
	mark := resource.Mark{Installation: testInstallation, Owner: "uid"}
	n := note{Label: "Container/we\"b'/main", Policy: resource.DeleteData, Extensions: []string{"citext"}}
	m, got, ok := parseComment(comment(mark, n))
	if !ok || m != mark {
		t.Errorf("mark = %v %v, want %v", m, ok, mark)
	}
	if diff := cmp.Diff(n, got); diff != "" {
		t.Errorf("note (-want +got):\n%s", diff)
	}
	for _, foreign := range []string{"", "my database", "tekton/", "tekton/x/"} {
		if _, _, ok := parseComment(foreign); ok {
			t.Errorf("parseComment(%q): taken for ours", foreign)
		}
	}
	if m, n, ok := parseComment("tekton/i/u scribble"); !ok || m.Owner != "u" || n.Label != "" {
		t.Errorf("a scribbled note must keep the mark: %v %v %v", m, n, ok)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"tekton_container_web_main", "tektonqs_container_a-b_main", strings.Repeat("a", 63)} {
		if err := checkName("role", name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "tekton", "postgres", "template1", "pg_read_all_data", "A", `a"b`, "a b", "a\nb", "a'b", strings.Repeat("a", 64)} {
		if err := checkName("role", name); err == nil {
			t.Errorf("%q: accepted", name)
		}
	}
}

func TestClusterReadBackFromArguments(t *testing.T) {
	d := &Driver{dir: "/var/lib/x"}
	want := resource.Cluster{Listen: netip.MustParseAddrPort("10.0.0.1:5433"), MaxConnections: 200}
	if got := clusterOf(d.flags(want)); got != want {
		t.Errorf("clusterOf(flags) = %v, want %v", got, want)
	}
}

// TestForgedComment: the owner of a database rules its comment, and nothing follows from that.
func TestForgedComment(t *testing.T) {
	mark := resource.Mark{Installation: testInstallation, Owner: "u1"}
	role := roleRow{name: "a_x", mark: mark, marked: true, note: note{Label: "Container/a/x", Policy: resource.DeleteData}}
	role.comment = comment(mark, role.note)
	base := databaseRow{name: "a_x", owner: "a_x"}
	want := resource.Database{Name: "a_x", Label: "Container/a/x", Policy: resource.DeleteData}
	honest := want
	honest.Owner = "a_x"
	cases := []struct {
		reason, comment string
		altered         bool
		want            resource.Database
	}{
		{"as we made it", role.comment, false, honest},
		{"emptied", "", false, want},
		{"another owner", comment(resource.Mark{Installation: testInstallation, Owner: "u2"}, role.note), false, want},
		{"retained", comment(resource.Mark{Installation: testInstallation, Owner: ownerRetained}, role.note), false, want},
		{"another installation", "tekton/ffffffffffff/u1 {}", false, want},
		{"opened to all", role.comment, true, want},
	}
	for _, c := range cases {
		b := base
		b.comment, b.altered = c.comment, c.altered
		cat := catalog{roles: map[string]roleRow{"a_x": role}, databases: map[string]databaseRow{"a_x": b}}
		wantDomain := resource.Known(resource.New("u1", "", "a_x", c.want))
		if diff := cmp.Diff(wantDomain, cat.observedDatabases(testInstallation)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.reason, diff)
		}
	}
}

func TestForeignDatabasesAreNotOurs(t *testing.T) {
	ours := roleRow{name: "a_x", mark: resource.Mark{Installation: testInstallation, Owner: "u1"}, marked: true}
	foreign := roleRow{name: "bob"}
	cat := catalog{
		roles: map[string]roleRow{"a_x": ours, "bob": foreign},
		databases: map[string]databaseRow{
			"bob":                              {name: "bob", owner: "bob", comment: "tekton/0123456789ab/u1 {}"}, // forged by its owner
			"notes":                            {name: "notes", owner: "a_x"},                                     // made by hand for our role
			"plain":                            {name: "plain", owner: admin},
			newSpareName(testInstallation):     {name: newSpareName(testInstallation), owner: admin},
			cloneName(testInstallation, "a_x"): {name: "clone", owner: admin},
			"template0":                        {name: "template0", owner: admin},
		},
	}
	if got := cat.observedDatabases(testInstallation); len(got.Items) != 0 {
		t.Errorf("observed foreign databases as ours: %v", got.Items)
	}
	if diff := cmp.Diff([]string{"bob", "notes", "plain"}, cat.kept(testInstallation)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

// TestFullDiskIsNamed: PostgreSQL does not always call a full disk that.
func TestFullDiskIsNamed(t *testing.T) {
	d := &Driver{dir: "/state/services/postgres"}
	short := fmt.Errorf("make a database: %w", &pgconn.PgError{Code: "53100", Message: "wrote only 4096 of 8192 bytes"})
	if err := d.full(short); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), d.dataDir()) || !strings.Contains(err.Error(), "wrote only") {
		t.Errorf("%v", err)
	}
	for _, other := range []error{nil, errors.New("no connection"), &pgconn.PgError{Code: "53300"}} {
		if err := d.full(other); err != other {
			t.Errorf("%v became %v", other, err)
		}
	}
}
