package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/resource"
)

const (
	markerPrefix  = "."
	markerSuffix  = ".json"
	markerVersion = 1
)

// marker lies beside a volume's directory and says whose it is.
type marker struct {
	Version int             `json:"version"`
	Mark    string          `json:"mark"` // owner resource.RetainedOwner: its object is gone
	Volume  resource.Volume `json:"volume"`
	// Ready is false from before the directory is made until it is there: a
	// directory that vanished later is not silently made again, empty.
	Ready      bool      `json:"ready"`
	RetainedAt time.Time `json:"retainedAt,omitzero"`
}

func (d *Driver) volumePath(name string) (dir, markerPath string, err error) {
	dir, err = launch.VolumePath(d.opts.Layout.Volumes(), name)
	if err != nil {
		return "", "", resource.Terminal("InvalidVolume", err)
	}
	return dir, markerOf(dir), nil
}

func markerOf(dir string) string {
	return filepath.Join(filepath.Dir(dir), markerPrefix+filepath.Base(dir)+markerSuffix)
}

func (d *Driver) writeMarker(path string, m marker) error {
	m.Version = markerVersion
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return host.WriteFile(path, append(b, '\n'), 0o600)
}

// putVolume makes a volume or takes over one that was retained. A clone is made
// beside all others' volumes, which do not wait for it.
func (d *Driver) putVolume(ctx context.Context, r resource.Resource, v resource.Volume) error {
	dir, path, err := d.volumePath(r.Name)
	if err != nil {
		return err
	}
	put := func(mkdir func() error) error {
		d.data.Lock()
		defer d.data.Unlock()
		return d.putVolumeAt(dir, path, r, v, mkdir)
	}
	if v.Clone.Commit == "" {
		return put(func() error { return os.Mkdir(dir, 0o755) })
	}
	if err := put(func() error { return errNotCloned }); !errors.Is(err, errNotCloned) {
		return err
	}
	cloned, err := d.clone(ctx, v.Clone, dir)
	if err == nil {
		err = put(func() error { return os.Rename(cloned, dir) })
	}
	return errors.Join(err, os.RemoveAll(d.staging(dir)))
}

// errNotCloned says that a volume lacks nothing but its clone.
var errNotCloned = errors.New("not cloned yet")

// putVolumeAt puts a volume, whose directory mkdir makes where there is none.
func (d *Driver) putVolumeAt(dir, path string, r resource.Resource, v resource.Volume, mkdir func() error) error {
	m, found, err := readJSON[marker](path)
	if err != nil {
		return err
	}
	if found {
		if owner, ours := d.ours(m.Mark); !ours || (owner != r.Owner && owner != resource.RetainedOwner) {
			return conflict("volume "+dir, m.Mark)
		}
	} else if _, err := os.Lstat(dir); err == nil {
		return resource.Taken("Conflict", fmt.Errorf("%s is there already without our marker %s; move it away, or restore the marker from a backup", dir, filepath.Base(path)))
	}
	v.Enforced, v.Clone = "", resource.Clone{}
	next := marker{Mark: d.mark(r.Owner), Volume: v, Ready: m.Ready}
	if !m.Ready {
		if err := d.makeVolume(dir, path, next, mkdir); err != nil {
			return err
		}
		next.Ready = true
	}
	if next.Volume.Enforced, err = setQuota(dir, v.SizeMax); err != nil {
		return fmt.Errorf("volume %s: %w", r.Name, err)
	}
	return d.writeMarker(path, next)
}

// makeVolume makes the directory after its marker. Parents are closed to
// everybody else; the volume itself has a machine's root as owner, unshifted.
func (d *Driver) makeVolume(dir, markerPath string, m marker, mkdir func() error) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := d.writeMarker(markerPath, m); err != nil {
		return errors.Join(err, d.dropParents(dir)) // the disk may be full
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := mkdir(); err != nil {
			return err
		}
	}
	for p := filepath.Dir(dir); len(p) >= len(d.opts.Layout.Volumes()); p = filepath.Dir(p) {
		if err := host.SyncDir(p); err != nil {
			return err
		}
	}
	return nil
}

