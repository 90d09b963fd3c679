package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// Dumps of a backup that was put back wait in Layout.Restored until their
// databases are made: each is born as a copy whose role is nobody's, gets what
// the dump holds, and only then, in one transaction, is the object's database.
// Whoever is killed meanwhile leaves the dump, and a copy that the next try removes.

// backupSoon is how long Backup waits for a dump before it tells how far it is.
const backupSoon = time.Second

// Progress of a dump.
type Progress struct {
	Done    bool
	Written int64 // bytes of the dump
	Size    int64 // bytes of the database, which are more: it has indexes and is not compressed
}

// Databases are all of ours: of objects, and those that are retained.
func (d *Driver) Databases(ctx context.Context) ([]string, error) {
	if d.opts.System == nil && !d.clusterExists() {
		var names []string
		items, err := d.resting()
		for _, item := range items {
			names = append(names, item.Database)
		}
		return names, err
	}
	if !d.clusterExists() {
		return nil, nil
	}
	pool, err := d.connections()
	if err != nil {
		return nil, err
	}
	c, err := readCatalog(ctx, pool)
	if err != nil {
		return nil, unavailable(err)
	}
	var names []string
	for name, b := range c.databases {
		if _, ours := c.ours(b, d.opts.Installation); ours {
			names = append(names, name)
		}
	}
	return names, nil
}

// Backup dumps a database, as it is at one moment, to a directory of its name
// below Layout.Backup. It returns soon; who asks again is told how far it is.
// One that is there already is done: it is for whoever makes the backup to remove.
func (d *Driver) Backup(ctx context.Context, name string) (Progress, error) {
	if err := checkName("database", name); err != nil {
		return Progress{}, err
	}
	place := filepath.Join(d.opts.Layout.Backup(), name)
	if exists(filepath.Join(place, infoFile)) {
		return Progress{Done: true}, nil
	}
	key := "backup." + name
	job := d.joinDump(key, key, func(ctx context.Context) error {
		return d.awake(ctx, func() error { return d.dumpForBackup(ctx, key, place, name) })
	})
	select {
	case <-job.done:
		d.leave(key, job)
		// One that an earlier backup has asked for may be done, and its dump gone with that.
		return Progress{Done: job.err == nil && exists(filepath.Join(place, infoFile))}, job.err
	case <-ctx.Done():
		return Progress{}, ctx.Err()
	case <-time.After(backupSoon):
	}
	return Progress{Written: d.stagedSize(key), Size: d.size(name)}, nil
}

func (d *Driver) dumpForBackup(ctx context.Context, entry, place, name string) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	if err := mayDumpInUse(ctx, pool, name); err != nil {
		return err
	}
	c, err := readCatalog(ctx, pool, name)
	if err != nil {
		return unavailable(err)
	}
	b, there := c.databases[name]
	if _, ours := c.ours(b, d.opts.Installation); !there || !ours {
		return fmt.Errorf("database %s: %w", name, ErrNotFound)
	}
	err = d.dumpTo(ctx, entry, place, backupSession, d.infoOf(name, c.roles[b.owner], time.Now().UTC()))
	if err == nil {
		return nil
	}
	// Who connects waits for whoever deletes it, which ends sessions first.
	if hasCode(d.inDatabase(ctx, name, func(*pgx.Conn) error { return nil }), "3D000") {
		return fmt.Errorf("database %s was deleted while it was dumped: %w", name, ErrNotFound)
	}
	return err
}

func (d *Driver) restoredPath(name string) string {
	return filepath.Join(d.opts.Layout.Restored(), name)
}

// readRestored tells of the dump that a database is to be made of.
func (d *Driver) readRestored(name string) (info trashInfo, waits bool) {
	if !validName.MatchString(name) {
		return trashInfo{}, false
	}
	info, err := readInfo(d.restoredPath(name))
	return info, err == nil && info.Installation == d.opts.Installation && info.Database == name
}

// listRestored are the databases that wait for their object.
func (d *Driver) listRestored() (items []Item) {
	entries, _ := os.ReadDir(d.opts.Layout.Restored()) // mostly there is none
	for _, e := range entries {
		if info, waits := d.readRestored(e.Name()); waits {
			item := Item{ID: RetainedID(info.Database), State: StateRetained, Database: info.Database, Label: info.Label}
			if st, err := os.Lstat(filepath.Join(d.restoredPath(e.Name()), dumpFile)); err == nil {
				item.Size = st.Size()
			}
			items = append(items, item)
		}
	}
	return items
}

