package nix

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// rootDir in a build's directory is where a stranger's code sees its host.
const rootDir = "root"

// userland is what the programs of Nix are made of, and the store.
var userland = []string{"/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/nix", "/run/current-system"}

// isolate gives the calling thread a network without anything in it, and makes a
// root of the userland, the store, home and config, to be entered by chroot.
//
// Pure evaluation is not enough: Nix's fetchers read any path and URL of which
// the hash is named, and copy it into the store before they compare that.
func isolate(root, home, config string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
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
