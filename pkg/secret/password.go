package secret

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

const (
	passwordBytes = 32
	// ownersDir holds, for each password, a file with its mark: the password's own file is given to machines as it is.
	ownersDir = ".owners"
)

// roleName is what resource.Naming makes of an object's database.
var roleName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Options of New.
type Options struct {
	Layout       host.Layout // required
	Installation string      // required
	Key          Key         // required
}

// Driver manages the kind password.
type Driver struct {
	opts Options

	mu   sync.Mutex
	seen map[string]seenPassword // what was read before, by role
}

// seenPassword is a cache of the digest: reading a thousand files in each pass costs more than looking at them.
type seenPassword struct {
	file, owner fileID
	item        resource.Resource
}

type fileID struct {
	ino          uint64
	size         int64
	mtime, ctime syscall.Timespec
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	if o.Layout.State == "" || o.Installation == "" || len(o.Key.key) != keySize {
		return nil, errors.New("secret driver: Layout, Installation and Key are required")
	}
	return &Driver{opts: o, seen: map[string]seenPassword{}}, nil
}

// Name is "secret".
func (d *Driver) Name() string { return "secret" }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind { return []resource.Kind{resource.KindPassword} }

func (d *Driver) file(role string) string { return filepath.Join(d.opts.Layout.Passwords(), role) }
func (d *Driver) owner(role string) string {
	return filepath.Join(d.opts.Layout.Passwords(), ownersDir, role)
}

// Observe lists the marks. One whose password is not there, because a Put or a
// Delete was cut short, is shown without file: it differs from every wanted one.
func (d *Driver) Observe(context.Context) map[resource.Kind]resource.Domain {
	return map[resource.Kind]resource.Domain{resource.KindPassword: d.observe()}
}

func (d *Driver) observe() resource.Domain {
	entries, err := os.ReadDir(d.owner(""))
	if errors.Is(err, fs.ErrNotExist) {
		return resource.Known()
	}
	if err != nil {
		return resource.Unknown(fmt.Errorf("list the passwords: %w", err))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	items := make(resource.Set, len(entries))
	seen := make(map[string]seenPassword, len(entries))
	for _, e := range entries {
		if !roleName.MatchString(e.Name()) {
			continue
		}
		p, err := d.look(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return resource.Unknown(fmt.Errorf("read the password of %s: %w", e.Name(), err))
		}
		seen[e.Name()] = p
		if p.item.Owner != "" {
			items[p.item.ID] = p.item
		}
	}
	d.seen = seen
	return resource.Domain{Items: items}
}

// look reads a password and its mark unless both are as they were.
func (d *Driver) look(role string) (p seenPassword, err error) {
	if p.owner, err = identify(d.owner(role)); err != nil {
		return p, err
	}
	p.file, err = identify(d.file(role))
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return p, err
	}
	if known := d.seen[role]; known.file == p.file && known.owner == p.owner {
		return known, nil
	}
	mark, err := d.readMark(role)
	if err != nil || mark.Installation != d.opts.Installation {
		return p, err
	}
	var v resource.Password
	if !missing {
		value, err := os.ReadFile(d.file(role))
		if err != nil {
			return p, err
		}
		v = resource.Password{File: d.file(role), Digest: d.opts.Key.Digest("password/"+role, value)}
	}
	p.item = resource.New(mark.Owner, "", role, v)
	return p, nil
}

func identify(path string) (fileID, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return fileID{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fileID{ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, nil
}

func (d *Driver) readMark(role string) (resource.Mark, error) {
	b, err := os.ReadFile(d.owner(role))
	if err != nil {
		return resource.Mark{}, err
	}
	mark, _ := resource.ParseMark(strings.TrimSpace(string(b)))
	return mark, nil
}

// Apply runs the steps one after another.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	errs := make([]error, len(steps))
	for i, s := range steps {
		v, ok := s.Resource.Value.(resource.Password)
		switch {
		case ctx.Err() != nil:
			errs[i] = ctx.Err()
		case !ok || !roleName.MatchString(s.Resource.Name):
			errs[i] = resource.Terminal("InvalidName", fmt.Errorf("%s is not a step of the secret driver", s))
		case s.Verb == resource.Delete:
			errs[i] = d.remove(s)
		case v.File != d.file(s.Resource.Name):
			errs[i] = resource.Terminal("InvalidName", fmt.Errorf("the password of %s belongs in %s, not in %s", s.Resource.Name, d.file(s.Resource.Name), v.File))
		default:
			errs[i] = d.put(s)
		}
	}
	return errs
}

// put writes the mark and then the password, so that none is without a mark.
func (d *Driver) put(s resource.Step) error {
	role := s.Resource.Name
	_, err := os.Lstat(d.file(role))
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.mayTouch(s, there); err != nil {
		return err
	}
	for _, dir := range []string{d.opts.Layout.Passwords(), d.owner("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	mark := resource.Mark{Installation: d.opts.Installation, Owner: s.Resource.Owner}
	if now, err := d.readMark(role); err != nil || now != mark {
		if err := host.WriteFile(d.owner(role), []byte(mark.String()+"\n"), 0o600); err != nil {
			return err
		}
	}
	if there {
		return nil // PostgreSQL may know it
	}
	raw := make([]byte, passwordBytes)
	rand.Read(raw)
	return host.WriteFile(d.file(role), []byte(base64.RawURLEncoding.EncodeToString(raw)), 0o600)
}

// mayTouch re-reads the mark. A password without one is taken over: it lies in
// our own directory, and whoever put it there wants it used.
func (d *Driver) mayTouch(s resource.Step, there bool) error {
	mark, err := d.readMark(s.Resource.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !there:
		return nil
	case err != nil:
		return err
	case mark.Installation != d.opts.Installation:
		return resource.Taken("Conflict", fmt.Errorf("the password %s belongs to another installation (%s); remove it if that is gone", d.file(s.Resource.Name), mark))
	case mark.Owner != s.Resource.Owner && (s.Seen == nil || s.Seen.Owner != mark.Owner):
		return resource.ErrStale
	}
	return nil
}

// remove deletes the password and then its mark.
func (d *Driver) remove(s resource.Step) error {
	role := s.Resource.Name
	mark, err := d.readMark(role)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not ours, or gone
	}
	if err != nil {
		return err
	}
	if mark != (resource.Mark{Installation: d.opts.Installation, Owner: s.Resource.Owner}) {
		return resource.ErrStale
	}
	for _, path := range []string{d.file(role), d.owner(role)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := host.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// Watch tells of changes in the directory of passwords.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	if err := os.MkdirAll(d.opts.Layout.Passwords(), 0o700); err != nil {
		return err
	}
	return watchDir(ctx, d.opts.Layout.Passwords(), notify)
}
