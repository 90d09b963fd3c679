package nix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// rootDir in a build's directory is where a stranger's code sees its host.
const rootDir = "root"

// userland is what the programs of Nix are made of, and the store.
var userland = []string{"/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/nix", "/run/current-system"}

// EvaluateVerb of a program that calls Evaluate: PROGRAM evaluate DOCUMENT.
const EvaluateVerb = "evaluate"

// namespaces of a stranger's code: no interface, no process and no mount of the host.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// evaluation is what Evaluate is to become.
type evaluation struct {
	Argv []string `json:"argv"`
	// Root to make, of the userland, the store, Home and Config.
	Root   string `json:"root"`
	Home   string `json:"home"`
	Config string `json:"config"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	// Data is how much memory it may have.
	Data uint64 `json:"data"`
}

// Evaluate becomes a command without privileges, in a root without the host. It
// is the first process of namespaces of its own, and returns only if it fails.
//
// Pure evaluation is not enough: Nix's fetchers read any path and URL of which
// the hash is named, and copy it into the store before they compare that.
func Evaluate(document string) error {
	var e evaluation
	if err := json.Unmarshal([]byte(document), &e); err != nil {
		return err
	}
	if os.Getpid() != 1 || e.UID == 0 || e.GID == 0 || len(e.Argv) == 0 {
		return errors.New("code is evaluated in namespaces of its own, and without privileges")
	}
	if err := makeRoot(e.Root, e.Home, e.Config); err != nil {
		return err
	}
	if err := errors.Join(unix.Chroot(e.Root), unix.Chdir("/")); err != nil {
		return fmt.Errorf("enter %s: %w", e.Root, err)
	}
	program, err := exec.LookPath(e.Argv[0])
	if err != nil {
		return err
	}
	if err := e.giveUp(); err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	return fmt.Errorf("%s: %w", program, unix.Exec(program, e.Argv, os.Environ()))
}

// giveUp gives up what the evaluation is not to have. That it gets nothing back by
// a program with rights of its own is a flag that it was begun with (runAs).
func (e evaluation) giveUp() error {
	return errors.Join(
		unix.Sethostname([]byte("evaluation")),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: e.Data, Max: e.Data}),
		// Of all threads.
		syscall.Setgroups(nil),
		syscall.Setresgid(int(e.GID), int(e.GID), int(e.GID)),
		syscall.Setresuid(int(e.UID), int(e.UID), int(e.UID)),
	)
}

// makeRoot makes the root of the userland, the store, home and config.
func makeRoot(root, home, config string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := mount("tmpfs", root, "mode=0755,size=1m"); err != nil {
		return err
	}
	for _, path := range append(slices.Clone(userland), config) {
		if err := show(root, path, true); err != nil {
			return err
		}
	}
	for _, device := range []string{"/dev/null", "/dev/zero", "/dev/urandom"} {
		if err := show(root, device, false); err != nil {
			return err
		}
	}
	if err := show(root, home, false); err != nil {
		return err
	}
	proc := filepath.Join(root, "proc")
	if err := os.Mkdir(proc, 0o755); err != nil {
		return err
	}
	return mount("proc", proc, "hidepid=2,subset=pid")
}

func mount(kind, dir, options string) error {
	if err := unix.Mount(kind, dir, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, dir, err)
	}
	return nil
}

// show has a path of the host in the root, too. A link stays one.
func show(root, path string, readOnly bool) error {
	at := filepath.Join(root, path)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, at)
	case info.IsDir():
		err = os.Mkdir(at, 0o755)
	default:
		err = os.WriteFile(at, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(path, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", path, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.MountSetattr(-1, at, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}); err != nil {
		return fmt.Errorf("make %s read-only: %w", path, err)
	}
	return nil
}
