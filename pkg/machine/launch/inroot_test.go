package launch

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMakeInRoot lets a root's links point outside.
func TestMakeInRoot(t *testing.T) {
	base := t.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	for _, d := range []string{root, outside, root + outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"absolute": outside, "relative": "../outside", "inside": "/real"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(root+"/real", 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, tt := range []struct {
		name  string
		dir   bool
		where string // inside the root; "" for an error
	}{
		{"/a/b/c", true, "a/b/c"},
		{"/a/b/file", false, "a/b/file"},
		{"/inside/x", true, "real/x"},
		{"/absolute/x", true, outside + "/x"},
		{"/relative/x", true, ""}, // ROOT/../outside is ROOT/outside, which is not there
	} {
		err := makeInRoot(fd, tt.name, tt.dir)
		if (err == nil) != (tt.where != "") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.where == "" {
			continue
		}
		if info, err := os.Lstat(filepath.Join(root, tt.where)); err != nil || info.IsDir() != tt.dir {
			t.Errorf("%s is not at %s: %v", tt.name, tt.where, err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("written outside the root: %v", entries)
	}
}

// TestLinkToUsr: only what is in /usr and not beside it.
func TestLinkToUsr(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"usr/lib", "usr/bin", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for name, want := range map[string]string{"bin": "", "lib": "usr/lib", "sbin": ""} {
		for range 2 {
			if err := linkToUsr(root, name); err != nil {
				t.Error(err)
			}
		}
		if got, _ := os.Readlink(filepath.Join(dir, name)); got != want {
			t.Errorf("/%s leads to %q, want %q", name, got, want)
		}
	}
}
