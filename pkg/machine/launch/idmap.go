package launch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

// mapper makes detached clones of mounts, idmapped for one machine.
type mapper struct {
	// userns maps 0..65535 to the machine's ids; nil: no user namespace.
	userns *os.File
}

// carrier is the name that this program is executed under to carry a namespace.
const carrier = "tekton-userns"

// Carry waits to be killed when this process is there to carry a namespace;
// else it returns at once. It comes first in the program.
func Carry() {
	for len(os.Args) == 1 && os.Args[0] == carrier {
		unix.Pause()
	}
}

// newMapper makes a user namespace for the machine's ids. base 0 maps nothing.
func newMapper(base uint32) (mapper, error) {
	if base == 0 {
		return mapper{}, nil
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(base), Size: resource.UIDRange}}
	// The process only carries the namespace, and is killed as soon as that is
	// open. It waits by itself: to have it traced fails where somebody traces us,
	// and where Yama forbids all tracing (ptrace_scope 3).
	p, err := os.StartProcess("/proc/self/exe", []string{carrier}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return mapper{}, fail(ExitIDMap, "make a user namespace for ids %d..%d: %w (does this kernel allow user namespaces? see user.max_user_namespaces)", base, base+resource.UIDRange-1, err)
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(p.Pid) + "/ns/user")
	p.Kill()
	p.Wait()
	if err != nil {
		return mapper{}, fail(ExitIDMap, "open the user namespace: %w", err)
	}
	return mapper{ns}, nil
}

func (m mapper) Close() error {
	if m.userns == nil {
		return nil
	}
	return m.userns.Close()
}

// clone returns a detached clone of the mount that a path was opened on,
// idmapped and with the extra attributes.
func (m mapper) clone(from *os.File, recursive bool, attrs uint64) (int, error) {
	path := from.Name()
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	setFlags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
		setFlags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(int(from.Fd()), "", flags)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) {
			return -1, fail(ExitIDMap, "this kernel has no open_tree, Linux 5.12 or newer is needed: %w", err)
		}
		return -1, fail(ExitSystem, "%s: %w", path, err)
	}
	attr := unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
	if m.userns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(m.userns.Fd())
	}
	if err := unix.MountSetattr(fd, "", setFlags, &attr); err != nil {
		unix.Close(fd)
		return -1, fail(ExitIDMap, "map the ids of %s: its file system (%s) or this kernel cannot: %w; move it to ext4, xfs, btrfs or a kernel of 6.1 or newer", path, FileSystem(path), err)
	}
	return fd, nil
}

// TryIDMap reports why the ids of a path cannot be mapped for a machine, as is
// done for its root, volumes and mounts. Nothing of it stays.
func TryIDMap(path string) error {
	m, err := newMapper(resource.UIDFirst)
	if err != nil {
		return err
	}
	defer m.Close()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fd, err := m.clone(f, false, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// attach moves a detached mount to a path of the launcher's own making.
func attach(fd int, path string) error {
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount at %s: %w", path, err)
	}
	return nil
}

// fsNames names the file systems that people meet; others show as a number.
var fsNames = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs",
	unix.FUSE_SUPER_MAGIC: "fuse", unix.V9FS_MAGIC: "9p", unix.F2FS_SUPER_MAGIC: "f2fs",
	unix.SQUASHFS_MAGIC: "squashfs", unix.EROFS_SUPER_MAGIC_V1: "erofs", 0x2fc12fc1: "zfs",
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs",
}

// FileSystem names the sort of file system that a path is on.
func FileSystem(path string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "unknown"
	}
	if n, ok := fsNames[st.Type]; ok {
		return n
	}
	return fmt.Sprintf("type %#x", st.Type)
}
