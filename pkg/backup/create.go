package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CreateOptions of Create.
type CreateOptions struct {
	Places   Places // required
	Head     Head   // required
	HostFile []byte // required: the daemon's configuration
	Plain    bool   // not compressed
	// Databases to be dumped; asked for once all else is written, so that none is
	// missing that the ledger knows. Dump makes the dump of one as a directory that
	// is ours to remove; ErrNoDatabase: it is gone; ErrNotDumped: it cannot be.
	Databases func(ctx context.Context) ([]string, error)
	Dump      func(ctx context.Context, database string) (dir string, err error)
	// Remarks for the manifest, of what whoever has it made knows. Optional.
	Remarks []string
	// Began is told of each part, Progress of what is read of it. Optional.
	Began    func(part string)
	Progress func(n int64)
}

// ErrNoDatabase says that a database was deleted since it was listed.
var ErrNoDatabase = errors.New("there is no such database any more")

// ErrNotDumped says that one database could not be dumped, by its own fault: whoever
// uses it may lock a table for as long as he likes, and must not be in the way of
// all others.
var ErrNotDumped = errors.New("it could not be dumped")

// Create writes an archive of this host, which may go on meanwhile: of each file
// there is what it held when it was read, of each database what it held at one
// moment.
func Create(ctx context.Context, w io.Writer, o CreateOptions) (Manifest, error) {
	o.Head.CreatedAt = time.Now().UTC()
	progress := func(n int64) {
		if o.Progress != nil {
			o.Progress(n)
		}
	}
	a, err := NewWriter(stopping{ctx, w}, WriterOptions{Head: o.Head, Plain: o.Plain, Progress: progress})
	if err != nil {
		return Manifest{}, err
	}
	for _, r := range o.Remarks {
		a.Remark("%s", r)
	}
	if err := a.Bytes(PartHost, o.HostFile); err != nil {
		return Manifest{}, err
	}
	for _, place := range o.Places.all() {
		if err := a.place(place, o.Began); err != nil {
			return Manifest{}, err
		}
	}
	var databases []string
	if o.Databases != nil {
		if databases, err = o.Databases(ctx); err != nil {
			return Manifest{}, err
		}
	}
	for _, name := range databases {
		if err := a.database(ctx, name, o); err != nil {
			return Manifest{}, err
		}
	}
	return a.Close()
}

// place adds what lies there, if anything does.
func (a *Writer) place(p place, began func(string)) error {
	_, err := os.Lstat(p.path)
	ours := strings.HasPrefix(p.part, GroupState+"/")
	if ours && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = behind(p.path) // maybe to a disk that is away
	}
	if !ours && errors.Is(err, fs.ErrNotExist) {
		a.Remark("%s is not there", p.path)
		return nil
	}
	if err != nil {
		return err
	}
	if len(path.Base(p.part)) > unix.NAME_MAX {
		a.Remark("%s was left out: its path is too long for a name in an archive", p.path)
		return nil
	}
	if began != nil {
		began(p.part)
	}
	return a.Path(p.part, p.path)
}

func (a *Writer) database(ctx context.Context, name string, o CreateOptions) error {
	part := GroupDatabases + "/" + name
	if o.Began != nil {
		o.Began(part)
	}
	dir, err := o.Dump(ctx, name)
	if errors.Is(err, ErrNoDatabase) {
		a.Remark("database %s was left out: it was deleted meanwhile", name)
		return nil
	}
	if errors.Is(err, ErrNotDumped) {
		a.Remark("database %s is missing: %v", name, err)
		a.manifest.Missing = append(a.manifest.Missing, part)
		return nil
	}
	if err != nil {
		return fmt.Errorf("back up database %s: %w", name, err)
	}
	return errors.Join(a.Path(part, dir), os.RemoveAll(dir))
}

// Size is about how much there is to read of files.
func Size(p Places) int64 {
	var total int64
	for _, place := range p.all() {
		root, err := os.OpenRoot(place.path)
		if err != nil {
			if info, err := os.Stat(place.path); err == nil {
				total += info.Size()
			}
			continue
		}
		fs.WalkDir(root.FS(), ".", func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // it is counted when it is read
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				total += info.Size()
			}
			return nil
		})
		root.Close()
	}
	return total
}

// stopping ends a write when nobody wants it any more.
type stopping struct {
	ctx context.Context
	w   io.Writer
}

func (s stopping) Write(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.w.Write(b)
}
