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
// directory, else as name itself.
func Unpack(r io.Reader, name string) error {
	dir, base := name, ""
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
	u := unpacker{root: root, base: base, in: tar.NewReader(r)}
	return errors.Join(u.all(), u.finish())
}

type unpacker struct {
	root *os.Root
	base string // instead of the first part of each name; "": as it is
	in   *tar.Reader
	// dirs get their permissions and times when nothing more is written to them.
	dirs []*tar.Header
}

func (u *unpacker) all() error {
	for {
		h, err := u.in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what is copied: %w", err)
		}
		name := path.Clean(h.Name)
		first, rest, _ := strings.Cut(name, "/")
		if u.base != "" {
			name = path.Join(u.base, rest)
		}
		if !filepath.IsLocal(name) || !filepath.IsLocal(first) {
			return fmt.Errorf("%q is no name below the destination", h.Name)
		}
		h.Name = name
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
