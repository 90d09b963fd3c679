package backup

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxDepth of directories: each takes a file descriptor while it is read.
const maxDepth = 400

// maxName of an entry, which is a path that has to fit into PATH_MAX wherever it is
// put back.
const maxName = unix.PathMax - 512

// inode identifies a file as long as it is there.
type inode struct{ dev, ino uint64 }

// first is what a file with more than one name was met as.
type first struct {
	name    string
	changed unix.Timespec // its ctime, which nobody can set
}

// packer adds a tree, or a file, to an archive.
type packer struct {
	*Writer
	// linked are the files of the part with more than one name.
	linked map[inode]first
	dev    uint64
}

// Path adds a part that is a file or a directory with all below it. Of links only
// one that has the part's own place is followed: who named it means what is there.
func (a *Writer) Path(part, path string) error {
	return a.part(part, func() error {
		path, err := behind(path)
		if err != nil {
			return err
		}
		p := packer{Writer: a, linked: map[inode]first{}}
		parent, err := os.OpenRoot(filepath.Dir(path))
		if err != nil {
			return err
		}
		defer parent.Close()
		info, err := parent.Lstat(filepath.Base(path))
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no file and no directory", path)
		}
		p.dev = stat(info).Dev
		if err := p.entry(parent, filepath.Base(path), part, 0); err != nil {
			return err
		}
		if p.sum.part.Entries == 0 {
			return fmt.Errorf("%s vanished, or does not stay as it is", path)
		}
		return nil
	})
}

// behind is where a path leads, should it be a link.
func behind(path string) (string, error) {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSymlink {
		return path, nil // what is wrong with it, whoever opens it is told
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("%s is a link that leads nowhere: %w", path, err)
	}
	return real, nil
}

func stat(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }

func same(a, b fs.FileInfo) bool { return os.SameFile(a, b) }

func inodeOf(info fs.FileInfo) inode { return inode{stat(info).Dev, stat(info).Ino} }

