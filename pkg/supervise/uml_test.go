package supervise_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// umlEnv tells this test binary that it is the first process of a User-Mode Linux.
const umlEnv = "TEKTON_UML"

// TestLimitsUnderRealControllers boots a kernel of its own, User-Mode Linux,
// whose cgroup v2 has all controllers, with this package's tests as its only
// program. Where the machine's own cgroup v2 has them it is seen there as well.
func TestLimitsUnderRealControllers(t *testing.T) {
	if systemdhost.Inside() {
		return // once is enough, and the host has no such kernel
	}
	testenv.Root(t, "linux.uml")
	t.Parallel()
	dir := t.TempDir()
	initrd := filepath.Join(dir, "initrd")
	writeInitrd(t, initrd, map[string]string{"/init": staticTests(t, dir), "/tekton-supervise": supervisetest.Program(t)})

	cmd := exec.CommandContext(t.Context(), "linux.uml", "mem=512M", "initrd="+initrd, "uml_dir="+dir, "con=null", "con0=null,fd:1", "quiet",
		umlEnv+"=1", supervisetest.ProgramEnv+"=/tekton-supervise", testenv.RequireEnv+"=1", "PATH=/",
		"--", "-test.v", "-test.run=^(TestLimitsEnforced|TestLimitsSaidOrEnforced|TestDaemonsDieToo)$")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + memoryDir(dir)}
	// It forks helpers, which have to go with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, t.Output()), io.MultiWriter(&out, t.Output())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Logf("User-Mode Linux: %v", err) // it may abort as it halts; the tests have given their verdict by then
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if !strings.Contains(out.String(), umlVerdict+"0") || strings.Contains(out.String(), "no controller for") {
		t.Error("the limits were not seen to be enforced")
	}
}

// memoryDir is where the kernel keeps its memory, fast only on a tmpfs.
func memoryDir(fallback string) string {
	const shm = "/dev/shm"
	if _, err := os.Stat(shm); err != nil {
		return fallback
	}
	return shm
}

// umlVerdict is followed by the exit code of the tests.
const umlVerdict = "tests in User-Mode Linux ended with "

// umlInit is the life of the first process.
func umlInit(m *testing.M) {
	for _, mount := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"cgroup2", "/sys/fs/cgroup"}, {"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(mount.dir, 0o755); err != nil {
			fmt.Println(err)
		}
		if err := unix.Mount(mount.kind, mount.dir, mount.kind, 0, ""); err != nil {
			fmt.Println("mount", mount, err)
		}
	}
	fmt.Println(umlVerdict + fmt.Sprint(m.Run()))
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// staticTests builds this package's tests as a program that needs no libraries.
func staticTests(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "tests")
	cmd := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-o", path, "tekton.host/pkg/supervise")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build static tests: %v: %s", err, out)
	}
	return path
}

// writeInitrd writes programs, /dev/console and /dev/null as a cpio archive.
func writeInitrd(t *testing.T, path string, programs map[string]string) {
	t.Helper()
	var archive bytes.Buffer
	add := func(name string, mode uint32, major, minor int, content []byte) {
		// newc: inode, mode, uid, gid, links, mtime, size, device, device of a node, length of the name, no checksum.
		fmt.Fprintf(&archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			archive.Len(), mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
		pad(&archive)
		archive.Write(content)
		pad(&archive)
	}
	add("dev", unix.S_IFDIR|0o755, 0, 0, nil)
	add("dev/console", unix.S_IFCHR|0o600, 5, 1, nil)
	add("dev/null", unix.S_IFCHR|0o666, 1, 3, nil)
	for target, source := range programs {
		content, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		add(strings.TrimPrefix(target, "/"), unix.S_IFREG|0o755, 0, 0, content)
	}
	add("TRAILER!!!", 0, 0, 0, nil)
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pad fills up to the alignment of a cpio archive.
func pad(b *bytes.Buffer) { b.Write(make([]byte, -b.Len()&3)) }
