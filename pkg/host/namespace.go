package host

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaceFlags are nsenter's flags by file name in /proc/PID/ns.
var namespaceFlags = []struct{ file, flag string }{
	{"user", "--user"}, {"mnt", "--mount"}, {"uts", "--uts"}, {"ipc", "--ipc"},
	{"net", "--net"}, {"pid", "--pid"}, {"cgroup", "--cgroup"}, {"time", "--time"},
}

// Namespaces holds a machine's namespaces, its user namespace among them, and
// its root directory open, so that a process id that is used again can never
// lead into something else.
type Namespaces struct {
	files []*os.File // what argv refers to
	argv  []string   // nsenter with its flags
	// root is the flag's value for the machine's root directory.
	root string
	// cgroup of the machine's first process in the unified hierarchy, nil without one.
	cgroup *os.File
}

// OpenNamespaces opens those of a machine's first process.
func OpenNamespaces(pid int) (_ *Namespaces, err error) {
	ns := &Namespaces{argv: []string{"nsenter"}}
	defer func() {
		if err != nil {
			ns.Close()
		}
	}()
	proc := fmt.Sprintf("/proc/%d", pid)
	for _, n := range namespaceFlags {
		own, err := os.Stat("/proc/self/ns/" + n.file)
		if err != nil {
			continue // the kernel has no such namespaces
		}
		f, err := os.Open(filepath.Join(proc, "ns", n.file))
		if err != nil {
			return nil, err
		}
		ns.files = append(ns.files, f)
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		// The kernel refuses to enter the user namespace that one is in.
		if !os.SameFile(own, info) {
			ns.argv = append(ns.argv, n.flag+"="+descriptor(f))
		}
	}
	root, err := os.Open(proc + "/root")
	if err != nil {
		return nil, err
	}
	ns.files = append(ns.files, root)
	ns.root = descriptor(root)
	ns.argv = append(ns.argv, "--root="+ns.root)
	ns.cgroup, err = openCgroup(proc)
	return ns, err
}

// descriptor is a path by which a child opens a file of ours. Nothing is
// inherited, so nothing of the host is open in the command.
func descriptor(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// Close closes what is open; commands in the machine go on.
func (ns *Namespaces) Close() {
	for _, f := range ns.files {
		f.Close()
	}
	if ns.cgroup != nil {
		ns.cgroup.Close()
	}
}

// machinePath finds programs on FHS systems and on NixOS.
const machinePath = "/run/wrappers/bin:/root/.nix-profile/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command prepares a command in the machine, as its root, in a session and the
// cgroup of its own. nsenter is our child, and looked up in our own PATH; the
// command is nsenter's child.
//
// Without --wd, nsenter would keep our working directory, on the host, as the
// command's. nsenter changes everything before it forks the process that the
// machine can see, so that nothing of the host can be reached through it.
//
// The environment is also nsenter's own on the host's side, so nothing that a
// machine or a spec chose may be in it: LD_PRELOAD would run as root here.
func (ns *Namespaces) Command(workDir string, argv ...string) (*exec.Cmd, error) {
	wd := "--wd=" + ns.root
	if workDir != "" {
		wd = "--wdns=" + workDir
	}
	full := slices.Concat(ns.argv, []string{wd, "--"}, argv)
	cmd := exec.Command(full[0], full[1:]...)
	cmd.Env = []string{"PATH=" + machinePath, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if ns.cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(ns.cgroup.Fd())
	}
	// What we inherited ourselves must not be open in the machine either.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep our files out of the machine: %w", err)
	}
	return cmd, nil
}

// openCgroup opens the process's cgroup in the unified hierarchy, so that a
// command lives under the machine's limits.
func openCgroup(proc string) (*os.File, error) {
	mount, err := unifiedMount()
	if err != nil || mount == "" {
		return nil, err
	}
	lines, err := os.ReadFile(proc + "/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(lines)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && !strings.HasPrefix(path, "/..") { // else outside of what our cgroup namespace shows
			return os.Open(filepath.Join(mount, filepath.Clean("/"+path)))
		}
	}
	return nil, nil
}

// unifiedMount returns where cgroup2 is mounted; empty: nowhere.
func unifiedMount() (string, error) {
	lines, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(lines)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", nil
}
