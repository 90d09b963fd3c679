package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/compile"
	"tekton.host/pkg/host"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/resource"
)

// RestoreOptions of Restore.
type RestoreOptions struct {
	Places Places // required: of the host that it is put back on
	// Archive is read once; where it can be read again it is checked before
	// anything is written.
	Archive   io.Reader // required
	MachineID string    // of this host
	// Progress is told of each piece of content that was written. Optional.
	Progress func(n int64)
}

// Restored is what came of it.
type Restored struct {
	Manifest
	// Skipped are parts that this host has no place for, and why.
	Skipped map[string]string
}

// restoring puts one archive back.
//
// All of it is written to one directory first, checked, and declared to be
// complete; from then on it is moved to its places, by whoever calls Restore with
// the same archive. Before, nothing of the host has changed; after, no daemon
// starts until it is over.
type restoring struct {
	RestoreOptions
	layout host.Layout
	dir    string
}

// completeFile is the manifest of an archive all of which is there.
const completeFile = "complete.json"

// Restore puts an archive back on a host that has nothing of its own yet.
func Restore(ctx context.Context, o RestoreOptions) (Restored, error) {
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	l := o.Places.Layout()
	r := &restoring{RestoreOptions: o, layout: l, dir: l.Restoring()}
	if err := verifyAhead(ctx, o.Archive); err != nil {
		return Restored{}, err
	}
	r.Archive = reading{ctx, o.Archive}
	if err := os.MkdirAll(l.State, 0o711); err != nil {
		return Restored{}, err
	}
	lock := flock.New(l.Lock())
	locked, err := lock.TryLock()
	if err != nil {
		return Restored{}, fmt.Errorf("lock %s: %w", l.Lock(), err)
	}
	if !locked {
		return Restored{}, fmt.Errorf("a tektond runs on %s, or another restore; stop it first", l.State)
	}
	defer lock.Unlock()
	m, err := r.take()
	if err != nil {
		return Restored{}, err
	}
	skipped, err := r.put(m)
	return Restored{m, skipped}, err
}

// verifyAhead reads an archive that can be read again, and goes back to where it was.
func verifyAhead(ctx context.Context, archive io.Reader) error {
	again, ok := archive.(io.ReadSeeker)
	if !ok {
		return nil
	}
	begin, err := again.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil // standard input that is a pipe is a file, too
	}
	if _, err := Verify(reading{ctx, again}); err != nil {
		return err
	}
	_, err = again.Seek(begin, io.SeekStart)
	return err
}

// take has all of the archive in the directory, complete.
func (r *restoring) take() (Manifest, error) {
	text, err := os.ReadFile(filepath.Join(r.dir, completeFile))
	if err == nil {
		return r.goOn(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, err
	}
	if err := r.clean(); err != nil {
		return Manifest{}, err
	}
	if err := fresh(r.layout); err != nil {
		return Manifest{}, err
	}
	m, err := r.unpack()
	if err == nil {
		err = r.prepare(m)
	}
	if err == nil {
		if text, err = encode(m); err == nil {
			err = host.WriteFile(filepath.Join(r.dir, completeFile), text, 0o600)
		}
	}
	if err != nil {
		return Manifest{}, errors.Join(err, os.RemoveAll(r.dir))
	}
	return m, nil
}

// goOn takes up what was cut short after it was complete.
func (r *restoring) goOn(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", filepath.Join(r.dir, completeFile), err)
	}
	have, err := Verify(r.Archive)
	if err != nil {
		return Manifest{}, err
	}
	if again, err := encode(have); err != nil || !bytes.Equal(again, text) {
		return Manifest{}, fmt.Errorf("the restore of another backup, of %s, was cut short in %s; give that one, and it goes on", m.CreatedAt.Format("2006-01-02 15:04:05"), r.dir)
	}
	return m, nil
}

// clean removes what restores have left that were cut short before they changed
// anything, and after all was done.
func (r *restoring) clean() error {
	return errors.Join(os.RemoveAll(r.dir), os.RemoveAll(r.dir+doneSuffix))
}

const doneSuffix = ".done"

// fresh refuses a state directory that something is in already.
func fresh(l host.Layout) error {
	dirs := []string{l.Machines(), l.Volumes(), l.Passwords(), l.Trash(), l.Restored(), l.Certificates(), filepath.Join(l.Service("postgres"), "data")}
	for _, dir := range dirs {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return inUse(l, dir+" has "+entries[0].Name())
		}
	}
	book, err := ledger.Open(l.Ledger(), ledger.Options{})
	if err != nil {
		return inUse(l, err.Error())
	}
	claims, _, err := book.List(context.Background())
	if err == nil && len(claims) > 0 {
		err = inUse(l, fmt.Sprintf("its ledger has %d claims", len(claims)))
	}
	return err
}

func inUse(l host.Layout, why string) error {
	return fmt.Errorf("%s is not empty: %s. A backup is put back where nothing is yet: delete all objects, or stop tektond and what it runs and move the directory away (mv %s %s.old)", l.State, why, l.State, l.State)
}

func (r *restoring) unpack() (Manifest, error) {
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return Manifest{}, err
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return Manifest{}, err
	}
	defer root.Close()
	var caddy *unix.Stat_t
	if as, err := host.LookupUser(r.Places.Host.Ingress.User); err == nil {
		caddy = &unix.Stat_t{Uid: as.Uid, Gid: as.Gid}
	}
	owner := func(part string) *unix.Stat_t {
		if part == GroupState+"/"+certificates {
			return caddy
		}
		return nil
	}
	return unpack(r.Archive, root, owner, r.Progress)
}