// entry adds what has a name in a directory. What vanishes or changes meanwhile
// is told, and no reason to stop.
func (p *packer) entry(dir *os.Root, base, name string, depth int) error {
	info, err := dir.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(name) > maxName {
		p.Remark("%q was left out: its path is longer than %d bytes", name, maxName)
		return nil
	}
	h := headerOf(info, name)
	switch mode := info.Mode(); {
	case mode.IsDir():
		return p.directory(dir, base, info, h, depth)
	case mode.IsRegular():
		return p.regular(dir, base, info, h)
	case mode.Type() == fs.ModeSymlink:
		target, err := dir.Readlink(base)
		if err != nil {
			return p.gone(name, err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return p.header(h)
	case mode.Type() == fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
		return p.header(h)
	case mode.Type() == fs.ModeDevice|fs.ModeCharDevice && stat(info).Rdev == 0:
		h.Typeflag = tar.TypeChar // overlay's mark of what was removed
		return p.header(h)
	case mode.Type() == fs.ModeSocket:
		return nil // ends with who made it
	}
	p.Remark("%q was left out: it is a device", name)
	return nil
}

func headerOf(info fs.FileInfo, name string) *tar.Header {
	st := stat(info)
	return &tar.Header{Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Unix())}
}

// gone judges what came of an entry that was there a moment ago.
func (p *packer) gone(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p.Remark("%q was left out: %v", name, err)
	return nil
}

func (p *packer) directory(dir *os.Root, base string, info fs.FileInfo, h *tar.Header, depth int) error {
	sub, err := dir.OpenRoot(base)
	if err != nil {
		return p.gone(h.Name, err)
	}
	defer sub.Close()
	f, err := sub.Open(".")
	if err != nil {
		return p.gone(h.Name, err)
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !same(info, now) {
		p.Remark("%q was left out: it became another directory while it was read", h.Name)
		return nil
	}
	h.PAXRecords = p.attributes(f, h.Name)
	h.Typeflag = tar.TypeDir
	name := h.Name
	h.Name += "/"
	if err := p.header(h); err != nil {
		return err
	}
	switch {
	case stat(now).Dev != p.dev:
		p.Remark("what is below %q was left out: another file system is mounted there", name)
		return nil
	case depth >= maxDepth:
		p.Remark("what is below %q was left out: it is more than %d directories deep", name, maxDepth)
		return nil
	}
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := p.entry(sub, n, name+"/"+n, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// replaced is how often a file may be replaced by another under our hands.
const replaced = 10

// open opens a file, which programs replace by a rename while it is looked at.
func (p *packer) open(dir *os.Root, base string, info fs.FileInfo) (f *os.File, now fs.FileInfo, err error) {
	for range replaced {
		if f, err = dir.OpenFile(base, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil { // a pipe that took its place makes nobody wait
			return nil, nil, err
		}
		if now, err = f.Stat(); err == nil && same(info, now) {
			return f, now, nil
		}
		f.Close()
		if info, err = dir.Lstat(base); err != nil {
			return nil, nil, err
		}
		if !info.Mode().IsRegular() {
			break
		}
	}
	return nil, nil, errors.New("it became another one while it was read")
}

func (p *packer) regular(dir *os.Root, base string, info fs.FileInfo, h *tar.Header) error {
	// One that was touched since may be another file, which got the number of one that was removed.
	if met, known := p.linked[inodeOf(info)]; known && met.changed == unix.Timespec(stat(info).Ctim) {
		h.Typeflag, h.Linkname = tar.TypeLink, met.name
		return p.header(h)
	}
	f, now, err := p.open(dir, base, info)
	if err != nil {
		return p.gone(h.Name, err)
	}
	defer f.Close()
	*h = *headerOf(now, h.Name)
	h.Typeflag, h.Size = tar.TypeReg, now.Size()
	h.PAXRecords = p.attributes(f, h.Name)
	if err := p.file(f, h); err != nil {
		return err
	}
	st := stat(now)
	if st.Nlink > 1 {
		p.linked[inodeOf(now)] = first{h.Name, unix.Timespec(st.Ctim)}
	}
	after, err := f.Stat()
	if err == nil && h.Name != eventsPart && (after.Size() != now.Size() || stat(after).Mtim != st.Mtim) {
		p.Remark("%q changed while it was read", h.Name)
	}
	return err
}

// file adds a file as long as it was when its header was made: what was cut
// meanwhile is filled up.
func (p *packer) file(f *os.File, h *tar.Header) error {
	stretches, err := segments(f, h.Size)
	if err != nil {
		return err
	}
	if len(stretches) == 1 && stretches[0].length == h.Size || h.Size == 0 {
		if err := p.header(h); err != nil {
			return err
		}
		return p.copy(p.content(), f, segment{0, h.Size})
	}
	data, end, err := p.sparse(h, stretches)
	if err != nil {
		return err
	}
	at := int64(0)
	for _, s := range stretches {
		if err := p.hole(s.at - at); err != nil {
			return err
		}
		if err := p.copy(io.MultiWriter(data, p.sum), f, s); err != nil {
			return err
		}
		at = s.at + s.length
	}
	return errors.Join(p.hole(h.Size-at), end())
}

// hole counts what is not in the archive, and read from it as zeros.
func (p *packer) hole(n int64) error {
	_, err := io.CopyN(p.sum, zeros{}, n)
	p.o.Progress(n)
	return err
}

func (p *packer) copy(w io.Writer, f *os.File, s segment) error {
	w = io.MultiWriter(w, counting(p.o.Progress))
	n, err := io.Copy(w, io.NewSectionReader(f, s.at, s.length))
	if err == nil && n < s.length {
		_, err = io.CopyN(w, zeros{}, s.length-n)
	}
	return err
}

// counting tells how much was written.
type counting func(int64)

func (c counting) Write(b []byte) (int, error) {
	c(int64(len(b)))
	return len(b), nil
}
