package machine_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// hostFiles is a directory of the host that nobody may change; a tree is planted
// with links to it. It is not below /tmp, which is fresh in every machine.
func hostFiles(t *testing.T) (dir string, unchanged func()) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "tekton-canary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"file", "null", "urandom", "resolv.conf", "sub/file", "pts/file", "host/file"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("untouched"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	before := metadata(t, dir)
	return dir, func() {
		t.Helper()
		if now := metadata(t, dir); now != before {
			t.Errorf("the host's files were\n%sand are\n%s", before, now)
		}
	}
}

// metadata tells all that a change of a tree would show in.
func metadata(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		content := ""
		if d.Type().IsRegular() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(raw)
		}
		fmt.Fprintf(&b, "%s %o %d:%d links=%d size=%d dev=%d mtime=%v ctime=%v %s\n", path, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Dev, st.Mtim, st.Ctim, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHostileImage starts root file systems whose directories lead to the host.
func TestHostileImage(t *testing.T) {
	r := newRig(t)
	volume := resource.Volume{ObjectKind: "Container", ObjectName: "web", Volume: "data", Policy: resource.DeleteData}
	r.mustPut(volume, "container.web.data")
	for n, name := range []string{"dev", "proc", "sys", "run", "tmp", "etc", "usr/sbin", "root", "nix", "data"} {
		t.Run(name, func(t *testing.T) {
			dir, unchanged := hostFiles(t)
			image := filepath.Join(r.state, "images", filepath.Base(name))
			err := os.CopyFS(image, os.DirFS(r.rootfs()))
			if err == nil {
				err = os.RemoveAll(filepath.Join(image, name))
			}
			if err == nil { // inside, the link leads somewhere too
				err = os.MkdirAll(filepath.Join(image, dir), 0o755)
			}
			if err == nil {
				err = os.Symlink(dir, filepath.Join(image, name))
			}
			if err != nil {
				t.Fatal(err)
			}
			i := r.instance(2+n, "serve", r.onRootfs, func(i *resource.Instance) {
				i.System.RootFS, i.DNS = image, r.naming.Service()
				i.Volumes = []resource.Bind{{Source: "container.web.data", Target: "/data/sub/new"}}
			})
			u := r.run(i)
			unchanged()
			r.mustDelete(u, i.Name)
			r.mustDelete(i, i.Name)
			unchanged()
		})
	}
}

// TestDeepTrees deletes a machine that has nested directories and cgroups deeper
// than a path may be long.
func TestDeepTrees(t *testing.T) {
	r := newRig(t)
	i := r.instance(2, "serve")
	u := r.run(i)
	// Which of these there are depends on the host; in each that is its own it may nest.
	nested := 0
	for _, path := range []string{"/root", "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, code := r.call(i, "/nest", "path", path); code == http.StatusOK {
			nested++
		}
	}
	if nested < 2 {
		t.Errorf("trees were nested in %d places: not in cgroups", nested)
	}
	if _, err := r.supervisor.Units(r.ctx, "tekton/"+installation); err != nil {
		t.Error(err)
	}
	r.mustDelete(u, i.Name)
	r.mustDelete(i, i.Name)
	for depth := range 5 {
		if left, _ := filepath.Glob("/sys/fs/cgroup" + strings.Repeat("/*", depth) + "/" + r.naming.Unit(i.Name)); len(left) > 0 {
			t.Errorf("cgroups are left: %s", left)
		}
	}
}