// dropRestored removes the dump that a database was made of.
func (d *Driver) dropRestored(name string) error {
	if !exists(d.restoredPath(name)) {
		return nil
	}
	return errors.Join(os.RemoveAll(d.restoredPath(name)), host.SyncDir(d.opts.Layout.Restored()))
}

// trashRestored sees to the dump of a database that never came back, when its
// object goes: as to the database itself.
func (d *Driver) trashRestored(name string, v resource.Database) error {
	info, waits := d.readRestored(name)
	if !waits || v.Policy != resource.DeleteData {
		return nil
	}
	info.DeletedAt = time.Now().UTC()
	if err := seal(d.restoredPath(name), info); err != nil {
		return err
	}
	place := d.trashPath(name + ".restored")
	if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o700), os.RemoveAll(place)); err != nil {
		return err
	}
	return renameDurably(d.restoredPath(name), place)
}

// fromBackup makes a database of a dump, and returns the name that it has until
// it is the object's.
func (d *Driver) fromBackup(ctx context.Context, v resource.Database, info trashInfo) (string, error) {
	name, key := cloneName(d.opts.Installation, v.Name), "restored."+v.Name
	job := d.joinDump(key, key, func(ctx context.Context) error { return d.restoreCopy(ctx, name, v, info) })
	select {
	case <-job.done:
		d.leave(key, job)
		return name, job.err
	case <-ctx.Done():
	case <-time.After(tellAfter):
	}
	return "", resource.Waiting("Restoring", time.Second, fmt.Errorf("database %s is made of a backup: %.1f MB are there after %s", v.Name, megabytes(d.size(name)), time.Since(job.began).Round(time.Second)))
}

// restoreCopy restores as a role made for it: what runs of a dump has that role's
// rights in that one database. Then all of it is the object's role's.
func (d *Driver) restoreCopy(ctx context.Context, name string, v resource.Database, info trashInfo) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	if err := d.dropUnfinished(ctx, pool, v.Name); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN", quoted(name))); err != nil {
		return fmt.Errorf("make a role to restore database %s: %w", v.Name, err)
	}
	if err := makeSpare(ctx, pool, name); err != nil {
		return err
	}
	own := fmt.Sprintf("ALTER DATABASE %[1]s OWNER TO %[1]s;\nREVOKE ALL ON DATABASE %[1]s FROM PUBLIC;", quoted(name))
	if _, err := pool.Exec(ctx, own); err != nil {
		return fmt.Errorf("make a database to restore %s: %w", v.Name, err)
	}
	if err := d.installExtensions(ctx, resource.Database{Name: name, Owner: name, Extensions: info.Extensions}); err != nil {
		return err
	}
	if err := d.pgRestore(ctx, name, filepath.Join(d.restoredPath(v.Name), dumpFile), name); err != nil {
		return resource.Because("RestoreFailed", fmt.Errorf("from the backup: %w; to have an empty one in its place: tekton data delete database:%s", err, RetainedID(v.Name)))
	}
	return d.handRestored(ctx, pool, name, v.Owner)
}

// handRestored gives all that a role owns in its database, and that, to another.
func (d *Driver) handRestored(ctx context.Context, pool *pgxpool.Pool, name, owner string) error {
	err := d.inDatabase(ctx, name, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, fmt.Sprintf("REASSIGN OWNED BY %[1]s TO %[2]s;\nDROP OWNED BY %[1]s;", quoted(name), quoted(owner)))
		return err
	})
	if err != nil {
		return fmt.Errorf("give what was restored to role %s: %w", owner, err)
	}
	return dropRole(ctx, pool, name)
}

// dropUnfinished removes what is under way to be a database, and the role that
// restores it.
func (d *Driver) dropUnfinished(ctx context.Context, pool *pgxpool.Pool, database string) error {
	name := cloneName(d.opts.Installation, database)
	if err := drop(ctx, pool, name); err != nil {
		return err
	}
	var there bool // mostly it is not, which its server would log as an error
	if err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, name).Scan(&there); err != nil {
		return fmt.Errorf("look for role %s: %w", name, err)
	}
	if !there {
		return nil
	}
	return dropRole(ctx, pool, name)
}
