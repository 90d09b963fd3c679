package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/resource"
)

// restoreEnv names the directory of the host, and the archive, that this process
// puts back instead of testing.
const restoreEnv = "TEKTON_TEST_RESTORE"

func TestMain(m *testing.M) {
	if dir, archive, ok := strings.Cut(os.Getenv(restoreEnv), "\n"); ok {
		f, err := os.Open(archive)
		if err == nil {
			_, err = Restore(context.Background(), RestoreOptions{Places: placesIn(dir), Archive: f, MachineID: "this"})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// placesIn is a host all of which is below a directory.
func placesIn(dir string) Places {
	p := func(name string) string { return filepath.Join(dir, name) }
	return Places{
		Host: v1alpha1.HostSpec{
			Subnet: "10.99.0.0/16", StateDir: p("state"), RunDir: p("run"), SecretsDir: p("secrets"),
			Ingress: v1alpha1.IngressConfig{User: "nobody", Certificates: []v1alpha1.Certificate{{CertFile: p("etc/cert.pem"), KeyFile: p("etc/key.pem")}}},
			Sources: []v1alpha1.SourceConfig{{Name: "local", Path: p("state/specs")}, {Name: "git", Git: &v1alpha1.GitSource{}}, {Name: "web", Path: p("web")}},
		},
		Also: []string{p("also")},
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("TEKTON_TEST_REQUIRE") == "1" {
		t.Fatal("needs root, and TEKTON_TEST_REQUIRE=1 forbids skipping")
	}
	t.Skip("needs root: owners are put back")
}

const limited = `{"version": 1, "volume": {"volume": "data", "sizeMax": 1048576}}`

// furnish makes a host with something of everything.
func furnish(t *testing.T, places Places) {
	t.Helper()
	l := places.Layout()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	book, err := ledger.Open(l.Ledger(), ledger.Options{})
	must(err)
	must(errors.Join(book.Commit(t.Context(), []ledger.Op{
		ledger.Claim(resource.Claim{Key: "slot/9", Owner: "u", Value: []byte(`{"machine":"web-1"}`)}),
		ledger.Claim(resource.Claim{Key: compile.SysctlKey("net.ipv4.ip_forward"), Owner: resource.HostOwner, Value: compile.SysctlValue("0")}),
	})...))
	for path, text := range map[string]string{
		l.Installation(): "0123456789ab\n", l.Key(): "key", l.Passwords() + "/role": "password", l.Passwords() + "/.owners/role": "mark",
		l.Secrets + "/token": "secret", places.Host.Sources[0].Path + "/web.yaml": "kind: Container", places.Host.Sources[2].Path + "/.tekton-source": "",
		l.Certificates() + "/root.key": "key of a root", places.Host.Ingress.Certificates[0].KeyFile: "key", places.Also[0] + "/deep/file": "also",
		l.Volumes() + "/container/web/.data.json": limited,
		// What is made again is not in it.
		l.Machines() + "/web-1/root": "made again", l.Git() + "/mirror": "fetched again",
	} {
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, []byte(text), 0o600))
	}
	must(os.MkdirAll(filepath.Join(l.Volumes(), "container/web/data"), 0o700))
	plant(t, filepath.Join(l.Volumes(), "container/web/data/tree"))
}

// archive makes one of a host, with a database.
func archive(t *testing.T, places Places, machine string) (file string, made Manifest) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	made, err = Create(t.Context(), f, CreateOptions{
		Places: places, Head: Head{Tekton: "v1", MachineID: machine}, HostFile: []byte("kind: Host\n"), Databases: listed("web_db"),
		Dump: func(_ context.Context, name string) (string, error) {
			dir := filepath.Join(t.TempDir(), name)
			return dir, errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "dump"), []byte("PGDMP"), 0o600))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return file, made
}

// back puts an archive back below a directory.
func back(t *testing.T, dir, file string) (Restored, error) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Restore(t.Context(), RestoreOptions{Places: placesIn(dir), Archive: f, MachineID: "this"})
}

// expected is what a host looks like that an archive of another was put back on.
func expected(t *testing.T, from, to string) map[string]string {
	t.Helper()
	want := describe(t, from)
	state := describe(t, to)
	for name := range want {
		if strings.HasPrefix(name, "state/machines") || strings.HasPrefix(name, "state/git") {
			delete(want, name)
		}
	}
	// What is only there, what is Caddy's, and what is not in the archive: directories above parts.
	for _, name := range []string{"state/lock", "state/restored", "state/restored/web_db", "state/restored/web_db/dump", "state/ledger.json", "state/ledger.json.1",
		"state/volumes/container/web", "state/volumes/container/web/.data.json", "state/services/caddy/storage", "state/services/caddy/storage/root.key", ".", "state", "state/services", "state/services/caddy", "etc", "web"} {
		if _, there := state[name]; there {
			want[name] = state[name]
		} else {
			delete(want, name)
		}
	}
	return want
}

