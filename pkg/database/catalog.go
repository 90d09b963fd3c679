package database

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"

	"tekton.host/pkg/resource"
)

// catalog is what one look at PostgreSQL's shared catalogues yields.
type catalog struct {
	roles     map[string]roleRow
	databases map[string]databaseRow
}

// roleRow is one role that is not a superuser or carries a mark.
type roleRow struct {
	name     string
	comment  string
	mark     resource.Mark
	note     note
	marked   bool
	plain    bool // LOGIN and nothing else
	limit    int
	verifier string
}

// databaseRow is one database.
type databaseRow struct {
	oid     uint32
	name    string
	owner   string
	comment string
	// altered by its owner: PUBLIC has some privilege on it, or it is a template.
	altered bool
}

const roleQuery = `
SELECT r.rolname, coalesce(d.description, ''), coalesce(r.rolpassword, ''), r.rolconnlimit,
       r.rolcanlogin AND NOT (r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls)
       AND coalesce(r.rolvaliduntil, 'infinity') = 'infinity'
FROM pg_authid r
LEFT JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE CASE WHEN $1::text[] IS NULL THEN d.description IS NOT NULL
      ELSE r.rolname = any($1) OR r.oid IN (SELECT datdba FROM pg_database WHERE datname = any($1)) END`

const databaseQuery = `
SELECT b.oid, b.datname, r.rolname, coalesce(d.description, ''),
       b.datistemplate OR b.datacl IS NULL OR EXISTS (SELECT FROM aclexplode(b.datacl) a WHERE a.grantee = 0)
FROM pg_database b
JOIN pg_authid r ON r.oid = b.datdba
LEFT JOIN pg_shdescription d ON d.objoid = b.oid AND d.classoid = 'pg_database'::regclass
WHERE $1::text[] IS NULL OR b.datname = any($1)`

// querier is a pool, a connection or a transaction.
type querier interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// readCatalog reads all marked roles and all databases in one round trip, or
// the named ones only, marked or not.
func readCatalog(ctx context.Context, q querier, names ...string) (catalog, error) {
	c := catalog{roles: map[string]roleRow{}, databases: map[string]databaseRow{}}
	batch := &pgx.Batch{}
	batch.Queue(roleQuery, names).Query(func(rows pgx.Rows) error {
		var r roleRow
		_, err := pgx.ForEachRow(rows, []any{&r.name, &r.comment, &r.verifier, &r.limit, &r.plain}, func() error {
			r.mark, r.note, r.marked = parseComment(r.comment)
			c.roles[r.name] = r
			return nil
		})
		return err
	})
	batch.Queue(databaseQuery, names).Query(func(rows pgx.Rows) error {
		var b databaseRow
		_, err := pgx.ForEachRow(rows, []any{&b.oid, &b.name, &b.owner, &b.comment, &b.altered}, func() error {
			c.databases[b.name] = b
			return nil
		})
		return err
	})
	if err := q.SendBatch(ctx, batch).Close(); err != nil {
		return catalog{}, fmt.Errorf("read PostgreSQL's roles and databases: %w", err)
	}
	return c, nil
}

// ours returns the mark of a database of ours: that of the role which owns it,
// if the comment says so too or the names are the same (an owner can destroy
// its database's comment, but not rename it).
func (c catalog) ours(b databaseRow, installation string) (resource.Mark, bool) {
	r := c.roles[b.owner]
	if !r.marked || r.mark.Installation != installation {
		return resource.Mark{}, false
	}
	m, _ := resource.ParseMark(b.comment)
	return r.mark, m.Installation == installation || r.name == b.name
}

// retained reports whether the role outlived its object.
func (r roleRow) retained(installation string) bool {
	return r.marked && r.mark == resource.Mark{Installation: installation, Owner: ownerRetained}
}

// observedRoles returns our live roles. A role that is not as a Put makes it
// (another privilege, another password) is shown with its name only, so that
// it differs from every wanted one.
func (c catalog) observedRoles(installation, passwords string, right func(roleRow) bool) resource.Domain {
	items := resource.Set{}
	for _, r := range c.roles {
		if !r.marked || r.mark.Installation != installation || r.mark.Owner == ownerRetained {
			continue
		}
		v := resource.Role{Name: r.name}
		if r.plain && right(r) {
			v.PasswordFile = filepath.Join(passwords, r.name)
			v.ConnectionLimit = r.limit
		}
		item := resource.New(r.mark.Owner, "", r.name, v)
		items[item.ID] = item
	}
	return resource.Domain{Items: items}
}

// observedDatabases returns our live databases. One that is not as a Put makes
// it is shown without owner role.
func (c catalog) observedDatabases(installation string) resource.Domain {
	items := resource.Set{}
	for _, b := range c.databases {
		mark, ok := c.ours(b, installation)
		if !ok || mark.Owner == ownerRetained {
			continue
		}
		role := c.roles[b.owner]
		n := role.note
		v := resource.Database{Name: b.name, Label: n.Label, Policy: n.Policy, Extensions: n.Extensions, Revision: n.Revision, Seeded: n.Seeded, OID: b.oid}
		if b.comment == role.comment && !b.altered {
			v.Owner = b.owner
		}
		item := resource.New(mark.Owner, "", b.name, v)
		items[item.ID] = item
	}
	return resource.Domain{Items: items}
}

// kept returns the databases whose data outlives the cluster: all but
// PostgreSQL's own and what we have not finished.
func (c catalog) kept(installation string) []string {
	var names []string
	for name, b := range c.databases {
		own := name == adminDatabase || name == "template0" || name == "template1"
		_, ours := c.roles[b.owner]
		if !own && !(isUnfinished(installation, name) && (b.owner == admin || b.owner == name || ours)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
