package transfer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Unpack writes what a tar stream of Pack holds to name: into it where that is a
// directory, there as base, else as name itself. The stream has no say in what
// the copy is called, unless base is empty.
func Unpack(r io.Reader, name, base string) error {
	dir := name
	if info, err := os.Stat(name); err != nil || !info.IsDir() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if strings.HasSuffix(name, "/") {
			return fmt.Errorf("%s is no directory", name)
		}
		dir, base = filepath.Split(filepath.Clean(name))
		if dir == "" {
			dir = "."
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := unpacker{root: root, in: tar.NewReader(r)}
	return u.all(base)
}

type unpacker struct {
	root *os.Root // the destination, later the directory that is copied
	in   *tar.Reader
	// dirs get their permissions and times when nothing more is written to them.
	dirs []*tar.Header
}

// all writes the first entry, which is what is copied. Where that is a directory
// the others go into it, and their links lead nowhere else.
func (u *unpacker) all(base string) error {
	h, err := u.in.Next()
	if err != nil {
		return fmt.Errorf("read what is copied: %w", err)
	}
	if base == "" {
		base = path.Clean(h.Name)
	}
	if !filepath.IsLocal(base) || path.Base(base) != base || base == "." {
		return fmt.Errorf("%q is no name in the destination", base)
	}
	h.Name = base
	if h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeReg {
		return fmt.Errorf("%q is no file and no directory", base)
	}
	if err := u.entry(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		if u.root, err = u.root.OpenRoot(base); err != nil {
			return err
		}
		defer u.root.Close()
		h.Name = "."
	}
	return errors.Join(u.below(), u.finish())
}

// below writes what a directory holds; a file is followed by nothing.
func (u *unpacker) below() error {
	for {
		h, err := u.in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what is copied: %w", err)
		}
		name := path.Clean(h.Name)
		_, rest, _ := strings.Cut(name, "/")
		if !filepath.IsLocal(name) || rest == "" || len(u.dirs) == 0 {
			return fmt.Errorf("%q is no name below what is copied", h.Name)
		}
		h.Name = rest
		if err := u.entry(h); err != nil {
			return err
		}
	}
}

func (u *unpacker) entry(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeDir:
		u.dirs = append(u.dirs, h)
		err := u.root.MkdirAll(h.Name, 0o700)
		if err == nil {
			err = u.root.Chmod(h.Name, fs.FileMode(h.Mode).Perm()|0o700) // one that was there may be closed to us
		}
		return err
	case tar.TypeReg:
		return u.file(h)
	case tar.TypeSymlink:
		if err := u.clear(h.Name); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, h.Name)
	}
	return fmt.Errorf("%q is no file, directory or link", h.Name)
}

// clear makes room for an entry: what is there and no file goes, if it can.
func (u *unpacker) clear(name string) error {
	info, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory there", name)
	}
	return u.root.Remove(name)
}

// file replaces what is there: who has the old one open keeps it.
func (u *unpacker) file(h *tar.Header) error {
	if err := u.clear(h.Name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, u.in)
	if err == nil {
		err = f.Chmod(fs.FileMode(h.Mode).Perm())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", h.Name, err)
	}
	return u.root.Chtimes(h.Name, time.Time{}, h.ModTime)
}

// finish sets what directories are to be, the deepest first.
func (u *unpacker) finish() (err error) {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		h := u.dirs[i]
		err = errors.Join(err, u.root.Chmod(h.Name, fs.FileMode(h.Mode).Perm()), u.root.Chtimes(h.Name, time.Time{}, h.ModTime))
	}
	return err
}
