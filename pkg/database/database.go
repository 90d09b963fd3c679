package database

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/resource"
)

// untrustedExtensions may be asked for although their authors did not mark
// them as safe to be installed by the owner of a database.
var untrustedExtensions = []string{"postgis", "vector"}

func (d *Driver) applyDatabase(ctx context.Context, s resource.Step, v resource.Database) error {
	if err := checkName("database", s.Resource.Name); err != nil {
		return err
	}
	if s.Verb == resource.Put && s.Resource.Name != v.Name {
		return resource.Terminal("InvalidName", fmt.Errorf("database %q has the resource name %q", v.Name, s.Resource.Name))
	}
	if !d.clusterExists() && s.Verb == resource.Delete {
		return nil
	}
	pool, err := d.connections()
	if err != nil {
		return err
	}
	names := []string{s.Resource.Name}
	if v.Owner != "" {
		names = append(names, v.Owner)
	}
	c, err := readCatalog(ctx, pool, names...)
	if err != nil {
		return err
	}
	if s.Verb == resource.Delete {
		return d.deleteDatabase(ctx, pool, c, s, v)
	}
	return d.putDatabase(ctx, pool, c, s, v)
}

func (d *Driver) conflict(name string) error {
	return resource.Taken("DatabaseConflict", fmt.Errorf("PostgreSQL has a database %s that is not ours; rename or drop it", name))
}

func (d *Driver) putDatabase(ctx context.Context, pool *pgxpool.Pool, c catalog, s resource.Step, v resource.Database) error {
	b, there := c.databases[v.Name]
	if _, ours := c.ours(b, d.opts.Installation); there && (!ours || b.owner != v.Owner) {
		return d.conflict(v.Name)
	}
	role := c.roles[v.Owner]
	if !role.marked || role.mark != d.ownedBy(s.Resource.Owner) {
		return resource.Waiting("RoleMissing", retrySoon, fmt.Errorf("database %s waits for its role %s", v.Name, v.Owner))
	}
	have, next := role.note.Extensions, noteOf(v)
	if there {
		next = next.after(role.note)
	} else {
		if info, waits := d.readRestored(v.Name); waits {
			next = next.after(note{Revision: info.Revision, Seeded: info.Seeded})
		}
		// The extensions are noted once they are there: a crash before leaves a difference to be seen.
		have = nil
		first := next
		first.Extensions = nil
		if err := d.create(ctx, pool, v, comment(role.mark, first)); err != nil {
			return err
		}
		if err := d.dropRestored(v.Name); err != nil {
			return err
		}
		defer d.refill()
	}
	if !slices.Equal(have, v.Extensions) {
		if err := d.installExtensions(ctx, v); err != nil {
			return err
		}
	} else if !there {
		return nil // all of it was in the one transaction
	}
	if _, err := pool.Exec(ctx, settle(v, comment(role.mark, next))); err != nil {
		return fmt.Errorf("mark database %s: %w", v.Name, err)
	}
	return nil
}

// settle gives the database to its role alone and marks both, in one implicit transaction.
func settle(v resource.Database, text string) string {
	return fmt.Sprintf("ALTER DATABASE %[1]s OWNER TO %[2]s;\nALTER DATABASE %[1]s IS_TEMPLATE false;\nREVOKE ALL ON DATABASE %[1]s FROM PUBLIC;\nCOMMENT ON DATABASE %[1]s IS %[3]s;\nCOMMENT ON ROLE %[2]s IS %[3]s;",
		quoted(v.Name), quoted(v.Owner), literal(text))
}

// create turns a spare, or a copy of the template, into the database. What fails
// half way leaves the spare, or what the next try removes.
func (d *Driver) create(ctx context.Context, pool *pgxpool.Pool, v resource.Database, text string) error {
	make := d.takeSpare
	if v.Template != "" {
		make = func(ctx context.Context, pool *pgxpool.Pool) (string, func(), error) {
			name, err := d.clone(ctx, pool, v)
			return name, func() {}, err
		}
	}
	if info, waits := d.readRestored(v.Name); waits {
		make = func(ctx context.Context, pool *pgxpool.Pool) (string, func(), error) {
			name, err := d.fromBackup(ctx, v, info)
			return name, func() {}, err
		}
	}
	unfinished, release, err := make(ctx, pool)
	if err != nil {
		return err
	}
	defer release()
	sql := fmt.Sprintf("ALTER DATABASE %s RENAME TO %s;\n%s", quoted(unfinished), quoted(v.Name), settle(v, text))
	_, err = pool.Exec(ctx, sql)
	if hasCode(err, "42P04", "3D000", "42704") { // the name was taken, the spare or the role has gone: look again
		return resource.ErrStale
	}
	if err != nil {
		return fmt.Errorf("turn database %s into %s: %w", unfinished, v.Name, err)
	}
	return nil
}

