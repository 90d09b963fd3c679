package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
)

// move moves a file, or a directory with all in it, to its place. What is there
// of the same name is replaced; other things stay. What was moved before is not
// there any more, which is success.
func move(from, to string) error {
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = os.Rename(from, to)
	switch {
	case err == nil:
		return host.SyncDir(filepath.Dir(to))
	case info.IsDir() && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EXDEV)):
		return merge(from, to, info)
	case errors.Is(err, unix.EXDEV):
		return replace(from, to, info)
	}
	return err
}

// merge moves what is in a directory to another one.
func merge(from, to string, info fs.FileInfo) error {
	if err := os.Mkdir(to, info.Mode().Perm()); err == nil {
		err = os.Lchown(to, int(stat(info).Uid), int(stat(info).Gid))
		if err = errors.Join(err, os.Chmod(to, info.Mode().Perm())); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := move(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(from)
}

// replace makes what an archive may have, other than directories, on another file
// system, where a file appears whole.
func replace(from, to string, info fs.FileInfo) error {
	var err error
	if info.Mode().IsRegular() {
		err = rewrite(from, to, info)
	} else {
		err = remake(from, to, info)
	}
	if err != nil {
		return err
	}
	if err := os.Lchown(to, int(stat(info).Uid), int(stat(info).Gid)); err != nil {
		return err
	}
	if err := host.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return os.Remove(from)
}

func rewrite(from, to string, info fs.FileInfo) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return host.WriteFile(to, content, info.Mode().Perm())
}

// remake makes a link, a pipe or a mark of what was removed. One that is there was
// made before the move was cut short: anything else would have been a conflict.
func remake(from, to string, info fs.FileInfo) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info.Mode().Type() != fs.ModeSymlink {
		return errors.Join(unix.Mknod(to, stat(info).Mode, int(stat(info).Rdev)), os.Chmod(to, info.Mode().Perm()))
	}
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	return os.Symlink(target, to)
}

// conflicts says which files would be replaced by others.
func conflicts(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		there, err := os.Lstat(target)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() && there.IsDir() {
			return nil
		}
		if d.Type().IsRegular() && there.Mode().IsRegular() {
			mine, errMine := os.ReadFile(path)
			theirs, errTheirs := os.ReadFile(target)
			if err := errors.Join(errMine, errTheirs); err != nil {
				return err
			}
			if bytes.Equal(mine, theirs) {
				return nil
			}
		}
		return fmt.Errorf("%s is there, and is another one than that of the backup; move it away first", target)
	})
}

// elsewhere reports whether a directory exists and is on another file system.
func elsewhere(state, dir string) bool {
	var a, b unix.Stat_t
	return unix.Stat(dir, &b) == nil && unix.Stat(state, &a) == nil && a.Dev != b.Dev
}
