package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

const (
	// trashInfix separates time and name in the trash: <unix-time>-volume-<name>.
	trashInfix = "-volume-"
	trashMeta  = "meta.json"
	trashData  = "data"
	// doomedPrefix begins the name of what has left the trash for good, and is removed.
	doomedPrefix = "deleting-"
)

// DataState says where data stands.
type DataState string

// States of data.
const (
	DataInUse    DataState = "in-use"
	DataRetained DataState = "retained"
	DataInTrash  DataState = "trash"
)

// DataItem is one volume, with or without an object.
type DataItem struct {
	// ID is the volume's name, or the name of its directory in the trash.
	ID     string
	Volume resource.Volume
	Owner  string // UID, of data in use
	State  DataState
	// Since when it is retained or in the trash.
	Since time.Time
	// Err says why its description cannot be read.
	Err error
}

// trashed is meta.json of one directory in the trash.
type trashed struct {
	Mark      string    `json:"mark"` // of whom it was
	DeletedAt time.Time `json:"deletedAt"`
	Volume    marker    `json:"volume"`
	// err says why it cannot be read; then the entry's name is all that is known.
	err error
}

// volumeOf is what a volume's name tells of it.
func volumeOf(name string) resource.Volume {
	parts := append(strings.SplitN(name, ".", 3), "", "")
	return resource.Volume{ObjectKind: parts[0], ObjectName: parts[1], Volume: parts[2]}
}

// trashVolume moves a volume out of use: description first, then the data in
// one rename, then the marker. Every cut leaves something that is repeatable.
func (d *Driver) trashVolume(dir, name string, m marker) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return d.dropMarker(dir) // moved before, or lost: nothing to keep
	}
	now := time.Now().UTC()
	target, err := d.trashDir(name, now)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(trashed{Mark: m.Mark, DeletedAt: now, Volume: m}, "", "  ")
	if err != nil {
		return err
	}
	if err := host.WriteFile(filepath.Join(target, trashMeta), append(b, '\n'), 0o600); err != nil {
		return err
	}
	if err := rename(dir, filepath.Join(target, trashData)); err != nil {
		return err
	}
	return d.dropMarker(dir)
}

// trashDir makes a new directory in the trash, or takes one of the name that
// has no data: an attempt that was cut short has left it. Two deletions of one
// name within a second get different seconds.
func (d *Driver) trashDir(name string, now time.Time) (string, error) {
	if err := os.MkdirAll(d.opts.Layout.Trash(), 0o700); err != nil {
		return "", err
	}
	ids, err := subdirs(d.opts.Layout.Trash())
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		left := filepath.Join(d.opts.Layout.Trash(), id)
		if _, of, _ := strings.Cut(id, trashInfix); of != name {
			continue
		}
		if _, ours := d.trashed(id); !ours {
			continue
		}
		if _, err := os.Lstat(filepath.Join(left, trashData)); errors.Is(err, fs.ErrNotExist) {
			return left, nil
		}
	}
	for t := now.Unix(); ; t++ {
		target := filepath.Join(d.opts.Layout.Trash(), strconv.FormatInt(t, 10)+trashInfix+name)
		err := os.Mkdir(target, 0o700)
		if err == nil {
			return target, host.SyncDir(d.opts.Layout.Trash())
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
}

// rename moves a directory durably, also one that was made immutable.
func rename(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrPermission) && changeable(from) == nil {
		err = os.Rename(from, to)
	}
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("%w: something is mounted on it (`findmnt %s`); unmount it, and it goes on by itself", err, from)
	}
	if err != nil {
		return fmt.Errorf("%w (volumes and trash must be on one file system)", err)
	}
	if err := host.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return host.SyncDir(filepath.Dir(from))
}