func TestRestore(t *testing.T) {
	needRoot(t)
	for _, machine := range []string{"this", "another"} {
		from, to := t.TempDir(), t.TempDir()
		furnish(t, placesIn(from))
		file, made := archive(t, placesIn(from), machine)
		if len(made.Remarks) != 1 || !strings.Contains(made.Remarks[0], "cert.pem is not there") {
			t.Errorf("remarks %q", made.Remarks)
		}
		// The paths that the Host and the command line of the other host name are its own.
		moved := renamed(t, file, from, to)
		done, err := back(t, to, moved)
		if err != nil {
			t.Fatal(err)
		}
		if len(done.Skipped) > 0 {
			t.Errorf("left out %v", done.Skipped)
		}
		if diff := cmp.Diff(expected(t, from, to), describe(t, to)); diff != "" {
			t.Errorf("-backed up +put back:\n%s", diff)
		}
		if text, err := os.ReadFile(filepath.Join(to, "state/restored/web_db/dump")); err != nil || string(text) != "PGDMP" {
			t.Errorf("the dump: %q %v", text, err)
		}
		marker := read1(t, filepath.Join(to, "state/volumes/container/web/.data.json"))
		if bytes.Contains(marker, []byte("sizeMax")) || !bytes.Contains(marker, []byte(`"volume": "data"`)) {
			t.Errorf("a volume says of itself %s: its limit is not set on this file system", marker)
		}
		if who := stat(lstat(t, filepath.Join(to, "state/services/caddy/storage/root.key"))); who.Uid == 0 {
			t.Errorf("Caddy's key belongs to %d", who.Uid)
		}
		book, err := ledger.Open(filepath.Join(to, "state/ledger.json"), ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		claims, _, err := book.List(t.Context())
		if want := map[string]int{"this": 2, "another": 1}[machine]; err != nil || len(claims) != want {
			t.Errorf("machine %s: claims %v %v, want %d: what settings were on another host says nothing of this one", machine, claims, err, want)
		}
		if _, err := back(t, to, moved); err == nil || !strings.Contains(err.Error(), "is not empty") {
			t.Errorf("once more: %v", err)
		}
	}
}

// TestRestoreToSmallSubnet: addresses outside of a subnet are given to nobody.
func TestRestoreToSmallSubnet(t *testing.T) {
	needRoot(t)
	from, to := t.TempDir(), t.TempDir()
	furnish(t, placesIn(from))
	file, _ := archive(t, placesIn(from), "this")
	for subnet, says := range map[string]string{"10.1.0.0/28": "web-1 has slot 9", "10.1.0.0/24": ""} {
		places := placesIn(to)
		places.Host.Subnet = subnet
		_, err := Restore(t.Context(), RestoreOptions{Places: places, Archive: bytes.NewReader(read1(t, file)), MachineID: "this"})
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", subnet, err)
		}
		to = t.TempDir()
	}
}

func lstat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// renamed is an archive of the same, with the files of one host under the names
// that they have on another.
func renamed(t *testing.T, file, from, to string) string {
	t.Helper()
	staged := t.TempDir()
	root, err := os.OpenRoot(staged)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m, err := unpack(bytes.NewReader(read1(t, file)), root, asItWas, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "renamed"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := NewWriter(out, WriterOptions{Head: m.Head})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Parts {
		name := strings.Replace(p.Name, filePart(from), filePart(to), 1)
		if err := w.Path(name, filepath.Join(staged, p.Name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

func read1(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRestoreRefuses: what is not as it should be changes nothing.
func TestRestoreRefuses(t *testing.T) {
	needRoot(t)
	from := t.TempDir()
	furnish(t, placesIn(from))
	file, _ := archive(t, placesIn(from), "this")
	whole := read1(t, file)
	for name, tc := range map[string]struct {
		archive []byte
		there   map[string]string // before
		says    string
	}{
		"cut":                    {archive: whole[:len(whole)*2/3], says: "ends before its manifest"},
		"cut at its end":         {archive: whole[:len(whole)-1], says: "damaged"},
		"changed":                {archive: slices.Concat(whole[:len(whole)/2], []byte{^whole[len(whole)/2]}, whole[len(whole)/2+1:]), says: "damaged"},
		"no archive":             {archive: []byte("something else, and long enough to be looked at"), says: ""},
		"volumes are there":      {archive: whole, there: map[string]string{"state/volumes/container/x/.y.json": "{}"}, says: "is not empty"},
		"a cluster is there":     {archive: whole, there: map[string]string{"state/services/postgres/data/PG_VERSION": "15"}, says: "is not empty"},
		"a lost ledger is there": {archive: whole, there: map[string]string{"state/ledger.json.1": "{}"}, says: "is not empty"},
		"another secret":         {archive: whole, there: map[string]string{"secrets/token": "another"}, says: "secrets/token is there"},
		"another spec":           {archive: whole, there: map[string]string{"state/specs/web.yaml": "another"}, says: "web.yaml is there"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, streamed := range []bool{false, true} {
				to := t.TempDir()
				for name, text := range tc.there {
					path := filepath.Join(to, name)
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
						t.Fatal(err)
					}
				}
				before := describe(t, to)
				var in io.Reader = bytes.NewReader(tc.archive)
				if streamed {
					in = struct{ io.Reader }{in}
				}
				_, err := Restore(t.Context(), RestoreOptions{Places: placesIn(to), Archive: in, MachineID: "this"})
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("streamed %v: %v, want %q", streamed, err, tc.says)
				}
				after := describe(t, to)
				delete(after, "state/lock")
				if diff := cmp.Diff(slices.Sorted(maps.Keys(before)), slices.DeleteFunc(slices.Sorted(maps.Keys(after)), func(n string) bool { return n == "state" && before[n] == "" })); diff != "" {
					t.Errorf("streamed %v: -before +after:\n%s", streamed, diff)
				}
			}
		})
	}
}
