package nixos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/machine/nixos/conf"
	"tekton.host/pkg/resource"
)

const mark = "tekton/0123456789ab/uid"

func testPaths(t *testing.T) Paths {
	d := t.TempDir()
	return Paths{Conf: d + "/etc", Roots: d + "/roots", Profiles: d + "/profiles", GCRoots: d + "/gcroots"}
}

func box(t *testing.T, system string) Container {
	return Container{Name: "web", System: system, Root: t.TempDir(), Conf: conf.Conf{Mark: mark, PrivateNetwork: true}}
}

func TestPlaceAndRemove(t *testing.T) {
	p, c := testPaths(t), box(t, "/nix/store/one")
	for range 2 { // the second changes nothing
		if err := p.place(c); err != nil {
			t.Fatal(err)
		}
	}
	if target, err := os.Readlink(filepath.Join(p.Roots, "web")); target != c.Root {
		t.Errorf("the root is %q (%v)", target, err)
	}
	if err := os.WriteFile(filepath.Join(c.Root, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// What a container planted in the directories that it can write to.
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(p.GCRoots, "web", "planted")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.remove("web", "tekton/0123456789ab/other"); err != nil {
		t.Fatal(err)
	}
	// A daemon that was killed while it wrote the file has left a part of it.
	if err := os.WriteFile(p.fresh("web"), []byte("# tek"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.conf("web")); err != nil {
		t.Errorf("removed for an owner that it is not of: %v", err)
	}
	for range 2 {
		if err := p.remove("web", mark); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{p.Conf, p.Roots, p.Profiles, p.GCRoots} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v %v", dir, left, err)
		}
	}
	for _, kept := range []string{filepath.Join(c.Root, "data"), filepath.Join(outside, "data")} {
		if _, err := os.Stat(kept); err != nil {
			t.Error(err)
		}
	}
}

// TestForeign: whatever has the name already stays as it is.
func TestForeign(t *testing.T) {
	for what, plant := range map[string]func(p Paths) string{
		"a file of nobody": func(p Paths) string { return write(t, p.conf("web"), "AUTO_START=1\n") },
		"a file of another installation": func(p Paths) string {
			return write(t, p.conf("web"), "# tekton/ba9876543210/uid web-1\nAUTO_START=1\n")
		},
		"a root":    func(p Paths) string { return write(t, filepath.Join(p.Roots, "web", "etc/passwd"), "x") },
		"a profile": func(p Paths) string { return write(t, filepath.Join(p.Profiles, "web", "system"), "x") },
	} {
		t.Run(what, func(t *testing.T) {
			p := testPaths(t)
			path := plant(p)
			before, _ := os.ReadFile(path)
			err := p.place(box(t, "/nix/store/one"))
			if resource.Reason(err, "") != "Conflict" || !strings.Contains(err.Error(), filepath.Dir(p.Conf)) {
				t.Errorf("error %v", err)
			}
			if err := p.remove("web", mark); err != nil {
				t.Error(err)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("%s was changed: %q %v", path, after, err)
			}
		})
	}
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSetProfile: generations as Nix makes them; one before the present stays.
func TestSetProfile(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ system, want string }{
		{"/nix/store/one", "system-1-link"},
		{"/nix/store/one", "system-1-link"},
		{"/nix/store/two", "system-1-link system-2-link"},
		{"/nix/store/three", "system-2-link system-3-link"},
		{"/nix/store/two", "system-3-link system-4-link"},
	} {
		if err := setProfile(dir, c.system); err != nil {
			t.Fatal(err)
		}
		if target, _ := os.Readlink(filepath.Join(dir, "system")); !strings.HasSuffix(c.want, target) {
			t.Errorf("%s: the profile is %s", c.system, target)
		} else if target, _ = os.Readlink(filepath.Join(dir, target)); target != c.system {
			t.Errorf("%s: its generation is %s", c.system, target)
		}
		var names []string
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.Name() != "system" {
				names = append(names, e.Name())
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.system, got, c.want)
		}
	}
	// A container has put something else in its place.
	if err := os.Remove(filepath.Join(dir, "system")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "system")); err != nil {
		t.Fatal(err)
	}
	if err := setProfile(dir, "/nix/store/two"); err != nil {
		t.Fatal(err)
	}
	if target, _ := os.Readlink(filepath.Join(dir, "system")); target != "system-5-link" {
		t.Errorf("the profile is %s", target)
	}
}

// TestDeliver: links that the machine's root planted lead nowhere.
func TestDeliver(t *testing.T) {
	start := func(t *testing.T, plant func(root, outside string) error) (root, outside string, err error) {
		root, outside = t.TempDir(), t.TempDir()
		for _, dir := range []string{"etc", "var"} {
			if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := plant(root, outside); err != nil {
			t.Fatal(err)
		}
		err = deliver(filepath.Join(t.TempDir(), "run"), Container{Root: root, Guard: true, Resolver: "10.90.0.1"})
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("written outside of the root: %v", left)
		}
		return root, outside, err
	}
	root, _, err := start(t, func(root, outside string) error {
		return os.Symlink(filepath.Join(outside, "x"), filepath.Join(root, "etc/resolv.conf"))
	})
	if b, readErr := os.ReadFile(filepath.Join(root, "etc/resolv.conf")); err != nil || string(b) != "nameserver 10.90.0.1\n" {
		t.Errorf("%q %v %v", b, readErr, err)
	}
	for _, path := range Guarded {
		if _, err := os.Lstat(filepath.Join(root, path)); err != nil {
			t.Error(err)
		}
		_, _, err := start(t, func(root, outside string) error {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
				return err
			}
			_ = os.Remove(filepath.Join(root, path))
			return os.Symlink(filepath.Join(outside, "x"), filepath.Join(root, path))
		})
		if err == nil {
			t.Errorf("%s is a link out of the root, and the container is started", path)
		}
	}
}
