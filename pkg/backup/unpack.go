package backup

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unpacker writes the entries of an archive below a directory that is empty and
// nobody else's. Entries have been checked.
type unpacker struct {
	root *os.Root
	fd   int // of root
	dirs []*tar.Header
	// owner says whose entries of a part are; nil: as they were.
	owner func(part string) *unix.Stat_t
	wrote func(int64)
}

func (u *unpacker) visit(h *tar.Header, content io.Reader) error {
	name := strings.TrimSuffix(h.Name, "/")
	if err := u.make(h, name, content); err != nil {
		return fmt.Errorf("put %q back: %w", name, err)
	}
	return nil
}

func (u *unpacker) make(h *tar.Header, name string, content io.Reader) error {
	part, err := partOf(name)
	if err != nil {
		return err
	}
	if name == part { // groups are no entries
		if err := u.root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
	}
	uid, gid := h.Uid, h.Gid
	if o := u.owner(part); o != nil {
		uid, gid = int(o.Uid), int(o.Gid)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(h, name, uid, gid, content)
	case tar.TypeDir:
		if err := u.root.Mkdir(name, 0o700); err != nil {
			return err
		}
		u.dirs = append(u.dirs, h)
		return u.attributes(h, name, uid, gid)
	case tar.TypeLink:
		return u.root.Link(strings.TrimSuffix(h.Linkname, "/"), name)
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
	case tar.TypeFifo:
		if err := unix.Mknodat(u.fd, name, unix.S_IFIFO|uint32(h.Mode), 0); err != nil {
			return err
		}
	case tar.TypeChar:
		if err := unix.Mknodat(u.fd, name, unix.S_IFCHR|uint32(h.Mode), 0); err != nil {
			return err
		}
	}
	if err := u.root.Lchown(name, uid, gid); err != nil {
		return err
	}
	return u.touch(h, name)
}

func (u *unpacker) file(h *tar.Header, name string, uid, gid int, content io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	content = io.TeeReader(content, counting(u.wrote))
	if _, sparse := h.PAXRecords["GNU.sparse.major"]; sparse {
		p := &punching{f: f}
		if _, err = io.Copy(p, content); err == nil {
			err = p.end()
		}
	} else {
		_, err = io.Copy(f, content)
	}
	if err != nil {
		return err
	}
	if err := settle(f, h, uid, gid); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return u.touch(h, name)
}

// attributes are set on a directory once it is there; its time when all that is
// in it is.
func (u *unpacker) attributes(h *tar.Header, name string, uid, gid int) error {
	f, err := u.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return settle(f, h, uid, gid)
}

// settle gives a file its owner, mode and attributes, in an order in which none
// takes the former away.
func settle(f *os.File, h *tar.Header, uid, gid int) error {
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), uint32(h.Mode)); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		name, is := strings.CutPrefix(key, xattrRecord)
		if !is {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0); err != nil {
			if errors.Is(err, unix.ENOTSUP) {
				err = fmt.Errorf("%w: this file system has no such attributes", err)
			}
			return fmt.Errorf("set the attribute %q: %w", name, err)
		}
	}
	return nil
}

func (u *unpacker) touch(h *tar.Header, name string) error {
	at := unix.NsecToTimespec(h.ModTime.UnixNano())
	err := unix.UtimesNanoAt(u.fd, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENAMETOOLONG) {
		return nil // so deep that only its time is lost
	}
	return err
}

// end makes all of it durable.
func (u *unpacker) end() error {
	for _, h := range slices.Backward(u.dirs) {
		if err := u.touch(h, strings.TrimSuffix(h.Name, "/")); err != nil {
			return err
		}
	}
	return unix.Syncfs(u.fd)
}

// unpack writes an archive below root, and reports what it was once all of it
// was there and right.
func unpack(r io.Reader, root *os.Root, owner func(part string) *unix.Stat_t, wrote func(int64)) (Manifest, error) {
	dir, err := root.Open(".")
	if err != nil {
		return Manifest{}, err
	}
	defer dir.Close()
	u := &unpacker{root: root, fd: int(dir.Fd()), owner: owner, wrote: wrote}
	m, err := read(r, u.visit)
	if err != nil {
		return Manifest{}, err
	}
	return m, u.end()
}
