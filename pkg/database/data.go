package database

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/resource"
)

// State of data that has outlived its object.
type State string

const (
	// StateRetained is a database that stayed in PostgreSQL.
	StateRetained State = "Retained"
	// StateTrash is a dump in the trash.
	StateTrash State = "Trash"
)

// Item is a database that outlived its object.
type Item struct {
	ID        string // retained/NAME, trash/NAME.OID
	State     State
	Database  string
	Label     string    // KIND/NAME/DATABASE
	Size      int64     // bytes
	DeletedAt time.Time // of a dump
	Before    string    // the revision before whose setup a dump was made
}

// ErrNotFound says that there is no data with an id.
var ErrNotFound = errors.New("no such data")

const (
	retainedPrefix = "retained/"
	trashPrefix    = "trash/"
)

// RetainedID is the id of a retained database.
func RetainedID(database string) string { return retainedPrefix + database }

// ListData returns what is in the trash and what is retained, by id. While
// PostgreSQL is down the trash is returned with the error.
func (d *Driver) ListData(ctx context.Context) ([]Item, error) {
	items, err := d.listTrash()
	if err != nil {
		return nil, err
	}
	retained, err := d.retained(ctx)
	items = append(append(items, retained...), d.listRestored()...)
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.ID, b.ID) })
	return items, err
}

// stopPatience is how long a listing waits for a server that is just about to
// stop or to start: without the last object it goes to rest.
const stopPatience = 5 * time.Second

