package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// protected starts a daemon whose machines have systemd-nspawn's system call
// filter, which is the default; other tests save its time.
func protected(t *testing.T) *tekton {
	t.Helper()
	k := prepare(t)
	config, err := os.ReadFile(k.path("host.yaml"))
	k.check(err)
	k.check(os.WriteFile(k.path("host.yaml"), []byte(strings.Replace(string(config), "seccomp: false", "seccomp: true", 1)), 0o644))
	k.up()
	return k
}

// insideReport is the guest's.
type insideReport struct {
	Status                                  map[string]string
	UIDMap, GIDMap                          string
	Devices, Mounts, Processes, Descriptors []string
	Writable                                map[string][]string
	Attempts                                map[string]string
}

// capabilities that the root of an untrusted machine has, over its own user
// namespace. Not among them: AUDIT_CONTROL, BPF, IPC_LOCK, MAC_*, MKNOD, NET_RAW,
// PERFMON, SYSLOG, SYS_MODULE, SYS_PACCT, SYS_RAWIO, SYS_TIME, WAKE_ALARM.
var capabilities = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
	unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_LINUX_IMMUTABLE, unix.CAP_NET_BIND_SERVICE,
	unix.CAP_NET_BROADCAST, unix.CAP_NET_ADMIN, unix.CAP_IPC_OWNER, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE,
	unix.CAP_SYS_ADMIN, unix.CAP_SYS_BOOT, unix.CAP_SYS_NICE, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_TTY_CONFIG,
	unix.CAP_LEASE, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP,
}

// insideAttempts are how ways out end; several where kernels differ, each with
// the same right to it. What is "ok" reaches nothing but the machine itself.
var insideAttempts = map[string]string{
	"I/O ports": "EPERM", "I/O privilege": "EPERM|ENOSYS", "accounting": "EPERM", "audit socket": "EAFNOSUPPORT|EPERM", "bpf map": "EPERM",
	"clock": "EPERM", "clock, adjusted": "EPERM", "handle of a file": "EPERM", "host's performance": "EPERM|EACCES|ENOENT",
	"kexec": "EPERM|ENOSYS", "kexec, by file": "EPERM|ENOSYS", "key": "EPERM", "key of the session": "EPERM", "swap": "EPERM",
	"mknod of a disk": "EPERM", "mknod of the memory": "EPERM", "module": "EPERM|ENOSYS", "module, by descriptor": "EPERM|ENOSYS", "module, removed": "EPERM|ENOSYS",
	"raw socket": "EPERM", "packet socket": "EPERM",
	"kernel log": "EPERM", "kernel log, console": "EPERM", "kernel addresses": "hidden|EPERM|EACCES|ENOENT",
	"host's bus": "ENOENT", "host's journal": "ENOENT", "the disks": "nothing", "firmware": "nothing", "debug file system": "nothing",
	// Files of the kernel that tell of the whole host. What nspawn lays over them,
	// on some versions, is empty.
	"read /dev/kmsg": "ENOENT", "read /dev/mem": "ENOENT", "read /proc/kcore": "ENOENT|EACCES|EPERM|empty", "read /proc/timer_list": "EACCES|ENOENT|empty",
	"read /proc/kallsyms":        "ok|EPERM|EACCES|ENOENT|empty", // without the addresses, see above
	"read /proc/keys":            "ENOENT|empty",                 // of this user namespace, which has none
	"read /proc/kmsg":            "EAGAIN|empty",                 // nspawn's FIFO covers it
	"read kcore of a fresh proc": "EACCES|ENOENT|EPERM", "read kmsg of a fresh proc": "EACCES|ENOENT|EPERM", "read timer_list of a fresh proc": "EACCES|ENOENT|EPERM",
	"read vmallocinfo of a fresh proc": "EACCES|ENOENT|EPERM", "read slabinfo of a fresh proc": "EACCES|ENOENT|EPERM", "read pagetypeinfo of a fresh proc": "EACCES|ENOENT|EPERM",
	"read kpageflags of a fresh proc": "EACCES|ENOENT|EPERM",
	"read /proc/1/root/proc/version":  "EACCES|EPERM", "trace the first": "EPERM|EACCES", // nspawn's stub was started by the host's root
	"memory of the first":                     "ok|EPERM", // of nothing: no byte was asked for
	"write /proc/sys/fs/binfmt_misc/register": "ENOENT|EACCES|EROFS", "write /proc/sys/kernel/core_pattern": "EACCES|EROFS",
	"write /proc/sys/kernel/hostname": "EACCES|EROFS", "write /proc/sys/kernel/modprobe": "ENOENT|EACCES|EROFS", "write /proc/sys/vm/drop_caches": "EACCES|EROFS",
	"write /proc/sysrq-trigger": "ENOENT|EACCES|EROFS", "write /run/tekton/init": "EACCES|EROFS|EPERM",
	"write /sys/kernel/uevent_helper": "ENOENT|EACCES|EROFS", "write /sys/power/state": "ENOENT|EACCES|EROFS",
	// Mounts of what belongs to the whole kernel are refused ...
	"mount a disk": "EPERM", "mount devtmpfs": "EPERM", "mount debugfs": "EPERM", "mount tracefs": "EPERM", "mount securityfs": "EPERM",
	"mount bpf": "EPERM", "mount fusectl": "EPERM|ENODEV", "mount configfs": "EPERM|ENODEV",
	"volume with devices": "EPERM", "first program writable": "EPERM",
	// ... and of what is the machine's own allowed: an inner container manager
	// needs them, and Writable tells that they open nothing.
	"mount proc": "ok|EPERM", "mount sysfs": "ok|EPERM", "mount cgroup2": "ok|EPERM", "mount tmpfs": "ok", "mount overlay": "ok|EPERM",
	"mount devpts": "ok", "mount mqueue": "ok", "mount binfmt_misc": "ok|EPERM|ENODEV",
	"own namespaces": "ok",
	"ctrl-alt-del":   "EINVAL|EPERM", // reboot(2) means the machine's own PID namespace
}