// prepare sees to what could go wrong later, before anything is changed.
func (r *restoring) prepare(m Manifest) error {
	if err := r.prepareLedger(m); err != nil {
		return err
	}
	if err := forgetQuotas(filepath.Join(r.dir, GroupState, "volumes")); err != nil {
		return err
	}
	if m.Instance != r.Places.Host.Instance {
		n := renaming{dir: r.dir, to: resource.Naming{Instance: r.Places.Host.Instance}}
		if err := n.all(); err != nil {
			return fmt.Errorf("give databases the names of this instance: %w", err)
		}
	}
	var errs []error
	for _, p := range m.Parts {
		to, err := r.Places.of(p.Name)
		if err != nil {
			continue // told when all is done
		}
		if to, err = behind(to); err != nil {
			errs = append(errs, err)
			continue
		}
		if !strings.HasPrefix(p.Name, GroupState+"/") && !strings.HasPrefix(p.Name, GroupDatabases+"/") {
			errs = append(errs, conflicts(filepath.Join(r.dir, p.Name), to))
		} else if elsewhere(r.layout.State, to) {
			errs = append(errs, fmt.Errorf("%s is on another file system than %s; unmount it, or take the link to it away, until the backup is back, then move its content there", to, r.layout.State))
		}
	}
	return errors.Join(errs...)
}

// prepareLedger looks at what the ledger says of the host that it comes from.
func (r *restoring) prepareLedger(m Manifest) error {
	book, err := ledger.Open(filepath.Join(r.dir, GroupState, "ledger.json"), ledger.Options{})
	if err != nil {
		return err
	}
	entries, _, err := book.List(context.Background())
	if err != nil {
		return err
	}
	if m.MachineID != r.MachineID {
		if err := forgetOriginals(book, entries); err != nil {
			return err
		}
	}
	return fits(entries, r.Places.Host.Subnet)
}

// fits refuses a subnet in which machines would not have the slots that they keep.
func fits(entries []resource.Claim, subnet string) error {
	prefix, err := netip.ParsePrefix(subnet)
	if err != nil {
		return fmt.Errorf("read spec.subnet of the Host: %w", err)
	}
	claims, err := compile.ReadClaims(entries)
	if err != nil {
		return err
	}
	room := resource.Naming{Subnet: prefix}.Slots()
	for n, slot := range claims.Slots {
		if slot.Freed.IsZero() && n > room {
			return fmt.Errorf("machine %s has slot %d, and subnet %s has %d: give the Host a wider one (spec.subnet)", slot.Machine, n, prefix, room)
		}
	}
	return nil
}

// forgetOriginals drops from a ledger what kernel settings were on another host.
func forgetOriginals(book ledger.Store, entries []resource.Claim) error {
	var ops []ledger.Op
	for _, c := range entries {
		if strings.HasPrefix(c.Key, compile.SysctlKey("")) {
			ops = append(ops, ledger.Release(c))
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return errors.Join(book.Commit(context.Background(), ops)...)
}

// forgetQuotas has volumes say that they have no limit, as on this file system they
// have none: the daemon sees the difference, and sets it.
func forgetQuotas(volumes string) error {
	markers, err := filepath.Glob(filepath.Join(volumes, "*", "*", ".*.json"))
	if err != nil {
		return err
	}
	for _, file := range markers {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var marker, volume map[string]json.RawMessage
		if err := json.Unmarshal(text, &marker); err != nil || json.Unmarshal(marker["volume"], &volume) != nil || volume["sizeMax"] == nil {
			continue // one that cannot be read is the daemon's to tell
		}
		delete(volume, "sizeMax")
		if marker["volume"], err = json.Marshal(volume); err != nil {
			return err
		}
		if text, err = encode(marker); err != nil {
			return err
		}
		if err := host.WriteFile(file, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// put moves all parts to their places. Each may be there already.
func (r *restoring) put(m Manifest) (skipped map[string]string, err error) {
	skipped = map[string]string{}
	for _, p := range m.Parts {
		if p.Name == PartHost || strings.HasPrefix(p.Name, GroupDatabases+"/") {
			continue // the one whoever restores has written already; the others may have got another name
		}
		to, err := r.Places.of(p.Name)
		if err != nil {
			skipped[p.Name] = err.Error()
			continue
		}
		if err := r.place(p.Name, to); err != nil {
			return nil, fmt.Errorf("put %s back: %w; what is there already stays, and the same command goes on", p.Name, err)
		}
	}
	if err := move(filepath.Join(r.dir, GroupDatabases), r.layout.Restored()); err != nil {
		return nil, fmt.Errorf("put databases back: %w; the same command goes on", err)
	}
	if err := os.Rename(r.dir, r.dir+doneSuffix); err != nil {
		return nil, err
	}
	return skipped, errors.Join(host.SyncDir(r.layout.State), os.RemoveAll(r.dir+doneSuffix))
}

// place moves one part. A link that is there stays where it leads to the same file,
// or to a directory, which then gets the content.
func (r *restoring) place(part, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o711); err != nil {
		return err
	}
	from := filepath.Join(r.dir, part)
	real, err := behind(to)
	if err != nil {
		return err
	}
	info, err := os.Lstat(from)
	if err != nil || real == to || info.IsDir() {
		return move(from, real)
	}
	if conflicts(from, real) != nil {
		return move(from, to)
	}
	return os.Remove(from)
}

// reading ends a read when nobody wants it any more.
type reading struct {
	ctx context.Context
	r   io.Reader
}

func (r reading) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
