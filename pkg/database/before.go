package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/resource"
)

// observeDumps shows the dumps in the trash that were made before a revision was set up.
func (d *Driver) observeDumps() resource.Domain {
	infos, err := d.readTrashes()
	if err != nil {
		return resource.Unknown(err)
	}
	domain := resource.Known()
	for _, info := range infos {
		if info.Before != "" {
			r := resource.New(info.Owner, "", info.Database+"@"+info.Before, resource.Dump{Database: info.Database, Revision: info.Before, MadeAt: info.DeletedAt})
			old, twice := domain.Items[r.ID] // of a database that was made anew
			if twice && old.Value.(resource.Dump).MadeAt.After(info.DeletedAt) {
				continue
			}
			domain.Items[r.ID] = r
		}
	}
	return domain
}

func (d *Driver) applyDump(ctx context.Context, s resource.Step, v resource.Dump) error {
	infos, err := d.readTrashes()
	if err != nil {
		return err
	}
	for entry, info := range infos {
		switch {
		case info.Database != v.Database || info.Before != v.Revision || info.Owner != s.Resource.Owner:
		case s.Verb == resource.Delete:
			err = errors.Join(err, os.RemoveAll(d.trashPath(entry)))
		case !info.DeletedAt.Before(v.After):
			return nil
		}
	}
	if s.Verb == resource.Delete {
		return err
	}
	return d.dumpBefore(ctx, s, v)
}

// dumpBefore dumps a database that is in use: as it is at one moment.
func (d *Driver) dumpBefore(ctx context.Context, s resource.Step, v resource.Dump) error {
	if strings.ContainsAny(v.Revision, "/\x00") || v.Revision == "" {
		return resource.Terminal("InvalidName", fmt.Errorf("revision %q can be no part of a file name", v.Revision))
	}
	pool, err := d.connections()
	if err != nil {
		return err
	}
	if err := mayDumpInUse(ctx, pool, v.Database); err != nil {
		return err
	}
	c, err := readCatalog(ctx, pool, v.Database)
	if err != nil {
		return err
	}
	b, there := c.databases[v.Database]
	if mark, ours := c.ours(b, d.opts.Installation); !there || !ours || mark.Owner != s.Resource.Owner {
		return resource.ErrStale
	}
	return d.dump(ctx, trashEntry(b)+"."+v.Revision, v, b, c.roles[b.owner])
}

// mayDumpInUse refuses to where an application could make use of it.
func mayDumpInUse(ctx context.Context, pool *pgxpool.Pool, database string) error {
	var version int
	if err := pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	if !dumpsSafely(version) {
		return resource.Because("PostgresOutdated", fmt.Errorf("database %s is not dumped while it is in use: PostgreSQL %d.%d lets an application run its SQL as the superuser who dumps (CVE-2024-7348); update PostgreSQL", database, version/10000, version%10000))
	}
	return nil
}

// dumpsSafely reports whether that version of PostgreSQL (server_version_num, of
// the packages that have pg_dump too) has the fix of CVE-2024-7348.
func dumpsSafely(version int) bool {
	fixed, older := map[int]int{12: 20, 13: 16, 14: 13, 15: 8, 16: 4}[version/10000]
	if older {
		return version%10000 >= fixed
	}
	return version/10000 > 16
}