// insideWritable are the files of the kernel that a machine's root may write:
// settings of its own namespaces, its cgroup's division into others, and what
// tells any user of the host about its load (pressure).
var insideWritable = map[string]*regexp.Regexp{
	"/proc/sys":      regexp.MustCompile(`^net/`),
	"/sys":           regexp.MustCompile(`^$`),
	"/sys/fs/cgroup": regexp.MustCompile(`^((unified|systemd)/)?(cgroup\.[a-z_.]+|notify_on_release|tasks|memory\.(oom\.group|reclaim))$`),
	"fresh proc":     regexp.MustCompile(`^sys/(net|user|fs/mqueue)/|^sys/kernel/((next_)?(msg|sem|shm)[a-z_]*|auto_msgmni|ns_last_pid|pid_max|domainname|hostname)$|^pressure/`),
	"fresh sysfs":    regexp.MustCompile(`^devices/virtual/net/`),
	"fresh cgroup2":  regexp.MustCompile(`^(cgroup\.[a-z_.]+|memory\.(oom\.group|reclaim))$`),
}

// insideDevices are all that may be in /dev.
var insideDevices = []string{
	"/dev/full 1:7 0666", "/dev/net/tun 10:200 0600", "/dev/null 1:3 0666", "/dev/pts/ptmx 5:2 0666", "/dev/random 1:8 0666",
	"/dev/tty 5:0 0666", "/dev/urandom 1:9 0666", "/dev/zero 1:5 0666",
}

// kernelOwn are file systems without a disk.
var kernelOwn = regexp.MustCompile(` (proc|sysfs|tmpfs|devpts|mqueue|cgroup2?) `)

// capabilityMask is how /proc writes the capabilities.
func capabilityMask() string {
	var mask uint64
	for _, c := range capabilities {
		mask |= 1 << c
	}
	return fmt.Sprintf("%016x", mask)
}

func (k *tekton) inside(name string) insideReport {
	k.t.Helper()
	var r insideReport
	k.check(json.Unmarshal([]byte(k.mustAsk(name, "/inside")), &r))
	return r
}

