package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
)

// volatileRoot is the only tree that credentials may live in.
const volatileRoot = "/run"

func writeCredentials(files []handover.File, u user) error {
	for _, f := range files {
		if err := writeVolatile(f.Path, f.Data, u.uid, u.gid); err != nil {
			return fmt.Errorf("credential %s: %w", f.Path, err)
		}
	}
	return nil
}

func writeEnvironmentFile(env []string, owner user) error {
	if len(env) == 0 {
		return nil
	}
	if err := writeVolatile(handover.EnvironmentFile, []byte(handover.FormatEnvironment(env)), owner.uid, owner.gid); err != nil {
		return fmt.Errorf("environment file %s: %w", handover.EnvironmentFile, err)
	}
	return nil
}

// writeVolatile writes a 0400 file below /run. Every step goes through the
// parent's descriptor and follows no link, and the file system must be tmpfs:
// a volume that is bound below /run is refused.
func writeVolatile(name string, data []byte, uid, gid int) error {
	rel, ok := strings.CutPrefix(path.Clean(name), volatileRoot+"/")
	if !ok {
		return fmt.Errorf("must be below %s: secrets are never written to a persistent file system", volatileRoot)
	}
	dir, err := openDirs(volatileRoot, unix.O_NOFOLLOW, path.Dir(rel))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var st unix.Statfs_t
	if err := unix.Fstatfs(dir, &st); err != nil {
		return err
	}
	if st.Type != unix.TMPFS_MAGIC {
		return errors.New("its directory is not on tmpfs: choose a path that no volume covers")
	}
	base := path.Base(rel)
	if err := unix.Unlinkat(dir, base, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace: %w", err)
	}
	fd, err := unix.Openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o400)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Chown(uid, gid)
}

// openDirs opens, and makes where missing, the directories of rel below tree.
// No link is followed but, unless flags say otherwise, one that tree is.
func openDirs(tree string, flags int, rel string) (int, error) {
	const directory = unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_RDONLY
	fd, err := unix.Open(tree, directory|flags, 0)
	if err != nil {
		return -1, fmt.Errorf("open directory %s: %w", tree, err)
	}
	if rel == "." {
		return fd, nil
	}
	for part := range strings.SplitSeq(rel, "/") {
		if err := unix.Mkdirat(fd, part, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			unix.Close(fd)
			return -1, fmt.Errorf("make directory %s: %w", part, err)
		}
		next, err := unix.Openat(fd, part, directory|unix.O_NOFOLLOW, 0)
		unix.Close(fd)
		if err != nil {
			return -1, fmt.Errorf("open directory %s: %w", part, err)
		}
		fd = next
	}
	return fd, nil
}

// giveVolumes hands empty volumes that nobody has owned yet to the machine's
// user; what holds data keeps its owner.
func giveVolumes(paths []string, u user) error {
	for _, p := range paths {
		if err := giveVolume(p, u); err != nil {
			return fmt.Errorf("volume at %s: %w", p, err)
		}
	}
	return nil
}

func giveVolume(p string, u user) error {
	fd, err := unix.Open(p, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid == handover.Nobody {
		return giveTree(p, u)
	}
	return giveDir(fd, u)
}

// giveDir hands a directory to the user when it is empty and root's.
func giveDir(fd int, u user) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != 0 || st.Gid != 0 || u.uid == 0 {
		return nil
	}
	again, err := unix.Openat(fd, ".", unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(again), ".")
	defer dir.Close()
	if _, err := dir.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err
	}
	return dir.Chown(u.uid, u.gid)
}

// giveTree gives all of a directory to the user. The top comes last: until then
// it is done again. Nothing is followed, nor gone out of.
func giveTree(p string, u user) error {
	root, err := os.OpenRoot(p)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return root.Lchown(path, u.uid, u.gid)
	})
	if err != nil {
		return err
	}
	return root.Lchown(".", u.uid, u.gid)
}

// writeResolver points the system at the host's DNS. It happens in here, as the
// machine's root, so that a link planted in the root leads nowhere outside.
func writeResolver(dns netip.Addr) error {
	if !dns.IsValid() {
		return nil
	}
	const name = "/etc/resolv.conf"
	want := "nameserver " + dns.String() + "\n"
	if have, err := os.ReadFile(name); err == nil && string(have) == want {
		return nil
	}
	if info, err := os.Lstat(name); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(want), 0o644)
}