// installExtensions adds what is missing and removes nothing: objects of the
// tenant's may depend on it. A trusted extension is made with the owner's
// rights, which is all it needs and all that the owner could use.
func (d *Driver) installExtensions(ctx context.Context, v resource.Database) error {
	return d.inDatabase(ctx, v.Name, func(conn *pgx.Conn) error {
		for _, name := range v.Extensions {
			trusted, err := d.extensionAllowed(ctx, conn, name)
			if err != nil {
				return err
			}
			sql := fmt.Sprintf("CREATE EXTENSION IF NOT EXISTS %s SCHEMA public;", quoted(name))
			if trusted {
				sql = fmt.Sprintf("SET LOCAL ROLE %s;\n%s", quoted(v.Owner), sql)
			}
			if _, err := conn.Exec(ctx, sql); err != nil {
				return resource.Because("ExtensionFailed", fmt.Errorf("add extension %s to database %s: %w", name, v.Name, err))
			}
		}
		return nil
	})
}

func (d *Driver) extensionAllowed(ctx context.Context, conn *pgx.Conn, name string) (trusted bool, err error) {
	const query = `SELECT v.trusted FROM pg_available_extensions e JOIN pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version WHERE e.name = $1`
	err = conn.QueryRow(ctx, query, name).Scan(&trusted)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, resource.Taken("ExtensionUnavailable", fmt.Errorf("extension %q is not installed on the host; install its package or remove it from the spec", name))
	case err != nil:
		return false, fmt.Errorf("look for extension %s: %w", name, err)
	case !trusted && !slices.Contains(untrustedExtensions, name):
		return false, resource.Terminal("ExtensionNotAllowed", fmt.Errorf("extension %q could give its user rights beyond the database; only trusted extensions and %v are allowed", name, untrustedExtensions))
	}
	return trusted, nil
}

func (d *Driver) deleteDatabase(ctx context.Context, pool *pgxpool.Pool, c catalog, s resource.Step, v resource.Database) error {
	b, there := c.databases[s.Resource.Name]
	if !there {
		return d.trashRestored(s.Resource.Name, v)
	}
	mark, ours := c.ours(b, d.opts.Installation)
	switch {
	case !ours:
		return d.conflict(b.name)
	case mark.Owner == ownerRetained:
		return nil
	case mark.Owner != s.Resource.Owner:
		return resource.ErrStale
	}
	// What came back from a backup is in it.
	if err := d.dropRestored(b.name); err != nil {
		return err
	}
	// Its owner may have made it a template, which cannot be dropped.
	if _, err := pool.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s IS_TEMPLATE false", quoted(b.name))); err != nil {
		return fmt.Errorf("make database %s no template: %w", b.name, err)
	}
	role := c.roles[b.owner]
	if v.Policy != resource.DeleteData {
		return d.retain(ctx, pool, b, role)
	}
	if err := lockOut(ctx, pool, b.owner, ""); err != nil {
		return err
	}
	// Nobody can connect any more, so a dump that is done stays right.
	if err := d.dump(ctx, trashEntry(b), resource.Dump{}, b, role); err != nil {
		return err
	}
	return drop(ctx, pool, b.name)
}

// retain leaves database and role to a later object of the same name.
func (d *Driver) retain(ctx context.Context, pool *pgxpool.Pool, b databaseRow, role roleRow) error {
	text := literal(comment(d.ownedBy(ownerRetained), role.note))
	return lockOut(ctx, pool, b.owner, fmt.Sprintf("PASSWORD NULL;\nCOMMENT ON DATABASE %s IS %s;\nCOMMENT ON ROLE %s IS %s", quoted(b.name), text, quoted(b.owner), text))
}

// lockOut takes a role's login, and only then ends its connections, so that
// none can come after. more goes on with the statement, in one transaction.
func lockOut(ctx context.Context, pool *pgxpool.Pool, role, more string) error {
	if _, err := pool.Exec(ctx, fmt.Sprintf("ALTER ROLE %s NOLOGIN %s;", quoted(role), more)); err != nil {
		return fmt.Errorf("take the login of role %s: %w", role, err)
	}
	if _, err := pool.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role); err != nil {
		return fmt.Errorf("end the connections of role %s: %w", role, err)
	}
	return nil
}

func drop(ctx context.Context, pool *pgxpool.Pool, name string) error {
	if _, err := pool.Exec(ctx, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", quoted(name))); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}
