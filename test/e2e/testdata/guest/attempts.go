package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempts are ways out of a machine, and into what it has no business with.
// None changes anything when it succeeds but in this process's own mounts.
func attempts() map[string]func() error {
	out := map[string]func() error{
		"mknod of the memory":   func() error { return unix.Mknod("/run/mem", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))) },
		"mknod of a disk":       func() error { return unix.Mknod("/run/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))) },
		"kernel log":            func() error { return second(unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 64))) },
		"kernel log, console":   func() error { return second(unix.Klogctl(unix.SYSLOG_ACTION_CONSOLE_LEVEL, nil)) },
		"kernel addresses":      kernelAddresses,
		"clock":                 func() error { return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: -1}) },
		"clock, adjusted":       func() error { return second(unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: 1})) },
		"module":                func() error { return unix.InitModule([]byte("no module"), "") },
		"module, by descriptor": func() error { return unix.FinitModule(0, "", 0) },
		"module, removed":       func() error { return unix.DeleteModule("no_such_module", 0) },
		"ctrl-alt-del":          func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) },
		"accounting":            func() error { return unix.Acct("/run/no-such-file") },
		"raw socket":            func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
		"packet socket":         func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
		"audit socket":          func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT) },
		"handle of a file":      openByHandle,
		"trace the first":       func() error { return traced(1) },
		"own namespaces":        nested,
		"host's journal":        func() error { return connectUnix("/run/systemd/journal/socket") },
		"host's bus":            func() error { return connectUnix("/run/dbus/system_bus_socket") },
		"the disks":             globbed("/dev/sd*", "/dev/vd*", "/dev/nvme*", "/dev/dm-*", "/dev/loop*", "/dev/mapper/*"),
		"firmware":              globbed("/sys/firmware/*/*"),
		"debug file system":     globbed("/sys/kernel/debug/*", "/sys/kernel/tracing/*"),
	}
	for name, call := range map[string][5]uintptr{
		"kexec":               {unix.SYS_KEXEC_LOAD, 0, 0, 0, 0},
		"kexec, by file":      {unix.SYS_KEXEC_FILE_LOAD, ^uintptr(0), ^uintptr(0), 0, 0},
		"I/O privilege":       {unix.SYS_IOPL, 3},
		"I/O ports":           {unix.SYS_IOPERM, 0x60, 1, 1},
		"swap":                {unix.SYS_SWAPON, address("/run/no-such-file"), 0},
		"bpf map":             {unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&bpfMap)), unsafe.Sizeof(bpfMap)},
		"key":                 {unix.SYS_ADD_KEY, address("user"), address("tekton"), address("x"), 1},
		"key of the session":  {unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0},
		"host's performance":  {unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&perf)), ^uintptr(0), 0, ^uintptr(0)},
		"memory of the first": {unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0},
	} {
		out[name] = func() error { return raw(call) }
	}
	for _, path := range []string{"/proc/kcore", "/proc/kmsg", "/proc/kallsyms", "/proc/timer_list", "/proc/keys", "/proc/1/root/proc/version", "/dev/mem", "/dev/kmsg"} {
		out["read "+path] = func() error { return readable(path) }
	}
	for _, name := range []string{"kcore", "kmsg", "timer_list", "vmallocinfo", "slabinfo", "pagetypeinfo", "kpageflags"} {
		out["read "+name+" of a fresh proc"] = func() error { return readFresh(name) }
	}
	for _, path := range []string{"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
		"/proc/sys/fs/binfmt_misc/register", "/proc/sys/kernel/hostname", "/sys/kernel/uevent_helper", "/sys/power/state", "/run/tekton/init"} {
		out["write "+path] = func() error { return opened(path, os.O_WRONLY) }
	}
	for _, kind := range []string{"proc", "sysfs", "cgroup2", "tmpfs", "devtmpfs", "debugfs", "tracefs", "securityfs", "bpf", "mqueue", "devpts", "binfmt_misc", "fusectl", "configfs"} {
		out["mount "+kind] = func() error { return mounted(kind, kind, "") }
	}
	out["mount a disk"] = func() error { return mounted("/dev/vda", "ext4", "") }
	out["mount overlay"] = func() error { return mounted("overlay", "overlay", "lowerdir=/usr:/etc") }
	out["volume with devices"] = func() error { return unix.Mount("", "/data", "", unix.MS_REMOUNT|unix.MS_BIND, "") }
	out["first program writable"] = func() error {
		return unix.Mount("", "/run/tekton/init", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV, "")
	}
	return out
}

var bpfMap = struct{ Type, Key, Value, Max uint32 }{2, 4, 4, 1}

// perf counts the cycles of a whole CPU.
var perf = unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}

func second[T any](_ T, err error) error { return err }

func raw(call [5]uintptr) error {
	_, _, errno := unix.Syscall6(call[0], call[1], call[2], call[3], call[4], 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func address(s string) uintptr {
	b, _ := unix.BytePtrFromString(s)
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(b))
}

// kept keeps what address gave away from the garbage collector.
var kept []*byte

func opened(path string, flag int) error {
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0)
	if err == nil {
		f.Close()
	}
	return err
}

// readable fails also when there is nothing in it.
func readable(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := unix.Read(int(f.Fd()), make([]byte, 64)); n > 0 || err != nil {
		return err
	}
	return errors.New("empty")
}

// readFresh reads where nothing is mounted over the kernel's files.
func readFresh(name string) error {
	dir, err := os.MkdirTemp("/run", "proc")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("proc", dir, "proc", 0, ""); err != nil {
		return fmt.Errorf("no fresh proc: %w", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	return readable(filepath.Join(dir, name))
}

func socket(family, kind, proto int) error {
	fd, err := unix.Socket(family, kind, proto)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func connectUnix(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

func mounted(source, kind, options string) error {
	dir, err := os.MkdirTemp("/run", "mount")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount(source, dir, kind, 0, options); err != nil {
		return err
	}
	return unix.Unmount(dir, unix.MNT_DETACH)
}

// kernelAddresses fails when all symbols are shown without theirs.
func kernelAddresses() error {
	b, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if strings.Trim(strings.Fields(line)[0], "0") != "" {
			return nil
		}
	}
	return errors.New("hidden")
}

// openByHandle opens a file by its handle, which leads to any file of its file system.
func openByHandle() error {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/data", 0)
	if err != nil {
		return fmt.Errorf("name: %w", err)
	}
	dir, err := unix.Open("/data", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	fd, err := unix.OpenByHandleAt(dir, h, unix.O_RDONLY)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// traced ends with this process.
func traced(pid int) error { return unix.PtraceSeize(pid) }

// nested makes a user and a network namespace, where this root gets all
// capabilities, the dropped ones too.
func nested() error {
	cmd := exec.Command("/proc/self/exe", "done")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET}
	return cmd.Run()
}

func globbed(patterns ...string) func() error {
	return func() error {
		for _, p := range patterns {
			if found, _ := filepath.Glob(p); len(found) > 0 {
				return nil
			}
		}
		return errors.New("nothing")
	}
}
