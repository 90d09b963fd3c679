package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideReport is what the machine's root sees of its machine, and how its
// attempts to leave it end.
type insideReport struct {
	Status         map[string]string // of /proc/self/status
	UIDMap, GIDMap string
	Devices        []string
	Mounts         []string // mount point, file system, flags
	Processes      []string
	Descriptors    []string            // of all processes, what is no pipe, terminal or own socket
	Writable       map[string][]string // files of the kernel that can be written, by where they were looked at
	Attempts       map[string]string   // "ok" or how it failed
}

// insideHandler asks a process with mounts of its own, so that what it mounts ends with it.
func insideHandler(*http.Request) (string, error) {
	cmd := exec.Command("/proc/self/exe", "inside")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, &stderr)
	}
	return string(out), err
}

// notify says something to the socket that nspawn listens on.
func notify(r *http.Request) (string, error) {
	c, err := net.Dial("unixgram", "/run/host/notify")
	if err != nil {
		return "", err
	}
	defer c.Close()
	_, err = io.WriteString(c, r.FormValue("data"))
	return "", err
}

func inside() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	r := insideReport{Status: statusOf("self"), Mounts: mounts(), Devices: devices(), Attempts: map[string]string{}}
	uid, _ := os.ReadFile("/proc/self/uid_map")
	gid, _ := os.ReadFile("/proc/self/gid_map")
	r.UIDMap, r.GIDMap = strings.Join(strings.Fields(string(uid)), " "), strings.Join(strings.Fields(string(gid)), " ")
	r.Processes, r.Descriptors = processes()
	r.Writable = map[string][]string{}
	for _, dir := range []string{"/proc/sys", "/sys", "/sys/fs/cgroup"} {
		r.Writable[dir] = writable(dir)
	}
	for name, try := range attempts() {
		r.Attempts[name] = outcome(try())
	}
	// The same once more without what nspawn covers or mounts read-only.
	for _, kind := range []string{"proc", "sysfs", "cgroup2"} {
		dir := "/run/fresh-" + kind
		if os.Mkdir(dir, 0o700) == nil && unix.Mount(kind, dir, kind, 0, "") == nil {
			r.Writable["fresh "+kind] = writable(dir)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		return unix.ErrnoName(n)
	}
	return err.Error()
}

func statusOf(pid string) map[string]string {
	out := map[string]string{}
	b, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		if strings.HasPrefix(k, "Cap") || k == "Seccomp" || k == "NoNewPrivs" || k == "Uid" {
			out[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	return out
}

func mounts() []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		end := slices.Index(f, "-")
		var flags []string
		for flag := range strings.SplitSeq(f[5], ",") {
			if slices.Contains([]string{"ro", "rw", "nosuid", "nodev", "noexec"}, flag) {
				flags = append(flags, flag)
			}
		}
		out = append(out, fmt.Sprintf("%s %s %s", f[4], f[end+1], strings.Join(flags, ",")))
	}
	return out
}

func devices() []string {
	var out []string
	filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
			st := info.Sys().(*syscall.Stat_t)
			out = append(out, fmt.Sprintf("%s %d:%d %04o", path, unix.Major(st.Rdev), unix.Minor(st.Rdev), info.Mode().Perm()))
		}
		return nil
	})
	return out
}

// processes lists all that can be seen, and what they have open.
func processes() (names, open []string) {
	own, _ := os.ReadFile("/proc/net/unix")
	for _, table := range []string{"netlink", "tcp", "tcp6", "udp", "udp6", "raw", "packet"} {
		b, _ := os.ReadFile("/proc/net/" + table)
		own = append(own, b...)
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		comm, _ := os.ReadFile(dir + "/comm")
		names = append(names, strings.TrimSpace(string(comm)))
		fds, err := filepath.Glob(dir + "/fd/*")
		if err != nil || len(fds) == 0 {
			open = append(open, fmt.Sprintf("%s: unseen: %v", names[len(names)-1], err))
		}
		for _, fd := range fds {
			to, err := os.Readlink(fd)
			inode, isSocket := strings.CutPrefix(to, "socket:[")
			switch {
			case err != nil || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "/sys/fs/cgroup/") || strings.HasPrefix(to, "/dev/pts/") || to == "/dev/null":
			case isSocket && slices.Contains(strings.Fields(string(own)), strings.TrimSuffix(inode, "]")):
			case strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/proc/"+filepath.Base(dir)+"/"):
			default:
				open = append(open, names[len(names)-1]+": "+to)
			}
		}
	}
	slices.Sort(names)
	return names, open
}

// writable names the files below dir that can be opened for writing, but those
// of processes, which are this machine's own.
func writable(dir string) []string {
	var out []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rest, _ := filepath.Rel(dir, path)
		if err != nil || dir == "/sys" && path == "/sys/fs/cgroup" || rest[0] >= '1' && rest[0] <= '9' {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			f.Close()
			out = append(out, rest)
		}
		return nil
	})
	return out
}
