package systemdhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/cgroup"
	"tekton.host/pkg/supervise/supervisetest"
)

const (
	// DataDir inside a host lies on the machine's real file system. Overlays
	// and idmapped mounts want one; the host's own root is an overlay.
	DataDir = "/data"
	// bootTimeout is far above the half second that a boot takes.
	bootTimeout = 60 * time.Second
	// rebootCode is how nspawn ends when the host in it reboots.
	rebootCode = 133
	anyCode    = -2 // no process ends with it
	// prefix of everything on the machine that belongs to a host.
	prefix = "tkhost-"
)

// Bind is a file or directory of the machine inside the host.
type Bind struct {
	Source, Target string
	ReadOnly       bool
}

// Options of a host; the zero value is a plain one.
type Options struct {
	Binds []Bind
	// Seccomp keeps nspawn's own system call filters, which cost 0.1 s and
	// switch off the device and address policies of units inside.
	Seccomp bool
}

// Host is a booted host.
type Host struct {
	t     testing.TB
	opts  Options
	name  string
	dir   string // root (the overlay), up, work, data, console.log
	group cgroup.Group
	lock  *os.File

	nspawn *exec.Cmd
	exited chan error
	leader int
}

// Boot boots a host, which ends with the test. It needs root.
func Boot(t testing.TB, o Options) *Host {
	t.Helper()
	supervisetest.Root(t, "systemd-nspawn", "mmdebstrap", "nsenter")
	tree := Tree(t)
	h, err := newHost(t, o, tree)
	if err != nil {
		t.Fatalf("prepare a systemd host: %v", err)
	}
	t.Cleanup(h.destroy)
	if err := h.boot(); err != nil {
		t.Fatalf("boot a systemd host: %v\n%s", err, h.Console())
	}
	return h
}

