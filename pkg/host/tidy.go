package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// temporary is the name of a file that WriteFile was cut short at, and of a
// directory in which renameio makes a link: a dot, the file's name, a random number.
var temporary = regexp.MustCompile(`^\..+[0-9]{9,}$`)

// Tidy removes from the state directory what a crash or a power cut has left
// half made: temporary files and directories without content. Nobody may be at
// work there. It does not go into data.
func Tidy(l Layout) error {
	errs := []error{os.RemoveAll(l.Staging()), os.RemoveAll(l.Backup())}
	for _, pattern := range []string{
		l.State, filepath.Join(l.Machines(), "*"), filepath.Join(l.Volumes(), "*", "*"), l.Passwords(),
		filepath.Join(l.Passwords(), ".*"), l.Service("*"), filepath.Join(l.Service("*"), "conf"), filepath.Join(l.Builds(), "*"), filepath.Join(l.Checkouts(), "*"),
		filepath.Join(l.Setups(), "*"), filepath.Join(l.Trash(), "*"),
	} {
		dirs, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, dir := range dirs {
			errs = append(errs, removeTemporaries(dir))
		}
	}
	for _, pattern := range []string{
		filepath.Join(l.Machines(), "*"), filepath.Join(l.Volumes(), "*", "*"), filepath.Join(l.Volumes(), "*"), filepath.Join(l.Setups(), "*"), filepath.Join(l.Trash(), "*"),
	} {
		dirs, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, dir := range dirs {
			if info, err := os.Lstat(dir); err == nil && info.IsDir() {
				os.Remove(dir) // fails for one with content
			}
		}
	}
	return errors.Join(errs...)
}

func removeTemporaries(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if info, errStat := os.Lstat(dir); errStat == nil && !info.IsDir() {
			return nil
		}
		return err
	}
	var errs []error
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case !temporary.MatchString(e.Name()):
		case e.Type().IsRegular():
			errs = append(errs, os.Remove(name))
		case e.IsDir():
			removeLinks(name)
			os.Remove(name) // fails for one with other content
		}
	}
	return errors.Join(errs...)
}

func removeLinks(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type() == fs.ModeSymlink {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
