package supervise_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/supervise"
)

// skeleton makes a root directory that borrows the host's own programs.
func skeleton(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"usr", "proc", "sys", "dev", "run", "tmp", "var", "root", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"os-release": "", "passwd": "root:x:0:0::/root:/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func (f *fixture) machine(name string, command ...string) supervise.Spec {
	argv := []string{
		"/usr/bin/systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no", "--machine=" + name,
		"--directory=" + skeleton(f.t), "--bind-ro=/usr", "--private-network",
		"--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe", "--",
	}
	s := f.spec(name, "")
	s.Argv = append(argv, command...)
	s.Env = []string{"PATH=/usr/bin:/usr/sbin", "SYSTEMD_SECCOMP=0"}
	s.Leader = true
	return s
}

func TestMachine(t *testing.T) {
	testenv.Root(t, "systemd-nspawn")
	f := newFixture(t)
	dir := f.dir("m")
	spec := f.machine(f.options.Parent, "/usr/bin/sh", "-c", "echo hello from $$; exec sleep 1000")
	got := f.start(dir, spec)
	if got.Leader == 0 || got.Leader == got.PID || !alive(got.Leader) {
		t.Errorf("want the machine's first process as leader, got %+v", got)
	}
	eventually(t, "its output", func() bool {
		lines := supervise.TailLog(dir, 1)
		return len(lines) == 1 && lines[0] == "hello from 1"
	})
	f.stop(dir)
	if alive(got.Leader) {
		t.Error("the leader survived")
	}
	// systemd needs a moment to see that its slice is not needed any more.
	eventually(t, "no cgroup", func() bool {
		for _, hierarchy := range []string{"", "unified/", "systemd/"} {
			if left, _ := filepath.Glob("/sys/fs/cgroup/" + hierarchy + f.options.Parent + "*"); len(left) > 0 {
				return false
			}
		}
		return true
	})
}

func TestMachineEndsByItself(t *testing.T) {
	testenv.Root(t, "systemd-nspawn")
	f := newFixture(t)
	for name, death := range map[string]func(supervise.Status) (int, syscall.Signal){
		"leader": func(s supervise.Status) (int, syscall.Signal) { return s.Leader, syscall.SIGKILL },
		"nspawn": func(s supervise.Status) (int, syscall.Signal) { return s.PID, syscall.SIGKILL },
	} {
		t.Run(name, func(t *testing.T) {
			dir := f.dir("m")
			spec := f.machine(f.options.Parent, "/usr/bin/sleep", "1000")
			status := f.start(dir, spec)
			if err := syscall.Kill(death(status)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the end", func() bool { return !f.status(dir).Running })
			if alive(status.Leader) || alive(status.PID) {
				t.Error("part of the machine lives")
			}
			// And it can be started again. What a killed nspawn itself leaves is
			// for whoever knows nspawn to remove.
			_ = unix.Unmount("/run/systemd/nspawn/unix-export/"+spec.Name, unix.MNT_DETACH)
			f.start(dir, spec)
			f.stop(dir)
		})
	}
}