func newHost(t testing.TB, o Options, tree string) (*Host, error) {
	groups, err := cgroup.Find()
	if err != nil {
		return nil, err
	}
	hosts := filepath.Join(cacheDir(), "hosts")
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		return nil, err
	}
	sweep(t, groups, hosts)
	dir, err := os.MkdirTemp(hosts, prefix)
	if err != nil {
		return nil, err
	}
	h := &Host{t: t, opts: o, dir: dir, name: filepath.Base(dir)}
	h.group = groups.Group(h.name)
	if h.lock, err = lockFile(dir+".lock", syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, err
	}
	for _, d := range []string{"root", "up", "work", "data", "data/tmp"} {
		if err := os.Mkdir(h.path(d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(h.path("data/tmp"), 0o1777); err != nil {
		return nil, err
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", tree, h.path("up"), h.path("work"))
	if err := unix.Mount("overlay", h.path("root"), "overlay", 0, layers); err != nil {
		return nil, fmt.Errorf("mount an overlay at %s: %w", h.path("root"), err)
	}
	return h, h.group.Create()
}

func (h *Host) path(p string) string { return filepath.Join(h.dir, p) }

// boot starts nspawn and waits until the host's systemd says that it is up.
func (h *Host) boot() error {
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + h.name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer ready.Close()
	console, err := os.OpenFile(h.path("console.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	group, err := h.group.Open()
	if err != nil {
		return err
	}
	defer group.Close()
	cmd := exec.Command("systemd-nspawn", h.argv()...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=@" + h.name, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"}
	if !h.opts.Seccomp {
		cmd.Env = append(cmd.Env, "SYSTEMD_SECCOMP=0")
	}
	cmd.Stdout, cmd.Stderr = console, console
	// Born in its own cgroup: nspawn makes the host's groups in its caller's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := cmd.Start(); err != nil {
		return err
	}
	h.nspawn, h.exited, h.leader = cmd, make(chan error, 1), 0
	go func() {
		h.exited <- cmd.Wait()
		ready.SetReadDeadline(time.Now())
	}()
	if err := h.awaitReady(ready); err != nil {
		return err
	}
	return h.runGroup().Create()
}

func (h *Host) argv() []string {
	argv := []string{
		"--quiet", "--register=no", "--keep-unit", "--settings=no", "--machine=" + h.name,
		"--directory=" + h.path("root"), "--private-network", "--capability=all",
		"--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--console=passive", "--notify-ready=yes", "--boot",
	}
	for _, b := range append([]Bind{{Source: h.path("data"), Target: DataDir}}, h.opts.Binds...) {
		flag := "--bind="
		if b.ReadOnly {
			flag = "--bind-ro="
		}
		colon := strings.NewReplacer(`\`, `\\`, ":", `\:`)
		argv = append(argv, flag+colon.Replace(b.Source)+":"+colon.Replace(b.Target))
	}
	return argv
}

func (h *Host) awaitReady(ready *net.UnixConn) error {
	if err := ready.SetReadDeadline(time.Now().Add(bootTimeout)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, err := ready.Read(buf)
		if err != nil {
			return fmt.Errorf("the host does not come up: %w", err)
		}
		for line := range strings.Lines(string(buf[:n])) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch {
			case key == "X_NSPAWN_LEADER_PID":
				if h.leader, err = strconv.Atoi(value); err != nil {
					return err
				}
			case key == "READY" && value == "1" && h.leader > 0:
				return nil
			}
		}
	}
}

// Leader is the process id of the host's systemd on the machine.
func (h *Host) Leader() int { return h.leader }

// Dir is DataDir as the machine sees it.
func (h *Host) Dir() string { return h.path("data") }

// Console returns the end of what the host said while booting.
func (h *Host) Console() string {
	b, err := os.ReadFile(h.path("console.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// runGroup holds what tests run in the host.
func (h *Host) runGroup() cgroup.Group { return h.group.Child("payload").Child("tests") }

// Command prepares a command inside the host, as root, with PATH, HOME and
// TMPDIR as environment. When ctx ends, it and its children are killed.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(h.leader), "--mount", "--pid", "--uts", "--net", "--ipc", "--cgroup", "--wd=/", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TMPDIR=" + DataDir + "/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if group, err := h.runGroup().Open(); err == nil {
		// Open until the test ends: the command is started later.
		h.t.Cleanup(func() { group.Close() })
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a command inside the host to its end and returns its standard output.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	cmd := h.Command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Start starts a command inside the host that runs beside the test; it ends
// with the test or when the returned function is called.
func (h *Host) Start(argv ...string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.Command(ctx, argv...)
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		cmd.Wait()
	}()
	stop = func() { cancel(); <-done }
	h.t.Cleanup(stop)
	return stop, nil
}

// Copy copies a file of the machine to a path inside the host, with its mode.
// What the host mounts itself (/tmp, /run) is out of reach.
func (h *Host) Copy(source, target string) error {
	b, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	base, target := h.path("root"), strings.TrimPrefix(filepath.Clean(target), "/")
	if rest, ok := strings.CutPrefix("/"+target, DataDir+"/"); ok {
		base, target = h.path("data"), rest
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return root.WriteFile(target, b, info.Mode().Perm())
}

// PowerOff shuts the host down, with all its units.
func (h *Host) PowerOff(ctx context.Context) error {
	const poweroff = unix.Signal(34 + 4) // SIGRTMIN+4 to systemd
	if err := unix.Kill(h.leader, poweroff); err != nil {
		return err
	}
	return h.awaitExit(ctx, 0)
}

// Reboot shuts the host down and boots it again, with the same files.
func (h *Host) Reboot(ctx context.Context) error {
	const reboot = unix.Signal(34 + 5) // SIGRTMIN+5 to systemd
	if err := unix.Kill(h.leader, reboot); err != nil {
		return err
	}
	if err := h.awaitExit(ctx, rebootCode); err != nil {
		return err
	}
	return h.boot()
}

// PowerCut ends the host as a loss of its power does: nothing in it notices.
func (h *Host) PowerCut(ctx context.Context) error {
	if err := unix.Kill(h.leader, unix.SIGKILL); err != nil {
		return err
	}
	return h.awaitExit(ctx, anyCode)
}

// PowerOn boots a host again that is off, with the files that it has left.
func (h *Host) PowerOn() error { return h.boot() }

func (h *Host) awaitExit(ctx context.Context, code int) error {
	select {
	case err := <-h.exited:
		h.exited <- err
		if got := h.nspawn.ProcessState.ExitCode(); got != code && code != anyCode {
			return fmt.Errorf("the host ended with code %d, expected %d: %w", got, code, err)
		}
		h.leader = 0
		// nspawn leaves its cgroups; a next boot makes them anew.
		return errors.Join(h.group.KillAll(ctx), h.group.Remove(ctx), h.group.Create())
	case <-ctx.Done():
		return ctx.Err()
	}
}