// ListData returns all volumes: in use, retained, in the trash.
func (d *Driver) ListData(ctx context.Context) ([]DataItem, error) {
	d.data.Lock()
	defer d.data.Unlock()
	var out []DataItem
	err := d.eachVolume(func(v foundVolume) error {
		owner, ours := d.ours(v.marker.Mark)
		switch {
		case v.err != nil: // nobody knows whose it is: it is treated as in use
			out = append(out, DataItem{ID: v.name, Volume: volumeOf(v.name), State: DataInUse, Err: v.err})
		case !ours:
		case owner == resource.RetainedOwner:
			out = append(out, DataItem{ID: v.name, Volume: v.marker.Volume, State: DataRetained, Since: v.marker.RetainedAt})
		default:
			out = append(out, DataItem{ID: v.name, Volume: v.marker.Volume, Owner: owner, State: DataInUse})
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	err = d.eachTrashed(func(id string, t trashed) error {
		if _, err := os.Lstat(filepath.Join(d.opts.Layout.Trash(), id, trashData)); err == nil {
			out = append(out, DataItem{ID: id, Volume: t.Volume.Volume, State: DataInTrash, Since: t.DeletedAt, Err: t.err})
		}
		return ctx.Err()
	})
	return out, err
}

// eachTrashed calls f for every volume of ours in the trash.
func (d *Driver) eachTrashed(f func(id string, t trashed) error) error {
	names, err := subdirs(d.opts.Layout.Trash())
	if err != nil {
		return err
	}
	for _, id := range names {
		t, ok := d.trashed(id)
		if !ok {
			continue
		}
		if err := f(id, t); err != nil {
			return err
		}
	}
	return nil
}

// trashed reads one entry. ok is false for what is not a volume of ours. An
// entry whose description was never written, or cannot be read, has only its name.
func (d *Driver) trashed(id string) (t trashed, ok bool) {
	seconds, name, found := strings.Cut(id, trashInfix)
	unix, numErr := strconv.ParseInt(seconds, 10, 64)
	if !found || numErr != nil || name == "" || strings.ContainsAny(id, "/\x00") {
		return t, false
	}
	t, found, err := readJSON[trashed](filepath.Join(d.opts.Layout.Trash(), id, trashMeta))
	if err != nil || !found {
		return trashed{DeletedAt: time.Unix(unix, 0).UTC(), Volume: marker{Volume: volumeOf(name)}, err: err}, true
	}
	_, ok = d.ours(t.Mark)
	return t, ok
}

// RestoreData takes a volume out of the trash. It is retained then: the next
// object of its kind and name adopts it.
func (d *Driver) RestoreData(ctx context.Context, id string) error {
	d.data.Lock()
	defer d.data.Unlock()
	t, ok := d.trashed(id)
	if t.err != nil {
		return fmt.Errorf("restore %s: %w", id, t.err)
	}
	v := t.Volume.Volume
	source := filepath.Join(d.opts.Layout.Trash(), id)
	if _, err := os.Lstat(filepath.Join(source, trashData)); !ok || err != nil || v.Volume == "" {
		return fmt.Errorf("%s: %w in the trash; `tekton data list` shows what is", id, fs.ErrNotExist)
	}
	dir, path, err := d.volumePath(resource.VolumeName(v.ObjectKind, v.ObjectName, v.Volume))
	if err != nil {
		return err
	}
	have, found, err := readJSON[marker](path)
	if err != nil {
		return err
	}
	// A marker that is not ready and has no directory is a restore that was cut short.
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) || (found && have.Ready) {
		return fmt.Errorf("restore %s: %s has a newer volume in its place; delete that one first", id, dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	next := marker{Mark: d.mark(resource.RetainedOwner), Volume: v, RetainedAt: time.Now().UTC()}
	if err := d.writeMarker(path, next); err != nil {
		return err
	}
	if err := rename(filepath.Join(source, trashData), dir); err != nil {
		return err
	}
	next.Ready = true
	if err := d.writeMarker(path, next); err != nil {
		return err
	}
	return removeTree(ctx, source)
}

// DeleteData deletes data that no object uses: retained data goes to the trash,
// data in the trash for good.
func (d *Driver) DeleteData(ctx context.Context, id string) error {
	if _, ok := d.trashed(id); ok {
		return d.deleteTrashed(ctx, id)
	}
	d.data.Lock()
	defer d.data.Unlock()
	dir, path, err := d.volumePath(id)
	if err != nil {
		return err
	}
	m, found, err := readJSON[marker](path)
	if err != nil {
		return err
	}
	owner, ours := d.ours(m.Mark)
	switch {
	case !found || !ours:
		return fmt.Errorf("delete %s: %w; `tekton data list` shows what is", id, fs.ErrNotExist)
	case owner != resource.RetainedOwner:
		return fmt.Errorf("delete %s: an object uses it; delete the object with deletionPolicy Delete", id)
	}
	return d.trashVolume(dir, id, m)
}

func (d *Driver) deleteTrashed(ctx context.Context, id string) error {
	d.data.Lock()
	err := d.doom(id)
	d.data.Unlock()
	if err != nil {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	d.doomed.Lock()
	defer d.doomed.Unlock()
	return removeTree(ctx, filepath.Join(d.opts.Layout.Trash(), doomedPrefix+id))
}

// doom takes an entry out of the trash, in a moment: it is not listed any more,
// and what is not removed at once goes with the next PurgeTrash.
func (d *Driver) doom(id string) error {
	trash := d.opts.Layout.Trash()
	return os.Rename(filepath.Join(trash, id), filepath.Join(trash, doomedPrefix+id))
}

// PurgeTrash deletes for good what has been in the trash for longer than
// olderThan, and returns how many volumes that were.
func (d *Driver) PurgeTrash(ctx context.Context, olderThan time.Duration) (int, error) {
	limit := time.Now().Add(-olderThan)
	d.data.Lock()
	var stuck error // what cannot go keeps nothing else from going
	err := d.eachTrashed(func(id string, t trashed) error {
		if !t.DeletedAt.After(limit) {
			stuck = errors.Join(stuck, d.doom(id))
		}
		return ctx.Err()
	})
	d.data.Unlock()
	n, errDoomed := d.removeDoomed(ctx)
	return n, errors.Join(err, stuck, errDoomed)
}

// removeDoomed removes what has left the trash, also what an earlier removal
// that was cut short has left of it.
func (d *Driver) removeDoomed(ctx context.Context) (n int, stuck error) {
	d.doomed.Lock()
	defer d.doomed.Unlock()
	names, err := subdirs(d.opts.Layout.Trash())
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, doomedPrefix) {
			continue
		}
		if err := removeTree(ctx, filepath.Join(d.opts.Layout.Trash(), name)); err != nil {
			stuck = errors.Join(stuck, err)
			continue
		}
		n++
	}
	return n, stuck
}
