package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
	"tekton.host/test/systemdhost"
)

const (
	// UMLEnv tells this test binary that it is the first process of a User-Mode Linux.
	UMLEnv = "TEKTON_UML"
	// umlVerdict is followed by the exit code of the tests.
	umlVerdict = "tests in User-Mode Linux ended with "
	quotaMount = "/data"
)

// TestQuotaUnderUML boots User-Mode Linux, whose kernel has project quotas,
// with this package's tests as its only program.
func TestQuotaUnderUML(t *testing.T) {
	if os.Getenv(UMLEnv) != "" || systemdhost.Inside() {
		return
	}
	testenv.Root(t, "linux.uml", "mkfs.ext4")
	modules, err := filepath.Glob("/usr/lib/uml/modules/*/kernel/fs/quota/quota_*.ko")
	if err != nil || len(modules) < 2 {
		t.Fatalf("User-Mode Linux has no quota modules: %v %v", modules, err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 32<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	programs := map[string]string{"init": staticTests(t, dir)}
	for _, m := range modules {
		programs[filepath.Base(m)] = m
	}
	writeInitrd(t, filepath.Join(dir, "initrd"), programs)

	cmd := exec.CommandContext(t.Context(), "linux.uml", "mem=256M", "initrd="+dir+"/initrd", "ubda="+image, "uml_dir="+dir,
		"con=null", "con0=null,fd:1", "quiet", UMLEnv+"=1", testenv.RequireEnv+"=1", "--", "-test.v", "-test.run=^TestQuotaEnforced$")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	// It forks helpers, which have to go with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, t.Output()), io.MultiWriter(&out, t.Output())
	if err := cmd.Run(); err != nil {
		t.Errorf("User-Mode Linux: %v", err)
	}
	if !strings.Contains(out.String(), umlVerdict+"0") {
		t.Error("the quota was not seen to be enforced")
	}
}

// UMLInit is the life of the first process there.
func UMLInit(m *testing.M) {
	for _, module := range []string{"quota_tree.ko", "quota_v2.ko"} {
		f, err := os.Open("/" + module)
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
		}
		if err != nil {
			fmt.Println("load", module, err)
		}
	}
	for _, mount := range []struct{ source, dir, kind, options string }{
		{"proc", "/proc", "proc", ""}, {"dev", "/dev", "devtmpfs", ""}, {"/dev/ubda", quotaMount, "ext4", "prjquota"},
	} {
		os.MkdirAll(mount.dir, 0o755)
		if err := unix.Mount(mount.source, mount.dir, mount.kind, 0, mount.options); err != nil {
			fmt.Println("mount", mount, err)
		}
	}
	fmt.Println(umlVerdict + fmt.Sprint(m.Run()))
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// TestQuotaEnforced needs a file system with project quotas, which only the
// User-Mode Linux has for certain.
func TestQuotaEnforced(t *testing.T) {
	if os.Getenv(UMLEnv) == "" {
		return
	}
	write := func(name string, size int) error {
		return os.WriteFile(filepath.Join(quotaMount, name), make([]byte, size), 0o644)
	}
	for _, dir := range []string{"limited", "other", "none"} {
		must(t, os.Mkdir(filepath.Join(quotaMount, dir), 0o755))
	}
	for dir, limit := range map[string]int64{"limited": 1 << 20, "other": 4 << 20, "none": 0} {
		if why, err := setQuota(filepath.Join(quotaMount, dir), limit); why != "" || err != nil {
			t.Fatalf("%s: not enforced: %q %v", dir, why, err)
		}
	}
	dropResource(t)
	if err := write("limited/big", 2<<20); !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
		t.Errorf("2 MiB in 1 MiB: %v, want a full volume", err)
	}
	for _, name := range []string{"other/big", "none/big"} {
		must(t, write(name, 2<<20))
	}
	must(t, os.Remove(filepath.Join(quotaMount, "limited/big")))
	for limit, fits := range map[int64]bool{3 << 20: true, 0: true} {
		if why, err := setQuota(filepath.Join(quotaMount, "limited"), limit); why != "" || err != nil {
			t.Fatalf("change to %d: %q %v", limit, why, err)
		}
		if err := write("limited/big", 2<<20); (err == nil) != fits {
			t.Errorf("2 MiB in %d: %v", limit, err)
		}
	}
	// What was moved away does not count against what takes its place.
	limited := filepath.Join(quotaMount, "limited")
	must(t, os.Rename(limited, filepath.Join(quotaMount, "trashed")))
	must(t, os.Mkdir(limited, 0o755))
	if why, err := setQuota(limited, 3<<20); why != "" || err != nil {
		t.Fatalf("the successor: %q %v", why, err)
	}
	if used, known := quotaUsed(limited); used > 1<<20 || !known {
		t.Errorf("the empty successor has used %d, known: %v", used, known)
	}
	if err := write("limited/big", 2<<20); err != nil {
		t.Errorf("2 MiB in the successor's 3 MiB: %v", err)
	}
}

// dropResource takes away what lets the host's root exceed any quota: machines
// do not have it, being in a user namespace.
func dropResource(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(t, unix.Capget(&header, &data[0]))
	data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	must(t, unix.Capset(&header, &data[0]))
}

// staticTests builds this package's tests as a program that needs no libraries.
func staticTests(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "tests")
	cmd := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-o", path, "tekton.host/pkg/machine")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build static tests: %v: %s", err, out)
	}
	return path
}

// writeInitrd writes programs and /dev/console as a cpio archive.
func writeInitrd(t *testing.T, path string, programs map[string]string) {
	t.Helper()
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	add := func(name string, mode uint32, major, minor int, content []byte) {
		// newc: inode, mode, uid, gid, links, mtime, size, device, device of a node, length of the name, no checksum.
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			b.Len(), mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
		pad()
		b.Write(content)
		pad()
	}
	add("dev", unix.S_IFDIR|0o755, 0, 0, nil)
	add("dev/console", unix.S_IFCHR|0o600, 5, 1, nil)
	for name, source := range programs {
		content, err := os.ReadFile(source)
		must(t, err)
		add(name, unix.S_IFREG|0o755, 0, 0, content)
	}
	add("TRAILER!!!", 0, 0, 0, nil)
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
}
