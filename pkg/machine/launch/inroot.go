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