// deleteVolume leaves a volume behind or moves it to the trash.
func (d *Driver) deleteVolume(r resource.Resource, v resource.Volume) error {
	dir, path, err := d.volumePath(r.Name)
	if err != nil {
		return err
	}
	m, found, err := readJSON[marker](path)
	if err != nil || !found {
		return err
	}
	if m.Mark != d.mark(r.Owner) {
		return conflict("volume "+dir, m.Mark)
	}
	if err := os.RemoveAll(d.staging(dir)); err != nil {
		return err
	}
	if v.Policy == resource.DeleteData {
		return d.trashVolume(dir, r.Name, m)
	}
	m.Mark, m.RetainedAt = d.mark(resource.RetainedOwner), time.Now().UTC()
	return d.writeMarker(path, m)
}

// dropMarker removes a marker whose directory has gone, and what parents are empty.
func (d *Driver) dropMarker(dir string) error {
	if err := os.Remove(markerOf(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.dropParents(dir)
}

// dropParents removes the directories above a volume as far as they are empty.
func (d *Driver) dropParents(dir string) error {
	for p := filepath.Dir(dir); p != d.opts.Layout.Volumes(); p = filepath.Dir(p) {
		if os.Remove(p) != nil {
			return host.SyncDir(p) // not empty: other volumes of the object or kind
		}
	}
	return nil
}

func (d *Driver) observeVolumes(ctx context.Context) resource.Domain {
	out := resource.Known()
	err := d.eachVolume(func(v foundVolume) error {
		if v.err != nil {
			out.Unread(v.name, v.err)
			return ctx.Err()
		}
		owner, ours := d.ours(v.marker.Mark)
		if !ours {
			return ctx.Err()
		}
		value := v.marker.Volume
		if !v.marker.Ready {
			value.SizeMax = resource.HalfMade
		}
		r := resource.New(owner, "", v.name, value)
		out.Items[r.ID] = r
		return ctx.Err()
	})
	if err != nil {
		return resource.Unknown(fmt.Errorf("read volumes: %w", err))
	}
	return out
}

// foundVolume is a volume's marker and where it was, or why it cannot be read.
type foundVolume struct {
	name, dir string
	marker    marker
	err       error
}

// errMarker keeps markers that cannot be read from being remembered: a file
// that is repaired in place does not change its directory.
var errMarker = errors.New("a marker cannot be read")

// eachVolume calls f for every marker below <state>/volumes.
func (d *Driver) eachVolume(f func(foundVolume) error) error {
	root := d.opts.Layout.Volumes()
	seen := 0
	defer func() { d.volumes.bound(seen) }()
	kinds, err := subdirs(root)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		objects, err := subdirs(filepath.Join(root, kind))
		if err != nil {
			return err
		}
		for _, object := range objects {
			found, err := d.volumes.get(filepath.Join(root, kind, object), func() ([]foundVolume, error) { return d.volumesOf(kind, object) })
			if err != nil && !errors.Is(err, errMarker) {
				return err
			}
			seen++
			for _, v := range found {
				if err := f(v); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (d *Driver) volumesOf(kind, object string) ([]foundVolume, error) {
	parent := filepath.Join(d.opts.Layout.Volumes(), kind, object)
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []foundVolume
	var failed error
	for _, e := range entries {
		volume, isMarker := strings.CutSuffix(e.Name(), markerSuffix)
		volume, hidden := strings.CutPrefix(volume, markerPrefix)
		if !isMarker || !hidden || !e.Type().IsRegular() {
			continue
		}
		m, found, err := readJSON[marker](filepath.Join(parent, e.Name()))
		if err != nil {
			failed = errMarker
		}
		if found || err != nil {
			out = append(out, foundVolume{strings.Join([]string{kind, object, volume}, "."), filepath.Join(parent, volume), m, err})
		}
	}
	return out, failed
}

func subdirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
