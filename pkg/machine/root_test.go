package machine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
	"tekton.host/test/systemdhost"
)

func TestRootfs(t *testing.T) {
	r := newRig(t)
	i := r.instance(2, "serve", r.onRootfs, func(i *resource.Instance) { i.User = "app" })
	u := r.run(i)
	a := r.about(i)
	want := about{UID: 1000, GID: 1001, Groups: []int{1001, 2000}, Args: []string{"guest", "serve"}}
	if diff := cmp.Diff(want, about{UID: a.UID, GID: a.GID, Groups: a.Groups, Args: a.Args}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if a.env("HOME") != "/home/app" || a.env("USER") != "app" {
		t.Errorf("environment is not the user's: %q", a.Env)
	}
	// Files of the rootfs belong to the machine's root; nothing was chowned on disk.
	var inside, onDisk syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d/root/usr/bin/guest", u.Leader), &inside); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Stat(filepath.Join(i.System.RootFS, "usr/bin/guest"), &onDisk); err != nil {
		t.Fatal(err)
	}
	if inside.Uid != i.UIDBase || onDisk.Uid != 0 {
		t.Errorf("guest has uid %d in the machine and %d on disk, want %d and 0", inside.Uid, onDisk.Uid, i.UIDBase)
	}
}

// TestSymlinkTraps restarts a machine that has turned its own tree into links
// to the host.
func TestSymlinkTraps(t *testing.T) {
	r := newRig(t)
	// Not below /tmp, which is a fresh tmpfs at every start of a machine.
	canaryDir, err := os.MkdirTemp("/var/tmp", "tekton-canary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(canaryDir) })
	canaryFile := r.writeFile(filepath.Join(canaryDir, "passwd"), "untouched", 0o644)
	if err := os.Chmod(canaryDir, 0o777); err != nil {
		t.Fatal(err)
	}
	r.mustPut(resource.Volume{ObjectKind: "Container", ObjectName: "web", Volume: "data", Policy: resource.DeleteData}, "container.web.data")
	i := r.instance(3, "serve", r.onRootfs, func(i *resource.Instance) {
		i.DNS = r.naming.Service()
		i.Volumes = []resource.Bind{{Source: "container.web.data", Target: "/data"}}
	})
	u := r.run(i)
	// The links' target exists inside too, so that the machine itself lives on.
	r.call(i, "/write", "path", canaryDir+"/inside", "data", "x")
	for path, target := range map[string]string{
		"/etc": canaryDir, "/data/link": canaryDir, "/usr/lib": canaryDir,
		"/usr/sbin": canaryDir, "/root": "/../../../../../../.." + canaryDir,
	} {
		if body, code := r.call(i, "/symlink", "path", path, "target", target); code != 200 {
			t.Errorf("link %s: %d %s", path, code, body)
		}
	}
	// A planted configuration of nspawn, at both places where it looks beside a root.
	planted := "[Exec]\nEnvironment=PLANTED=yes\nPrivateUsers=no\n"
	r.writeFile(filepath.Join(r.layout.Machines(), i.Name, i.Name+".nspawn"), planted, 0o644)
	r.writeFile(filepath.Join(r.layout.Machines(), i.Name, "stage", i.Name+".nspawn"), planted, 0o644)
	plantInEtc(t, i.Name, planted)

	r.mustDelete(u, i.Name)
	u = r.start(i)
	a := r.about(i)
	if a.env("PLANTED") != "" || !strings.Contains(a.UIDMap, fmt.Sprint(i.UIDBase)) {
		t.Errorf("the planted configuration was honoured: %q %q", a.env("PLANTED"), a.UIDMap)
	}
	if e := readFile(t, fmt.Sprintf("/proc/%d/environ", u.Leader)); strings.Contains(e, "PLANTED") {
		t.Errorf("the planted configuration was honoured: %q", e)
	}
	r.mustDelete(u, i.Name)
	r.mustDelete(i, i.Name)
	r.mustDelete(resource.Volume{ObjectKind: "Container", ObjectName: "web", Volume: "data", Policy: resource.DeleteData}, "container.web.data")
	if n, err := r.PurgeTrash(r.ctx, 0); n != 1 || err != nil {
		t.Errorf("purged %d volumes: %v", n, err)
	}
	if got := readFile(t, canaryFile); got != "untouched" {
		t.Errorf("the host's file now holds %q", got)
	}
	if entries, _ := os.ReadDir(canaryDir); len(entries) != 1 {
		t.Errorf("the host's directory was written to: %v", entries)
	}
}

// plantInEtc puts a file where nspawn looks for an administrator's
// configuration, in this test's mount namespace or systemd host only.
func plantInEtc(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll("/etc/systemd", 0o755); err != nil {
		t.Fatal(err)
	}
	if !systemdhost.Inside() {
		if err := unix.Mount("tmpfs", "/etc/systemd", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount("/etc/systemd", unix.MNT_DETACH) })
	}
	if err := os.MkdirAll("/etc/systemd/nspawn", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/systemd/nspawn/"+name+".nspawn", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestStorePath boots a store path's own init on a root that is a volume.
func TestStorePath(t *testing.T) {
	r := newRig(t)
	system := storePath(t, r)
	root := resource.Volume{ObjectKind: "Container", ObjectName: "nix", Volume: ".root", Policy: resource.DeleteData}
	r.mustPut(root, "container.nix..root")
	data := resource.Volume{ObjectKind: "Container", ObjectName: "nix", Volume: "data"}
	r.mustPut(data, "container.nix.data")
	i := r.instance(4, "", func(i *resource.Instance) {
		i.System = resource.System{StorePath: system}
		i.Command, i.Mounts = nil, nil
		i.DNS = r.naming.Service()
		i.Environment = []string{"PLAIN=1"}
		i.Volumes = []resource.Bind{{Source: "container.nix..root", Target: "/"}, {Source: "container.nix.data", Target: "/var/lib/data"}}
		i.Secrets = []resource.Secret{{Name: "s", File: r.writeFile(filepath.Join(r.layout.Secrets, "s"), `a"b$c`, 0o600), Env: "SECRET"}}
	})
	u := r.run(i)
	a := r.about(i)
	if a.PID != 1 || a.UID != 0 || a.Args[0] != system+"/init" {
		t.Errorf("init runs as pid %d, uid %d, %q", a.PID, a.UID, a.Args)
	}
	if a.env("PLAIN") != "1" || a.env("SECRET") != "" {
		t.Errorf("init's environment: %q; secrets belong into the file for units only", a.Env)
	}
	if got, _ := r.call(i, "/read", "path", "/run/tekton-environment"); got != "PLAIN=\"1\"\nSECRET=\"a\\\"b\\$c\"\n" {
		t.Errorf("environment file:\n%s", got)
	}
	if _, code := r.call(i, "/write", "path", "/nix/store/x", "data", "x"); code != 403 {
		t.Errorf("the store is writable: %d", code)
	}
	for _, path := range []string{"/state", "/var/lib/data/state"} {
		if body, code := r.call(i, "/write", "path", path, "data", "kept"); code != 200 {
			t.Errorf("write %s: %s", path, body)
		}
	}
	r.mustDelete(u, i.Name)
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(r.layout.Volumes(), "container/nix/.root/state"), &st); err != nil || st.Uid != 0 {
		t.Errorf("the root volume's file has uid %d on disk (%v), want the unshifted 0", st.Uid, err)
	}
	// As somebody inside may have: nspawn would want /lib and others to lead there.
	for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := os.MkdirAll(filepath.Join(r.layout.Volumes(), "container/nix/.root/usr", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A new incarnation, with other ids, finds the same root.
	r.mustDelete(i, i.Name)
	j := i
	j.Name, j.Ordinal, j.Slot, j.UIDBase, j.Addr = "web4-2", 2, 5, r.naming.UIDBase(5), r.naming.Addr(5)
	u = r.run(j)
	if got, _ := r.call(j, "/read", "path", "/state"); got != "kept" {
		t.Errorf("the root's file reads %q after the replacement", got)
	}
	if u.Failures != 0 {
		t.Errorf("%d failures", u.Failures)
	}
}

// storePath makes a Nix store in this test's mount namespace.
func storePath(t *testing.T, r *rig) string {
	t.Helper()
	if _, err := os.Stat("/nix"); err != nil {
		if err := os.Mkdir("/nix", 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove("/nix") })
	}
	if err := unix.Mount(r.state, "/nix", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/nix", unix.MNT_DETACH) })
	guest := readFile(t, filepath.Join(r.programs, "guest"))
	r.writeFile("/nix/store/abc-system/init", guest, 0o755)
	return "/nix/store/abc-system"
}

func TestEphemeral(t *testing.T) {
	r := newRig(t)
	for n, ephemeral := range []bool{false, true} {
		t.Run(fmt.Sprint(ephemeral), func(t *testing.T) {
			i := r.instance(6+n, "serve", func(i *resource.Instance) { i.Ephemeral = ephemeral })
			u := r.run(i)
			if _, code := r.call(i, "/write", "path", "/root/state", "data", "x"); code != 200 {
				t.Fatalf("write: %d", code)
			}
			r.mustDelete(u, i.Name)
			u = r.start(i)
			_, code := r.call(i, "/read", "path", "/root/state")
			if kept := code == 200; kept == ephemeral {
				t.Errorf("after a restart the file is there: %v, want %v", kept, !ephemeral)
			}
			r.mustDelete(u, i.Name)
		})
	}
}

// TestLaunchFailures checks the reason and the words of starts that cannot work.
func TestLaunchFailures(t *testing.T) {
	r := newRig(t)
	overlay := overlayRootfs(t, r)
	limited := r.plantLinks()
	for n, tt := range []struct {
		name, reason, words string
		change              func(*resource.Instance)
	}{
		{"no rootfs", "SystemMissing", "is not on this host", func(i *resource.Instance) { i.System = resource.System{RootFS: r.state + "/none"} }},
		{"no mount source", "SystemMissing", r.state + "/nothing", func(i *resource.Instance) { i.Mounts[0].Source = r.state + "/nothing" }},
		{"no volume", "SystemMissing", "container/web/gone", func(i *resource.Instance) {
			i.Volumes = []resource.Bind{{Source: "container.web.gone", Target: "/data"}}
		}},
		{"no secret", "SecretMissing", "tekton secret set", func(i *resource.Instance) {
			i.Secrets = []resource.Secret{{Name: "token", File: r.state + "/none", Env: "TOKEN"}}
		}},
		{"a mount's link out of the host paths", "SystemMissing", "leads out of " + r.state + "/allowed", func(i *resource.Instance) { limited(i, "/allowed/out") }},
		{"a mount beside the host paths", "SystemMissing", "in none of the directories", func(i *resource.Instance) { limited(i, "/allowed2") }},
		{"a rootfs's link out of the host paths", "SystemMissing", "leads out of " + r.state + "/allowed", func(i *resource.Instance) {
			limited(i, "/allowed/dir")
			i.System = resource.System{RootFS: r.state + "/allowed/image"}
		}},
		{"rootfs on overlay", "IDMapUnsupported", "(overlay)", func(i *resource.Instance) { i.System = resource.System{RootFS: overlay} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := r.instance(8+n, "serve", tt.change)
			r.mustPut(i, i.Name)
			err := r.put(resource.Unit{Name: i.Name, Running: true}, i.Name)
			if reasonOf(err) != tt.reason || !strings.Contains(fmt.Sprint(err), tt.words) {
				t.Errorf("error %q with reason %q, want %q in it and %s", err, reasonOf(err), tt.words, tt.reason)
			}
		})
	}
}

// plantLinks makes a directory with links in it that lead out of it, and one
// that does not. What it returns adds a mount to an instance whose source is
// limited to that directory.
func (r *rig) plantLinks() func(i *resource.Instance, path string) {
	r.t.Helper()
	r.writeFile(filepath.Join(r.state, "allowed/dir/file"), "allowed", 0o644)
	r.writeFile(filepath.Join(r.state, "allowed/file"), "itself", 0o644)
	r.writeFile(filepath.Join(r.state, "allowed2/file"), "not allowed", 0o644)
	for name, target := range map[string]string{"out": "../allowed2", "image": r.rootfs(), "in": "dir"} {
		if err := os.Symlink(target, filepath.Join(r.state, "allowed", name)); err != nil {
			r.t.Fatal(err)
		}
	}
	return func(i *resource.Instance, path string) {
		i.HostPaths = []string{r.programs, r.state + "/allowed"}
		i.Mounts = append(i.Mounts, resource.Bind{Source: r.state + path, Target: "/mnt/it", ReadOnly: true})
	}
}

// TestHostPaths: links that stay in what a source may use are followed, and
// without a limit all are.
func TestHostPaths(t *testing.T) {
	r := newRig(t)
	limited := r.plantLinks()
	for n, tt := range []struct {
		path, holds string
		limited     bool
	}{
		{"/allowed", "itself", true},
		{"/allowed/in", "allowed", true},
		{"/allowed/out", "not allowed", false},
	} {
		i := r.instance(3+n, "serve", func(i *resource.Instance) {
			if limited(i, tt.path); !tt.limited {
				i.HostPaths = nil
			}
		})
		u := r.run(i)
		if got, code := r.call(i, "/read", "path", "/mnt/it/file"); got != tt.holds {
			t.Errorf("%s: its file holds %q (%d), want %q", tt.path, got, code, tt.holds)
		}
		r.mustDelete(u, i.Name)
		r.mustDelete(i, i.Name)
	}
}

// overlayRootfs mounts the tiny rootfs as an overlay, which cannot be idmapped.
func overlayRootfs(t *testing.T, r *rig) string {
	t.Helper()
	dir := filepath.Join(r.state, "overlay")
	for _, d := range []string{"up", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/up,workdir=%s/work", r.rootfs(), dir, dir)
	if err := unix.Mount("overlay", dir+"/root", "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/root", unix.MNT_DETACH) })
	return dir + "/root"
}
