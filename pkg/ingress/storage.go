package ingress

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// mend removes from Caddy's storage what a power cut has left empty or full of
// zeros, for Caddy syncs nothing and does not start with such a file. It makes
// anew what is missing, provided that key and certificate are missing together.
func (d *Driver) mend() error {
	root, err := os.OpenRoot(d.storage()) // its user may write there: no link leads out
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // went with its companion
		}
		if err != nil || !e.Type().IsRegular() || !blank(root, name) {
			return err
		}
		d.opts.Log.Info("a file of Caddy was left without content, as by a power cut: it is made anew", "file", name)
		companions := path.Dir(name) + "/*"
		if strings.HasPrefix(path.Base(name), "intermediate.") {
			companions = path.Dir(name) + "/intermediate.*" // the root above it stays: people trust it
		}
		return removeFiles(root, companions)
	})
}

func removeFiles(root *os.Root, pattern string) error {
	names, err := fs.Glob(root.FS(), pattern)
	for _, name := range names {
		if info, errStat := root.Lstat(name); errStat == nil && info.Mode().IsRegular() {
			err = errors.Join(err, root.Remove(name))
		}
	}
	return err
}

// blank reports whether a file has no content: none at all, or zeros.
func blank(root *os.Root, name string) bool {
	f, err := root.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := f.Read(head)
	return len(bytes.Trim(head[:n], "\x00")) == 0 && (err == nil || n == 0)
}
