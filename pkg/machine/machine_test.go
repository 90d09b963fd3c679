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
)

const canary = "canary-Zq7@/:x"

func TestHostSystem(t *testing.T) {
	r := newRig(t)
	secret := r.writeFile(filepath.Join(r.layout.Secrets, "token"), canary+"\n", 0o600)
	r.mustPut(resource.Volume{ObjectKind: "Container", ObjectName: "web", Volume: "data"}, "container.web.data")
	i := r.instance(1, "serve", func(i *resource.Instance) {
		i.User, i.WorkDir, i.DNS = "daemon", "/var/tmp", r.naming.Service()
		i.Environment = []string{"GREETING=hello world", "HOME=/somewhere"}
		i.Volumes = []resource.Bind{{Source: "container.web.data", Target: "/srv/data"}}
		i.Secrets = []resource.Secret{
			{Name: "token", File: secret, Path: "/run/credentials/deep/token", Env: "TOKEN"},
			{Name: "url", File: secret, Env: "DATABASE_URL", Format: "postgresql://r:%s@h/d"},
		}
	})
	u := r.run(i)
	a := r.about(i)

	t.Run("identity", func(t *testing.T) {
		base := int(i.UIDBase)
		want := about{UID: 1, GID: 1, Groups: []int{1}, Hostname: "web1", Dir: "/var/tmp", Args: i.Command, Resolv: "nameserver 10.99.0.1\n"}
		got := about{UID: a.UID, GID: a.GID, Groups: a.Groups, Hostname: a.Hostname, Dir: a.Dir, Args: a.Args, Resolv: a.Resolv}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		fields := strings.Fields(readFile(t, fmt.Sprintf("/proc/%d/uid_map", u.Leader)))
		if diff := cmp.Diff([]string{"0", fmt.Sprint(base), "65536"}, fields); diff != "" {
			t.Errorf("uid_map -want +got:\n%s", diff)
		}
		for _, person := range []string{"nobody:x:65534"} {
			if !strings.Contains(a.Passwd, person) {
				t.Errorf("passwd lacks %s:\n%s", person, a.Passwd)
			}
		}
	})
	t.Run("environment", func(t *testing.T) {
		for k, want := range map[string]string{
			"GREETING": "hello world", "HOME": "/somewhere", "USER": "daemon", "TOKEN": canary,
			"DATABASE_URL": "postgresql://r:canary-Zq7%40%2F%3Ax@h/d", "LISTEN_FDS": "", "container": "systemd-nspawn",
		} {
			if got := a.env(k); got != want {
				t.Errorf("%s = %q, want %q", k, got, want)
			}
		}
	})
	t.Run("capabilities", func(t *testing.T) {
		var caps uint64
		fmt.Sscanf(a.Caps, "%x", &caps)
		for name, bit := range map[string]int{"audit_control": unix.CAP_AUDIT_CONTROL, "mknod": unix.CAP_MKNOD, "net_raw": unix.CAP_NET_RAW, "sys_time": unix.CAP_SYS_TIME, "sys_module": unix.CAP_SYS_MODULE} {
			if caps&(1<<bit) != 0 {
				t.Errorf("capability %s is in the bounding set %s", name, a.Caps)
			}
		}
	})
	t.Run("descriptors", func(t *testing.T) {
		for _, fd := range a.FDs {
			if strings.Contains(fd, "memfd") || strings.HasPrefix(fd, r.state) {
				t.Errorf("the command has inherited %s", fd)
			}
		}
	})
	t.Run("credentials", func(t *testing.T) { checkCredentials(t, r, i, u) })
	t.Run("host files belong to nobody", func(t *testing.T) {
		var st syscall.Stat_t
		if err := syscall.Stat(fmt.Sprintf("/proc/%d/root/run/tekton/init", u.Leader), &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 0 {
			t.Errorf("the first process's file has uid %d on the host, want 0: it maps to nobody", st.Uid)
		}
		if _, code := r.call(i, "/write", "path", "/run/tekton/init", "data", "x"); code != 403 {
			t.Errorf("the first process's program could be written: %d", code)
		}
		if _, code := r.call(i, "/write", "path", "/usr/tekton-test-canary", "data", "x"); code != 403 {
			t.Errorf("the host's /usr could be written: %d", code)
		}
	})
	t.Run("volume", func(t *testing.T) {
		if _, code := r.call(i, "/write", "path", "/srv/data/file", "data", "kept"); code != 200 {
			t.Fatalf("the machine's user cannot write its volume: %d", code)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(r.layout.Volumes(), "container/web/data/file"), &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 1 || st.Gid != 1 {
			t.Errorf("ids on disk are %d:%d, want the unshifted 1:1", st.Uid, st.Gid)
		}
	})
	t.Run("no mount on the host", func(t *testing.T) {
		if mounts := readFile(t, "/proc/self/mountinfo"); strings.Contains(mounts, r.state) {
			t.Errorf("mounts of the machine are visible on the host:\n%s", mounts)
		}
		if left, _ := filepath.Glob("/run/systemd/nspawn/*/" + i.Name); len(left) > 0 {
			t.Errorf("nspawn has left on the host: %v", left)
		}
	})
	r.mustDelete(u, i.Name)
	if _, _, present := observed[resource.Unit](r, i.Name); present {
		t.Error("the stopped unit is still observed")
	}
	if alive(u.Leader) {
		t.Error("the leader lives after the stop")
	}
	r.mustDelete(i, i.Name)
	if _, err := os.Lstat(filepath.Join(r.layout.Machines(), i.Name)); err == nil {
		t.Error("the machine's directory is still there")
	}
}

// checkCredentials looks for the secret everywhere it must not be.
func checkCredentials(t *testing.T, r *rig, i resource.Instance, u resource.Unit) {
	inside := fmt.Sprintf("/proc/%d/root/run/credentials/deep/token", u.Leader)
	var st syscall.Stat_t
	if err := syscall.Stat(inside, &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&0o7777 != 0o400 || st.Uid != i.UIDBase+1 {
		t.Errorf("credential has mode %o and owner %d, want 400 and %d", st.Mode&0o7777, st.Uid, i.UIDBase+1)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(inside, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		t.Errorf("credential is on file system %#x (%v), want tmpfs", fs.Type, err)
	}
	if got, _ := r.call(i, "/read", "path", "/run/credentials/deep/token"); got != canary+"\n" {
		t.Errorf("the machine reads %q", got)
	}
	cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range cmdlines {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "Zq7") {
			t.Errorf("the secret is in %s", f)
		}
	}
	status := u.Leader
	for _, env := range []string{fmt.Sprintf("/proc/%d/environ", status), fmt.Sprintf("/proc/%d/environ", parentOf(t, status))} {
		if strings.Contains(readFile(t, env), "Zq7") {
			t.Errorf("the secret is in nspawn's environment %s", env)
		}
	}
	filepath.WalkDir(r.layout.Machines(), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.Contains(readFile(t, path), "Zq7") {
			t.Errorf("the secret is on disk in %s", path)
		}
		return nil
	})
}

func parentOf(t *testing.T, pid int) (ppid int) {
	t.Helper()
	for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if v, ok := strings.CutPrefix(line, "PPid:"); ok {
			fmt.Sscan(v, &ppid)
		}
	}
	return ppid
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