// retained lists what stayed in PostgreSQL, whether that runs or rests.
func (d *Driver) retained(ctx context.Context) ([]Item, error) {
	for until := time.Now().Add(stopPatience); ; {
		if !d.clusterExists() && d.opts.System == nil {
			return d.resting()
		}
		items, err := d.listRetained(ctx)
		if err == nil || d.opts.System != nil || time.Now().After(until) {
			return items, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *Driver) listRetained(ctx context.Context) ([]Item, error) {
	pool, err := d.connections()
	if err != nil {
		return nil, err
	}
	c, err := readCatalog(ctx, pool)
	if err != nil {
		return nil, unavailable(err)
	}
	var items []Item
	for _, b := range c.databases {
		if mark, ours := c.ours(b, d.opts.Installation); !ours || mark.Owner != ownerRetained {
			continue
		}
		item := Item{ID: retainedPrefix + b.name, State: StateRetained, Database: b.name, Label: c.roles[b.owner].note.Label}
		if err := pool.QueryRow(ctx, `SELECT pg_database_size($1::oid)`, b.oid).Scan(&item.Size); err != nil {
			return nil, fmt.Errorf("read the size of database %s: %w", b.name, err)
		}
		items = append(items, item)
	}
	return items, nil
}

func (d *Driver) listTrash() ([]Item, error) {
	infos, err := d.readTrashes()
	if err != nil {
		return nil, err
	}
	var items []Item
	for entry, info := range infos {
		item := Item{ID: trashPrefix + entry, State: StateTrash, Database: info.Database, Label: info.Label, DeletedAt: info.DeletedAt, Before: info.Before}
		if st, err := os.Stat(filepath.Join(d.trashPath(entry), dumpFile)); err == nil {
			item.Size = st.Size()
		}
		items = append(items, item)
	}
	return items, nil
}

// readTrashes are the dumps of this installation by their place in the trash. One
// that cannot be read is left out.
func (d *Driver) readTrashes() (map[string]trashInfo, error) {
	entries, err := os.ReadDir(d.trashPath(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the trash: %w", err)
	}
	infos := make(map[string]trashInfo, len(entries))
	for _, e := range entries {
		if info, err := d.readTrash(e.Name()); err == nil && info.Installation == d.opts.Installation {
			infos[e.Name()] = info
		}
	}
	return infos, nil
}

func (d *Driver) readTrash(entry string) (trashInfo, error) {
	if filepath.Base(entry) != entry || strings.HasPrefix(entry, ".") {
		return trashInfo{}, fmt.Errorf("%s%s: %w", trashPrefix, entry, ErrNotFound)
	}
	info, err := readInfo(d.trashPath(entry))
	if errors.Is(err, fs.ErrNotExist) {
		return trashInfo{}, fmt.Errorf("%s%s: %w", trashPrefix, entry, ErrNotFound)
	}
	return info, err
}

// readInfo reads what stands beside a dump.
func readInfo(dir string) (info trashInfo, err error) {
	b, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return trashInfo{}, fmt.Errorf("read %s of %s: %w", infoFile, filepath.Base(dir), err)
	}
	return info, nil
}

// DeleteData removes data for good: no dump is made.
func (d *Driver) DeleteData(ctx context.Context, id string) error {
	if entry, ok := strings.CutPrefix(id, trashPrefix); ok {
		if _, err := d.readTrash(entry); err != nil {
			return err
		}
		return os.RemoveAll(d.trashPath(entry))
	}
	name, ok := strings.CutPrefix(id, retainedPrefix)
	if _, waits := d.readRestored(name); ok && waits {
		return os.RemoveAll(d.restoredPath(name))
	}
	if !ok || d.opts.System == nil && !exists(d.dataDir()) {
		return fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return d.awake(ctx, func() error { return d.deleteRetained(ctx, id, name) })
}

func (d *Driver) deleteRetained(ctx context.Context, id, name string) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	c, err := readCatalog(ctx, pool, name)
	if err != nil {
		return unavailable(err)
	}
	b, there := c.databases[name]
	if mark, ours := c.ours(b, d.opts.Installation); !there || !ours || mark.Owner != ownerRetained {
		return fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	if err := drop(ctx, pool, name); err != nil {
		return err
	}
	return dropRole(ctx, pool, b.owner)
}

// PurgeTrash removes the dumps that were made before the given time.
func (d *Driver) PurgeTrash(before time.Time) error {
	items, err := d.listTrash()
	if err != nil {
		return err
	}
	for _, item := range items {
		if item.DeletedAt.Before(before) {
			err = errors.Join(err, os.RemoveAll(d.trashPath(strings.TrimPrefix(item.ID, trashPrefix))))
		}
	}
	return err
}

// RestoreData brings a dump back. Where the database exists again it must be
// empty; where it does not, it is made as a retained one, which the next
// object of the same kind and name adopts. All of the dump comes back or none.
// The dump stays in the trash.
//
// A dump is the tenant's work and may hold code that runs while it is restored:
// it is restored with the rights of the role that owned it, never ours.
func (d *Driver) RestoreData(ctx context.Context, id string) error {
	entry, ok := strings.CutPrefix(id, trashPrefix)
	if !ok {
		return fmt.Errorf("%s is not in the trash: %w", id, ErrNotFound)
	}
	info, err := d.readTrash(entry)
	if err != nil {
		return err
	}
	if err := checkName("database", info.Database); err != nil {
		return err
	}
	return d.awake(ctx, func() error { return d.restore(ctx, entry, info) })
}

func (d *Driver) restore(ctx context.Context, entry string, info trashInfo) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	made, err := d.restorable(ctx, pool, info)
	if err != nil {
		return err
	}
	err = d.pgRestore(ctx, entry, filepath.Join(d.trashPath(entry), dumpFile), info.Database)
	if made {
		// Made for this: it goes back to having no login, and if nothing came of it, it goes.
		err = errors.Join(err, lockOut(ctx, pool, info.Database, "PASSWORD NULL"))
		if err != nil {
			err = errors.Join(err, drop(ctx, pool, info.Database), dropRole(ctx, pool, info.Database))
		}
	}
	return err
}

// restorable makes sure that there is an empty database to restore to. made
// reports whether it was made here, as a retained one.
func (d *Driver) restorable(ctx context.Context, pool *pgxpool.Pool, info trashInfo) (made bool, err error) {
	name := info.Database
	if _, waits := d.readRestored(name); waits {
		return false, fmt.Errorf("database %s is to come back from a backup; delete that (%s%s) before another is restored in its place", name, retainedPrefix, name)
	}
	c, err := readCatalog(ctx, pool, name)
	if err != nil {
		return false, unavailable(err)
	}
	b, there := c.databases[name]
	mark, ours := c.ours(b, d.opts.Installation)
	switch {
	case there && !ours:
		return false, d.conflict(name)
	case there && mark.Owner == ownerRetained:
		return false, fmt.Errorf("a retained database %s exists; delete it (%s%s) before another is restored in its place", name, retainedPrefix, name)
	case there:
		return false, d.mustBeEmpty(ctx, name)
	}
	if _, there := c.roles[name]; there {
		return false, fmt.Errorf("role %s exists without its database; wait until the object is ready, or gone", name)
	}
	text := comment(d.ownedBy(ownerRetained), note{Label: info.Label, Policy: resource.RetainData, Extensions: info.Extensions, Revision: info.Revision, Seeded: info.Seeded})
	if _, err := pool.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN;\nCOMMENT ON ROLE %s IS %s;", quoted(name), quoted(name), literal(text))); err != nil {
		return false, fmt.Errorf("make role %s: %w", name, err)
	}
	v := resource.Database{Name: name, Owner: name, Extensions: info.Extensions}
	if err := d.create(ctx, pool, v, text); err != nil {
		return false, errors.Join(err, dropRole(ctx, pool, name))
	}
	if err := d.installExtensions(ctx, v); err != nil {
		return false, errors.Join(err, drop(ctx, pool, name), dropRole(ctx, pool, name))
	}
	return true, nil
}

func (d *Driver) mustBeEmpty(ctx context.Context, name string) error {
	return d.inDatabase(ctx, name, func(conn *pgx.Conn) error {
		var tables int
		const query = `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r','p','v','m','S') AND n.nspname !~ '^(pg_|information_schema$)'
			AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.objid = c.oid AND x.deptype = 'e')`
		if err := conn.QueryRow(ctx, query).Scan(&tables); err != nil {
			return fmt.Errorf("look into database %s: %w", name, err)
		}
		if tables > 0 {
			return fmt.Errorf("database %s holds %d tables, views or sequences; stop its object and drop them, or delete the object, before a dump is restored", name, tables)
		}
		return nil
	})
}
