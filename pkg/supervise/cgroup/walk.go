package cgroup

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// level is a group on the way down, with those inside it that are yet to be seen.
type level struct {
	name string
	left []string
}

// walk calls enter for the group in dir and each inside it, and leave for each
// but the first when all inside it has been left. A machine may nest groups
// deeper than a path is long and than descriptors there are: the walk goes by
// one descriptor, and up by "..". Gone already is success.
func walk(dir string, enter func(fd int) error, leave func(parent int, name string) error) error {
	at, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer func() { at.Close() }()
	move := func(name string) error {
		next, err := openAt(int(at.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err == nil {
			at.Close()
			at = next
		}
		return err
	}
	down := func(name string, way []level) ([]level, error) {
		if err := enter(int(at.Fd())); err != nil {
			return nil, err
		}
		inside, err := groupsIn(at)
		return append(way, level{name, inside}), err
	}
	way, err := down("", nil)
	for err == nil {
		here := &way[len(way)-1]
		if n := len(here.left); n > 0 {
			name := here.left[n-1]
			here.left = here.left[:n-1]
			if err = move(name); err == nil {
				way, err = down(name, way)
			} else {
				err = ignoreGone(err)
			}
			continue
		}
		way = way[:len(way)-1]
		if len(way) == 0 {
			return nil
		}
		name := here.name
		if err = move(".."); err == nil {
			err = leave(int(at.Fd()), name)
		}
	}
	return ignoreGone(err)
}

// groupsIn names the groups directly inside an open one.
func groupsIn(dir *os.File) ([]string, error) {
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, ignoreGone(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func openAt(dir int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// removeTree removes directories only, deepest first: the files of a cgroup go with it.
func removeTree(dir string) error {
	rmdir := func(parent int, name string) error {
		if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
			return &fs.PathError{Op: "rmdir", Path: name, Err: err}
		}
		return nil
	}
	if err := walk(dir, func(int) error { return nil }, rmdir); err != nil {
		return err
	}
	return rmdir(unix.AT_FDCWD, dir)
}
