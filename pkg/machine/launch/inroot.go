package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// openInRoot opens name as a process chrooted into root would.
func openInRoot(root int, name string) (int, error) {
	return unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// makeInRoot makes a directory, or an empty file in one, with its parents. What
// exists stays as it is.
func makeInRoot(root int, name string, dir bool) error {
	done := "/"
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		next := path.Join(done, part)
		isDir := dir || next != path.Clean(name)
		if err := makeOne(root, done, part, isDir); err != nil {
			return fmt.Errorf("make %s in the machine's root: %w", next, err)
		}
		done = next
	}
	return nil
}

func makeOne(root int, parent, name string, dir bool) error {
	if fd, err := openInRoot(root, path.Join(parent, name)); err == nil {
		return unix.Close(fd)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at, err := openInRoot(root, parent)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if dir {
		return unix.Mkdirat(at, name, 0o755)
	}
	fd, err := unix.Openat(at, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// linkToUsr makes /name a link to /usr/name, where there is that and not the former.
func linkToUsr(root int, name string) error {
	usr, err := openInRoot(root, "usr")
	if err != nil {
		return err
	}
	defer unix.Close(usr)
	var st unix.Stat_t
	if unix.Fstatat(usr, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return nil
	}
	if err := unix.Symlinkat("usr/"+name, root, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("link /%s to /usr/%s in the machine's root: %w", name, name, err)
	}
	return nil
}

// pathsOfNspawn are where nspawn writes, as the host's root, by paths that it
// does not resolve inside the machine's root: device nodes, /run/host. A link in
// their place would have it write to the host's own files.
var pathsOfNspawn = []string{"dev", "proc", "run", "sys"}

// realDirs makes them directories of the root in dir that belong to owner, and
// refuses a root where they are anything else.
func realDirs(dir string, owner int) error {
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for _, name := range pathsOfNspawn {
		err := unix.Mkdirat(root, name, 0o755)
		if err == nil {
			err = unix.Fchownat(root, name, owner, owner, unix.AT_SYMLINK_NOFOLLOW)
		} else if errors.Is(err, fs.ErrExist) {
			var st unix.Stat_t
			if err = unix.Fstatat(root, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return fail(ExitSystem, "/%s of the machine's root is not a directory; remove %s/%s, or delete the object and create it anew", name, dir, name)
			}
		}
		if err != nil {
			return fail(ExitSystem, "make /%s in the machine's root: %w", name, err)
		}
	}
	return nil
}
