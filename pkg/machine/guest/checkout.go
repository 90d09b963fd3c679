package guest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/handover"
)

// unpack makes a directory hold the tree that comes as an archive. What tekton
// put there before is replaced or removed, also where it was modified; what it
// did not, stays, unless it is in the way. All of that is done as the user, and
// no link leads out of the directory.
func unpack(c handover.WorkCheckout, in io.Reader, out io.Writer) error {
	u, err := lookupUser(c.User)
	if err != nil {
		return err
	}
	dir, err := openCheckout(path.Clean(c.Path), u)
	if err != nil {
		return fmt.Errorf("directory %s: %w", c.Path, err)
	}
	if err := errors.Join(unix.Fchdir(dir), unix.Close(dir), u.become()); err != nil {
		return err
	}
	root, err := os.OpenRoot(".")
	if err != nil {
		return err
	}
	defer root.Close()
	t := &tree{root: root, dirs: map[string]bool{}}
	if err := t.replace(tar.NewReader(in)); err != nil {
		return fmt.Errorf("write the checkout to %s: %w", c.Path, err)
	}
	fmt.Fprintf(out, "tekton: %s is at %s: %d files, %d written, %d removed\n", c.Path, t.commit, t.files, t.written, t.removed)
	return nil
}

// openCheckout opens the directory, and makes it where it is missing: in the
// user's home as the user, elsewhere as root, who gives it to the user.
func openCheckout(name string, u user) (fd int, err error) {
	if rel, ok := u.belowHome(name); ok {
		err = u.do(func() error {
			fd, err = openDirs(path.Clean(u.home), 0, rel)
			return err
		})
		return fd, err
	}
	if name == "/" || !path.IsAbs(name) {
		return -1, errors.New("is no absolute path of a directory of its own")
	}
	fd, err = openDirs("/", 0, strings.TrimPrefix(name, "/"))
	if err == nil {
		err = giveDir(fd, u)
	}
	return fd, err
}

// tree is a checkout that is being replaced.
type tree struct {
	root *os.Root
	// dirs are known to be directories, and no links.
	dirs   map[string]bool
	commit string

	files, written, removed int
}

// replace writes the manifest first, with what was there and what comes: a run
// that is cut short is continued by the next.
func (t *tree) replace(in *tar.Reader) error {
	header, err := in.Next()
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if header.Name != handover.Manifest {
		return fmt.Errorf("the archive begins with %s, not with %s", header.Name, handover.Manifest)
	}
	var next handover.Tree
	if err := json.NewDecoder(in).Decode(&next); err != nil {
		return fmt.Errorf("read what the archive holds: %w", err)
	}
	last := t.manifest()
	t.commit, t.files = next.Commit, len(next.Files)
	if err := t.writeManifest(handover.Tree{Files: append(slices.Clone(last.Files), next.Files...)}); err != nil {
		return err
	}
	t.prune(last.Files, next.Files)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := t.entry(header, in); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	if err := t.sync(); err != nil {
		return err
	}
	return t.writeManifest(next)
}

// sync: the setup is remembered as done, also over a power cut.
func (t *tree) sync() error {
	dir, err := t.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

// manifest is what tekton put there; nothing, when that cannot be read: then all
// of it is the user's.
func (t *tree) manifest() (m handover.Tree) {
	raw, err := t.root.ReadFile(handover.Manifest)
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return handover.Tree{}
	}
	return m
}

func (t *tree) writeManifest(m handover.Tree) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return t.file(handover.Manifest, 0o644, bytes.NewReader(raw), int64(len(raw)))
}

// prune removes what was tekton's and is not in the next tree, and directories
// that are empty then.
func (t *tree) prune(last, next []string) {
	stays := make(map[string]bool, len(next))
	for _, name := range next {
		stays[name] = true
	}
	for _, name := range last {
		if stays[name] || !local(name) || !t.isDir(path.Dir(name)) || t.root.Remove(name) != nil {
			continue
		}
		t.removed++
		for dir := path.Dir(name); dir != "." && t.root.Remove(dir) == nil; dir = path.Dir(dir) {
			delete(t.dirs, dir)
		}
	}
}

// local reports whether a name stays in the directory and is no other's business.
func local(name string) bool {
	return filepath.IsLocal(name) && path.Clean(name) == name && name != "." && name != handover.Manifest
}

func (t *tree) entry(h *tar.Header, in io.Reader) error {
	name := strings.TrimSuffix(h.Name, "/")
	if !local(name) {
		return errors.New("is no name for a file of a checkout")
	}
	if h.Typeflag == tar.TypeDir { // of a submodule: its own repository was not fetched
		return t.mkdir(name)
	}
	if err := t.mkdir(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return t.file(name, h.FileInfo().Mode().Perm(), in, h.Size)
	case tar.TypeSymlink:
		return t.link(name, h.Linkname)
	}
	return fmt.Errorf("is of the type %q, which no tree of git has", h.Typeflag)
}

// mkdir makes directories, in the place of anything else that is there.
func (t *tree) mkdir(name string) error {
	if t.isDir(name) {
		return nil
	}
	if err := t.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return t.root.Mkdir(name, 0o755)
}

// isDir reports whether a name, and all on the way to it, is a directory and no link.
func (t *tree) isDir(name string) bool {
	if name == "." || t.dirs[name] {
		return true
	}
	if !t.isDir(path.Dir(name)) {
		return false
	}
	info, err := t.root.Lstat(name)
	t.dirs[name] = err == nil && info.IsDir()
	return t.dirs[name]
}

// temporary is the name under which a file is written beside its place.
func temporary(name string) string { return path.Join(path.Dir(name), ".tekton-next") }

// file writes a file, and leaves one that is the same as it is: programs look at
// times to know what has changed.
func (t *tree) file(name string, mode fs.FileMode, in io.Reader, size int64) error {
	next := temporary(name)
	if err := t.root.RemoveAll(next); err != nil {
		return err
	}
	f, err := t.root.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, in)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	same := err == nil && t.same(name, mode, f, size)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil || same {
		return errors.Join(err, t.root.Remove(next))
	}
	return t.put(next, name)
}

// same reports whether a file is there already.
func (t *tree) same(name string, mode fs.FileMode, next io.ReaderAt, size int64) bool {
	info, err := t.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != mode || info.Size() != size {
		return false
	}
	f, err := t.root.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < size; {
		n := min(size-at, int64(len(a)))
		if _, err := f.ReadAt(a[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		if _, err := next.ReadAt(b[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false
		}
		at += n
	}
	return true
}

func (t *tree) link(name, target string) error {
	if have, err := t.root.Readlink(name); err == nil && have == target {
		return nil
	}
	next := temporary(name)
	if err := errors.Join(t.root.RemoveAll(next), t.root.Symlink(target, next)); err != nil {
		return err
	}
	return t.put(next, name)
}

// put moves what was written to its place. A directory that is in the way goes.
func (t *tree) put(next, name string) error {
	if t.isDir(name) {
		if err := t.root.RemoveAll(name); err != nil {
			return err
		}
		clear(t.dirs)
	}
	if name != handover.Manifest {
		t.written++
	}
	return t.root.Rename(next, name)
}
