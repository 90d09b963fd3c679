package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/machine/handover"
)

func TestResolveUser(t *testing.T) {
	table := func(s string) (out [][]string) {
		for line := range strings.Lines(s) {
			out = append(out, strings.Split(strings.TrimSpace(line), ":"))
		}
		return out
	}
	passwd := table("root:x:0:0:root:/root:/bin/sh\napp:x:100:101::/srv/app:/bin/false\nbroken:x:y:z::/:/bin/sh\nshort:x\n")
	group := table("root:x:0:\nwheel:x:10:root,app\napp:x:101:app\nother:x:102:apple\n")
	for _, tt := range []struct {
		spec  string
		want  user
		words string
	}{
		{"", user{"root", 0, 0, []int{0, 10}, "/root"}, ""},
		{"root", user{"root", 0, 0, []int{0, 10}, "/root"}, ""},
		{"app", user{"app", 100, 101, []int{101, 10}, "/srv/app"}, ""},
		{"100", user{"app", 100, 101, []int{101, 10}, "/srv/app"}, ""},
		{"100:7", user{"app", 100, 7, []int{7, 10, 101}, "/srv/app"}, ""},
		{"5000", user{"5000", 5000, 5000, []int{5000}, "/"}, ""},
		{"5000:6", user{"5000", 5000, 6, []int{6}, "/"}, ""},
		{"ghost", user{}, "not in /etc/passwd"},
		{"short", user{}, "not in /etc/passwd"},
		{"broken", user{}, "no valid ids"},
		{"app:staff", user{}, "not a group number"},
		{"4294967295", user{}, "not in /etc/passwd"},
	} {
		got, err := resolveUser(tt.spec, passwd, group)
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(user{})); diff != "" {
			t.Errorf("%q -want +got:\n%s", tt.spec, diff)
		}
		if !strings.Contains(fmt.Sprint(err), tt.words) || (err == nil) != (tt.words == "") {
			t.Errorf("%q: error %v, want %q", tt.spec, err, tt.words)
		}
	}
	if got, err := resolveUser("", nil, nil); err != nil || got.home != "/root" {
		t.Errorf("root without passwd: %+v %v", got, err)
	}
}

func TestMerge(t *testing.T) {
	got := merge([]string{"A=1", "B=2"}, []string{"B=3=4", "C="}, []string{"A=5"})
	if diff := cmp.Diff([]string{"A=5", "B=3=4", "C="}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHandover(t *testing.T) {
	f, err := handover.Seal(handover.Document{Hostname: "web", Files: []handover.File{{Path: "/run/x", Data: []byte{0, 255}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the sealed document can be written")
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	d, err := handover.Open(uintptr(fd))
	if err != nil || d.Hostname != "web" || string(d.Files[0].Data) != "\x00\xff" {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := handover.Open(9999); err == nil {
		t.Error("a missing document was opened")
	}
}

// TestGiveTree: what nobody owns is given to the user whole, the top last; what
// a link leads to is not touched, nor a volume that somebody owns.
func TestGiveTree(t *testing.T) {
	testenv.Root(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"a/b/c", "d"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"a/out": outside, "a/up": "../..", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	owner := func(path string) uint32 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Uid
	}
	me := user{uid: 1234, gid: 1235}
	if err := os.Lchown(dir, handover.Nobody, handover.Nobody); err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		if again {
			me.uid = 4321 // it is the first one's now
		}
		if err := giveVolume(dir, me); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".", "a", "a/b/c", "a/out", "a/up", "d", "loop"} {
			if got := owner(filepath.Join(dir, name)); got != 1234 {
				t.Errorf("%s belongs to %d", name, got)
			}
		}
	}
	if owner(outside) != 0 || owner(filepath.Dir(dir)) != 0 {
		t.Error("a link was followed")
	}
}