// TestInside has the root of an untrusted machine look around and try what
// would lead out.
func TestInside(t *testing.T) {
	t.Parallel()
	k := protected(t)
	k.write("all.yaml", k.guest("a", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"), k.guest("b"))
	k.ready("a", "b")
	r := k.inside("a")
	caps := capabilityMask()
	want := map[string]string{
		"Uid": "0 0 0 0", "CapEff": caps, "CapPrm": caps, "CapBnd": caps, "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
		"Seccomp": "2",
		// Not set: sudo and su of an image have to work; they give no more than this root.
		"NoNewPrivs": "0",
	}
	if diff := cmp.Diff(want, r.Status); diff != "" {
		t.Errorf("the machine's root (-want +got):\n%s", diff)
	}
	k.insideView(r)
	for name, got := range r.Attempts {
		if want := insideAttempts[name]; !slices.Contains(strings.Split(want, "|"), got) {
			t.Errorf("%s: %s, expected %s", name, got, want)
		}
	}
	if len(r.Attempts) != len(insideAttempts) {
		t.Errorf("%d attempts, expected %d", len(r.Attempts), len(insideAttempts))
	}
	for where, files := range r.Writable {
		for _, f := range files {
			if !insideWritable[where].MatchString(f) {
				t.Errorf("%s: %s can be written", where, f)
			}
		}
	}
	// The search finds what can be written.
	if len(r.Writable["/proc/sys"]) == 0 || len(r.Writable["/sys/fs/cgroup"]) == 0 {
		t.Errorf("nothing at all can be written: %v", r.Writable)
	}
	k.users(r)
	k.descriptors("a")
	k.planted("a")
	k.notified("a")
}

// insideView: what is there is the machine's own.
func (k *tekton) insideView(r insideReport) {
	k.t.Helper()
	for _, d := range r.Devices {
		if !slices.Contains(insideDevices, d) {
			k.t.Errorf("device %s", d)
		}
	}
	var disks []string
	for _, m := range r.Mounts {
		if !kernelOwn.MatchString(m) && !strings.HasPrefix(m, "/run/host/") {
			disks = append(disks, strings.Fields(m)[0]+" "+strings.Fields(m)[2])
		}
		if strings.Contains(m, " sysfs rw") || strings.Contains(m, "/proc/sys proc rw") {
			k.t.Errorf("mount %s", m)
		}
	}
	slices.Sort(disks)
	if diff := cmp.Diff([]string{"/ rw", "/data rw,nodev", "/run/tekton/init ro,nosuid,nodev"}, disks); diff != "" {
		k.t.Errorf("mounts of the host's file systems (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"(sd-stubinit)", "exe", "guest"}, r.Processes); diff != "" {
		k.t.Errorf("processes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"(sd-stubinit): unseen: <nil>"}, r.Descriptors); diff != "" {
		k.t.Errorf("descriptors (-want +got):\n%s", diff)
	}
}

// users: each machine has 65536 ids of its own, and what its root writes has
// them on the host.
func (k *tekton) users(r insideReport) {
	k.t.Helper()
	seen := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", k.leader(name)))
		k.check(err)
		g, err := os.ReadFile(fmt.Sprintf("/proc/%d/gid_map", k.leader(name)))
		k.check(err)
		ids := strings.Fields(string(b))
		base, err := strconv.Atoi(ids[1])
		k.check(err)
		if string(b) != string(g) || ids[0] != "0" || ids[2] != "65536" || base < 524288 || base%65536 != 0 || seen[ids[1]] {
			k.t.Errorf("%s has user ids %q and group ids %q", name, b, g)
		}
		seen[ids[1]] = true
		if name == "a" && (r.UIDMap != strings.Join(ids, " ") || r.GIDMap != r.UIDMap) {
			k.t.Errorf("inside, a has user ids %q and group ids %q; outside %q", r.UIDMap, r.GIDMap, ids)
		}
		k.mustAsk(name, "/append", "path", "/etc/made", "data", "x")
		info, err := os.Stat(k.state("machines", k.get(name).Status.Machine, "upper/etc/made"))
		k.check(err)
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != base || int(st.Gid) != base {
			k.t.Errorf("what the root of %s writes belongs to %d:%d on the host, expected %d", name, st.Uid, st.Gid, base)
		}
	}
}

// descriptors: the first process has nothing of the host open.
func (k *tekton) descriptors(name string) {
	k.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.leader(name)))
	k.check(err)
	parent := regexp.MustCompile(`PPid:\s+(\d+)`).FindStringSubmatch(string(stat))[1]
	for _, pid := range []string{parent, strconv.Itoa(k.leader(name))} {
		fds, err := filepath.Glob("/proc/" + pid + "/fd/*")
		k.check(err)
		if len(fds) == 0 {
			k.t.Errorf("process %s of %s has no descriptors", pid, name)
		}
		for _, fd := range fds {
			to, err := os.Readlink(fd)
			k.check(err)
			if !regexp.MustCompile(`^(pipe:|socket:|anon_inode:|/dev/null$|/sys/fs/cgroup/)`).MatchString(to) {
				k.t.Errorf("process %s of %s has %s open", pid, name, to)
			}
		}
	}
}

// planted: a volume's files keep the ids that the machine sees, so a program
// with the set-user-ID bit in it belongs to the host's root. Nobody else on the
// host gets there; and a device in it is none for the machine.
func (k *tekton) planted(name string) {
	k.t.Helper()
	dir := k.state("volumes", "container", name, "data")
	program, err := os.ReadFile("/usr/bin/id")
	k.check(err)
	elsewhere := k.path("id")
	for _, path := range []string{filepath.Join(dir, "id"), elsewhere} {
		k.check(os.WriteFile(path, program, 0o755))
		k.check(os.Chmod(path, 0o4755|os.ModeSetuid))
	}
	run := func(path string) string {
		cmd := exec.Command(path, "-u")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(fmt.Sprint(string(out), err))
	}
	if got := run(elsewhere); got != "0<nil>" && got != "0\n<nil>" {
		k.t.Errorf("control: a set-user-ID program says %q", got)
	}
	if got := run(filepath.Join(dir, "id")); !strings.Contains(got, "permission denied") {
		k.t.Errorf("others reach a machine's set-user-ID program: %q", got)
	}
	k.check(unix.Mknod(filepath.Join(dir, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	if out, err := k.ask(name, "/read", "path", "/data/zero"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		k.t.Errorf("a device in a volume: %q %v", out, err)
	}
}

// notified: what the machine says to nspawn's notification socket changes
// nothing in what is known of it.
func (k *tekton) notified(name string) {
	k.t.Helper()
	before := k.get(name).Status
	k.mustAsk(name, "/notify", "data", "MAINPID=1\nX_NSPAWN_LEADER_PID=1\nSTOPPING=1\nERRNO=5\nREADY=1\nSTATUS=planted")
	k.settled()
	if diff := cmp.Diff(before, k.get(name).Status); diff != "" {
		k.t.Errorf("the machine's own words change its status (-before +after):\n%s", diff)
	}
}
