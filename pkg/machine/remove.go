package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth of open directories on the way down; deeper ones are moved up
	// first, so that no tree a machine built can exhaust our descriptors.
	maxDepth = 64
	// stuckFlags keep a file from being removed: FS_IMMUTABLE_FL and FS_APPEND_FL.
	stuckFlags = 0x10 | 0x20
	openDir    = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// removeTree removes path and all below it. Nothing is followed: the walk goes
// by descriptors, crosses no mount and clears immutable flags on its way. Gone
// already is success.
func removeTree(ctx context.Context, path string) error {
	parent, err := unix.Open(filepath.Dir(path), openDir, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(parent)
	r := &remover{ctx: ctx, top: -1}
	return r.remove(parent, filepath.Base(path), 0, filepath.Dir(path))
}

// emptyDir removes what is in dir but the named entry.
func emptyDir(ctx context.Context, dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == keep {
			continue
		}
		if err := removeTree(ctx, filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

type remover struct {
	ctx context.Context
	// top is the tree's root, where too deep directories are moved to.
	top   int
	moved int
}

func (r *remover) remove(parent int, name string, depth int, where string) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	path := filepath.Join(where, name)
	err := unlink(parent, name, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EISDIR):
	default:
		return explain(path, err)
	}
	if err := r.removeEntries(parent, name, depth, path); err != nil {
		return err
	}
	if err := unlink(parent, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return explain(path, err)
	}
	return nil
}

func (r *remover) removeEntries(parent int, name string, depth int, path string) error {
	fd, err := unix.Openat2(parent, name, &unix.OpenHow{
		Flags:   openDir,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return explain(path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	if err := clearFlags(fd); err != nil {
		return explain(path, err)
	}
	if depth == 0 {
		r.top = fd
	}
	if depth >= maxDepth {
		return r.moveUp(parent, name, path)
	}
	for {
		// Read from the beginning each time: entries vanish below us.
		names, err := dir.Readdirnames(1024)
		for _, n := range names {
			if err := r.remove(fd, n, depth+1, path); err != nil {
				return err
			}
		}
		if len(names) == 0 {
			return nil
		}
		if err != nil {
			return explain(path, err)
		}
		if _, err := dir.Seek(0, 0); err != nil {
			return explain(path, err)
		}
	}
}

// moveUp moves a directory to the root of the tree; the loop over the root's
// entries removes it from there.
func (r *remover) moveUp(parent int, name, path string) error {
	for {
		r.moved++
		err := unix.Renameat2(parent, name, r.top, ".tekton-removed-"+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return explain(path, err)
		}
	}
}

// unlink removes one entry, freeing it of immutable and append-only flags.
func unlink(parent int, name string, flags int) error {
	err := unix.Unlinkat(parent, name, flags)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	// Only regular files and directories carry the flags; others are not opened.
	var st unix.Stat_t
	if e := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); e != nil {
		return e
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && flags == 0 {
		return unix.EISDIR // what POSIX lets unlink of a directory say
	}
	if k := st.Mode & unix.S_IFMT; k != unix.S_IFREG && k != unix.S_IFDIR {
		return err
	}
	fd, e := unix.Openat2(parent, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if e != nil {
		return e
	}
	defer unix.Close(fd)
	if e := clearFlags(fd); e != nil {
		return e
	}
	if e := clearFlags(parent); e != nil {
		return e
	}
	return unix.Unlinkat(parent, name, flags)
}

// changeable clears the flags of one directory.
func changeable(path string) error {
	fd, err := unix.Open(path, openDir, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return clearFlags(fd)
}

// clearFlags makes a file or directory changeable again. File systems without
// such flags have nothing to clear.
func clearFlags(fd int) error {
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&stuckFlags == 0 {
		return nil
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^stuckFlags)
}

// explain adds the next step to errors that a person has to clear.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EXDEV):
		return fmt.Errorf("remove %s: %w: something is mounted there (`findmnt -R %s`); unmount it, removal goes on by itself",
			path, err, strings.ReplaceAll(path, "\n", "?"))
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("remove %s: %w: its file system is mounted read-only; remount it", path, err)
	}
	return fmt.Errorf("remove %s: %w", path, err)
}
