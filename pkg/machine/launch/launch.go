package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
)

// nspawnRun is where nspawn keeps its run-time files. A tmpfs in the launcher's
// namespace covers it: nothing stays on the host after a kill, and machines of
// the same name in two installations do not meet.
const nspawnRun = "/run/systemd/nspawn"

// Options of a launch.
type Options struct {
	Dir     string // required: the machine's directory
	Init    string // required: tekton-init on the host
	Volumes string // required: root of the volumes
	Nspawn  string // required: systemd-nspawn
	// Seccomp keeps nspawn's system call filter; building it costs more than
	// all the rest of the start.
	Seccomp bool
}

// Run builds the machine's root and becomes systemd-nspawn. It returns only
// with an error.
func Run(o Options) error {
	// Namespaces belong to a thread: this one is the one that executes nspawn.
	runtime.LockOSThread()
	r, err := ReadRecord(o.Dir)
	if err != nil {
		return err
	}
	if err := Validate(r.Instance); err != nil {
		return err
	}
	// On another thread, and beside the rest: it takes a process.
	ids := make(chan mapped, 1)
	go func() {
		m, err := newMapper(r.Instance.UIDBase)
		ids <- mapped{m, err}
	}()
	doc, err := Document(r.Instance)
	if err != nil {
		return err
	}
	handed, err := handover.Seal(doc)
	if err != nil {
		return err
	}
	if err := privateMounts(o.Dir); err != nil {
		return err
	}
	m := <-ids
	if m.err != nil {
		return m.err
	}
	defer m.mapper.Close()
	s := &stage{opts: o, rec: r, ids: m.mapper, root: filepath.Join(o.Dir, StageDir, "root")}
	if err := s.build(); err != nil {
		return err
	}
	// The machine's root may open its own standard streams again by name.
	for fd := 1; fd <= 2 && r.Instance.UIDBase != 0; fd++ {
		unix.Fchown(fd, int(r.Instance.UIDBase), int(r.Instance.UIDBase)) // best effort: only pipes need it
	}
	return become(o, handed, nspawnArgs(r, s.root, s.binds))
}

type mapped struct {
	mapper mapper
	err    error
}

// privateMounts moves this thread into a mount namespace from which nothing
// leaks to the host, while unmounts of the host still arrive, so that no machine
// keeps a file system busy.
func privateMounts(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("cut the mount namespace off from the host: %w", err)
	}
	if err := os.MkdirAll(nspawnRun, 0o755); err != nil {
		return err
	}
	if err := tmpfs(nspawnRun); err != nil {
		return err
	}
	// Relative from here on: the state directory's path may hold characters
	// that overlayfs's options would have to escape.
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(StageDir, 0o700); err != nil {
		return err
	}
	return tmpfs(StageDir)
}

func tmpfs(path string) error {
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", path, err)
	}
	return nil
}

// become executes nspawn with the handover as its only inherited descriptor.
func become(o Options, handed *os.File, args []string) error {
	env := []string{"LISTEN_FDS=1", "LISTEN_PID=" + strconv.Itoa(os.Getpid())}
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); k == "PATH" || k == "NOTIFY_SOCKET" || k == "LC_ALL" {
			env = append(env, kv)
		}
	}
	if !o.Seccomp {
		env = append(env, "SYSTEMD_SECCOMP=0")
	}
	src := int(handed.Fd())
	if src == handover.FD {
		if _, err := unix.FcntlInt(uintptr(src), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
	} else if err := unix.Dup3(src, handover.FD, 0); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	argv := append([]string{filepath.Base(o.Nspawn)}, args...)
	err := syscall.Exec(o.Nspawn, argv, env)
	return fmt.Errorf("execute %s: %w; install systemd-nspawn (Debian: systemd-container)", o.Nspawn, err)
}
