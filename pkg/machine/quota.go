package machine

import (
	"fmt"
	"hash/fnv"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel interface of project quotas, from linux/fs.h, linux/quota.h and
// linux/dqblk_xfs.h; x/sys/unix has none of it. Quota commands of the XFS sort
// work on ext4 too, and quotactl_fd needs no block device's path.
const (
	fsIocGetXattr   = 0x801c581f
	fsIocSetXattr   = 0x401c5820
	xflagProjectInh = 0x00000200
	projectQuota    = 2
	cmdGetXState    = 'X'<<8 + 5
	cmdSetXLimit    = 'X'<<8 + 4
	cmdGetXQuota    = 'X'<<8 + 3
	diskQuotaVer    = 1
	fieldHardBlocks = 1 << 3
	typeProject     = 2
	basicBlock      = 512
	// stateAccounted and stateEnforced are the flags of project quotas in the state.
	stateAccounted = 1 << 4
	stateEnforced  = 1 << 5
)

// fsxattr is struct fsxattr.
type fsxattr struct {
	XFlags, ExtSize, NExtents, ProjID, CowExtSize uint32
	_                                             [8]byte
}

// diskQuota is struct fs_disk_quota.
type diskQuota struct {
	Version    int8
	Flags      int8
	FieldMask  uint16
	ID         uint32
	HardBlocks uint64
	SoftBlocks uint64
	HardInodes uint64
	SoftInodes uint64
	BlockCount uint64
	InodeCount uint64
	_          [2]int32
	_          [2]uint16
	_          int32
	_          [3]uint64
	_          int32
	_          [2]uint16
	_          [8]byte
}

// quotaState is struct fs_quota_stat, of which only the flags matter.
type quotaState struct {
	Version int8
	Flags   uint16
	_       [76]byte
}

// setQuota limits what dir may hold, counted from the first limit on, to limit bytes (0: no limit). unenforced
// says why the file system cannot; that is no error. It binds whoever is in a
// user namespace; the host's own root (a machine without one) may exceed it.
func setQuota(dir string, limit int64) (unenforced string, err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var x fsxattr
	if err := ioctl(f.Fd(), fsIocGetXattr, unsafe.Pointer(&x)); err != nil {
		return unlessNone(limit, "its file system has no project quotas"), nil
	}
	if limit == 0 && x.ProjID == 0 {
		return "", nil
	}
	var state quotaState
	state.Version = diskQuotaVer
	err = quotactl(f.Fd(), cmdGetXState, 0, unsafe.Pointer(&state))
	if err != nil || state.Flags&(stateAccounted|stateEnforced) != stateAccounted|stateEnforced {
		return unlessNone(limit, "its file system is mounted without project quotas (ext4, xfs: mount option prjquota)"), nil
	}
	if x.ProjID == 0 {
		var stat unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
			return "", fmt.Errorf("look at %s: %w", dir, err)
		}
		x.ProjID = projectID(dir, stat.Ino)
		x.XFlags |= xflagProjectInh
		if err := ioctl(f.Fd(), fsIocSetXattr, unsafe.Pointer(&x)); err != nil {
			return "", fmt.Errorf("set the project of %s: %w", dir, err)
		}
	}
	q := diskQuota{Version: diskQuotaVer, Flags: typeProject, FieldMask: fieldHardBlocks, ID: x.ProjID, HardBlocks: uint64(limit+basicBlock-1) / basicBlock}
	if err := quotactl(f.Fd(), cmdSetXLimit, x.ProjID, unsafe.Pointer(&q)); err != nil {
		return "", fmt.Errorf("limit %s to %d bytes: %w", dir, limit, err)
	}
	return "", nil
}

// quotaUsed is what dir holds as its quota counts it; known is false where there is none.
func quotaUsed(dir string) (used int64, known bool) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	var x fsxattr
	if ioctl(f.Fd(), fsIocGetXattr, unsafe.Pointer(&x)) != nil || x.ProjID == 0 {
		return 0, false
	}
	var q diskQuota
	if quotactl(f.Fd(), cmdGetXQuota, x.ProjID, unsafe.Pointer(&q)) != nil {
		return 0, false
	}
	return int64(q.BlockCount) * basicBlock, true
}

func unlessNone(limit int64, why string) string {
	if limit == 0 {
		return ""
	}
	return why
}

// projectID derives a project from a directory: never 0, above what people choose.
// By its path alone, what is in the trash would count as its successor's.
func projectID(dir string, inode uint64) uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%d", dir, inode)
	return h.Sum32() | 1<<31
}

func ioctl(fd, request uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

func quotactl(fd uintptr, cmd int, id uint32, arg unsafe.Pointer) error {
	_, _, e := unix.Syscall6(unix.SYS_QUOTACTL_FD, fd, uintptr(cmd<<8|projectQuota), uintptr(id), uintptr(arg), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
