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
)

// Pack writes what is at name, a file or a directory with all below it, as a tar
// stream in which it has its base name. Of a link it is what the link leads to;
// links below are copied as links. skipped is told what is not copied.
func Pack(w io.Writer, name string, skipped func(name, why string)) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	full, err := filepath.Abs(name) // "." has a name too
	if err != nil {
		return err
	}
	p := packer{tar: tar.NewWriter(w), skipped: skipped}
	base := filepath.Base(full)
	if base == string(filepath.Separator) {
		base = "root"
	}
	if info.IsDir() {
		root, err := os.OpenRoot(full)
		if err != nil {
			return err
		}
		defer root.Close()
		err = fs.WalkDir(root.FS(), ".", func(below string, d fs.DirEntry, err error) error {
			return p.entry(root, below, path.Join(base, below), err)
		})
		return errors.Join(err, p.tar.Close())
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait
		return fmt.Errorf("%s is no file and no directory", name)
	}
	f, err := os.Open(full)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(p.file(f, base), p.tar.Close())
}

type packer struct {
	tar     *tar.Writer
	skipped func(name, why string)
}

// entry packs one entry of a directory. What cannot be read, and what vanished
// meanwhile, is no reason to stop.
func (p *packer) entry(root *os.Root, below, name string, err error) error {
	if err != nil {
		p.skipped(name, err.Error())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	info, err := root.Lstat(below)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()})
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := root.Readlink(below)
		if err != nil {
			return err
		}
		return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, ModTime: info.ModTime()})
	case !info.Mode().IsRegular():
		p.skipped(name, "is no file, directory or link")
		return nil
	}
	f, err := root.Open(below)
	if err != nil {
		p.skipped(name, err.Error())
		return nil
	}
	defer f.Close()
	return p.file(f, name)
}

// file packs a file as long as it is now: a log may grow meanwhile, and what
// was cut meanwhile is filled up.
func (p *packer) file(f *os.File, name string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // it was another one a moment ago
		p.skipped(name, "is no file any more")
		return nil
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyN(p.tar, f, info.Size())
	if err == io.EOF {
		p.skipped(name, "became shorter while it was read")
		_, err = io.CopyN(p.tar, zeros{}, info.Size()-n)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
