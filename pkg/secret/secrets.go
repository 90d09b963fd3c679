package secret

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"tekton.host/pkg/host"
)

// maxSecret bounds a secret's size: it travels through memory.
const maxSecret = 1 << 20

// validName is a DNS label or several joined by dots: good as a file name, in a
// spec and on a command line.
var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

const maxName = 63

// ErrNotFound says that there is no secret of a name.
var ErrNotFound = errors.New("no such secret")

// CheckName says what is wrong with the name of a secret.
func CheckName(name string) error {
	if len(name) > maxName || !validName.MatchString(name) {
		return fmt.Errorf("secret name %q: must be 1 to %d characters of a-z, 0-9, - and ., beginning and ending with a letter or digit", name, maxName)
	}
	return nil
}

// Secrets is the operator's directory: one file a secret, the name of the file
// its name, the content its value.
type Secrets struct {
	dir string
	key Key
}

// Info is what may be shown of a secret.
type Info struct {
	Name    string
	Digest  string // "" when refused
	Size    int64
	Changed time.Time
	Refused string // why it is not used, and what to do; "" when it is
}

// Open returns the secrets of a directory, which is made when it is not there:
// a directory that is missing later is then one that has vanished.
func Open(dir string, key Key) (*Secrets, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of secrets: %w", err)
	}
	return &Secrets{dir: dir, key: key}, nil
}

// Path of the file that holds a secret.
func (s *Secrets) Path(name string) string { return filepath.Join(s.dir, name) }

// Set stores a secret: all that r has. The file is replaced as a whole.
func (s *Secrets) Set(name string, r io.Reader) error {
	if err := CheckName(name); err != nil {
		return err
	}
	value, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the value of secret %s: %w", name, err)
	case len(value) == 0:
		return fmt.Errorf("secret %s: the value is empty; give it on standard input", name)
	case len(value) > maxSecret:
		return fmt.Errorf("secret %s: the value is longer than %d bytes", name, maxSecret)
	}
	return host.WriteFile(s.Path(name), value, 0o600)
}

// Delete removes a secret.
func (s *Secrets) Delete(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := os.Remove(s.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("secret %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return err
	}
	return host.SyncDir(s.dir)
}

// List returns what there is, by name. An error means that nothing is known.
func (s *Secrets) List() ([]Info, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of secrets: %w", err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list the secrets: %w", err)
	}
	var infos []Info
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // unfinished writes, and what editors leave
		}
		info, err := s.read(root, e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("read secret %s: %w", e.Name(), err)
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}

// read opens without leaving the directory and without waiting for a FIFO, and
// judges what it has opened.
func (s *Secrets) read(root *os.Root, name string) (Info, error) {
	info := Info{Name: name}
	if err := CheckName(name); err != nil {
		info.Refused = err.Error()
		return info, nil
	}
	link, err := root.Lstat(name)
	if err != nil {
		return info, err
	}
	if link.Mode()&fs.ModeSymlink != 0 {
		info.Refused = "is a link; store the value itself"
		return info, nil
	}
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return info, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return info, err
	}
	info.Size, info.Changed = st.Size(), st.ModTime()
	switch {
	case !st.Mode().IsRegular():
		info.Refused = "is not a file"
	case st.Mode().Perm()&0o077 != 0:
		info.Refused = fmt.Sprintf("is open to others (mode %04o); store it again with `tekton secret set %s`, or chmod 600 %s", st.Mode().Perm(), name, s.Path(name))
	case st.Size() == 0:
		info.Refused = "is empty"
	case st.Size() > maxSecret:
		info.Refused = fmt.Sprintf("is longer than %d bytes", maxSecret)
	}
	if info.Refused != "" {
		return info, nil
	}
	var value bytes.Buffer
	if _, err := io.Copy(&value, io.LimitReader(file, maxSecret)); err != nil {
		return info, err
	}
	info.Digest = s.key.Digest(name, value.Bytes())
	return info, nil
}

// Snapshot is a fact for compile.
type Snapshot struct {
	Digests map[string]string // of the secrets that may be used
	Refused map[string]string // why others may not
}

// Snapshot reads all secrets. An error means Unknown: nothing may be concluded
// from a secret's absence.
func (s *Secrets) Snapshot() (Snapshot, error) {
	infos, err := s.List()
	if err != nil {
		return Snapshot{}, err
	}
	snapshot := Snapshot{Digests: map[string]string{}, Refused: map[string]string{}}
	for _, info := range infos {
		if info.Refused != "" {
			snapshot.Refused[info.Name] = info.Refused
			continue
		}
		snapshot.Digests[info.Name] = info.Digest
	}
	return snapshot, nil
}

// Watch calls notify whenever a secret may have changed, until ctx ends.
func (s *Secrets) Watch(ctx context.Context, notify func()) error {
	return watchDir(ctx, s.dir, notify)
}

func watchDir(ctx context.Context, dir string, notify func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return fmt.Errorf("watch %s: %w", dir, fsnotify.ErrClosed)
			}
			notify()
			if e.Name == dir && e.Has(fsnotify.Remove) {
				return fmt.Errorf("watch %s: %w", dir, fs.ErrNotExist)
			}
		case <-w.Errors: // an overflow: events were lost
			notify()
		}
	}
}
