package database

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/resource"
)

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

func (d *Driver) applyRole(ctx context.Context, s resource.Step, v resource.Role) error {
	if err := checkName("role", s.Resource.Name); err != nil {
		return err
	}
	if s.Verb == resource.Put && s.Resource.Name != v.Name {
		return resource.Terminal("InvalidName", fmt.Errorf("role %q has the resource name %q", v.Name, s.Resource.Name))
	}
	if !d.clusterExists() && s.Verb == resource.Delete {
		return nil
	}
	pool, err := d.connections()
	if err != nil {
		return err
	}
	c, err := readCatalog(ctx, pool, s.Resource.Name)
	if err != nil {
		return err
	}
	if s.Verb == resource.Delete {
		return d.deleteRole(ctx, pool, c, s)
	}
	return d.putRole(ctx, pool, c, s, v)
}

// mayTake reports whether a Put may touch a thing of ours that belongs to
// owner now: its own, one that outlived its object, or one that the plan saw
// with that owner and took over knowingly.
func mayTake(s resource.Step, owner string) bool {
	return owner == s.Resource.Owner || owner == ownerRetained || s.Seen != nil && s.Seen.Owner == owner
}

func (d *Driver) putRole(ctx context.Context, pool *pgxpool.Pool, c catalog, s resource.Step, v resource.Role) error {
	r, there := c.roles[v.Name]
	switch {
	case there && !(r.marked && d.ours(r.mark)):
		return resource.Taken("RoleConflict", fmt.Errorf("PostgreSQL has a role %s that is not ours; rename or drop it", v.Name))
	case there && !mayTake(s, r.mark.Owner):
		return resource.ErrStale
	}
	file, err := identify(v.PasswordFile)
	if err != nil {
		return resource.Waiting("PasswordMissing", retrySoon, fmt.Errorf("the password of role %s is not stored yet: %w", v.Name, err))
	}
	stored := r.verifier
	if !d.verified.check(r, v.PasswordFile) {
		password, err := readPassword(v.PasswordFile)
		if err != nil {
			return err
		}
		if stored, err = newVerifier(password); err != nil {
			return err
		}
	}
	verb := "ALTER"
	if !there {
		verb = "CREATE"
	}
	// One implicit transaction: no role without its mark.
	sql := fmt.Sprintf(`%s ROLE %s LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT %d PASSWORD %s VALID UNTIL 'infinity';
COMMENT ON ROLE %s IS %s;`, verb, quoted(v.Name), v.ConnectionLimit, literal(stored), quoted(v.Name), literal(comment(d.ownedBy(s.Resource.Owner), r.note)))
	if _, err := pool.Exec(ctx, sql); err != nil {
		if hasCode(err, "42710", "42704") { // appeared or vanished since we looked
			return resource.ErrStale
		}
		return fmt.Errorf("store role %s: %w", v.Name, err)
	}
	d.verified.remember(v.Name, verifiedEntry{verifier: stored, file: file})
	return nil
}

func (d *Driver) deleteRole(ctx context.Context, pool *pgxpool.Pool, c catalog, s resource.Step) error {
	name := s.Resource.Name
	r, there := c.roles[name]
	switch {
	case !there || r.retained(d.opts.Installation):
		return nil
	case !r.marked || !d.ours(r.mark):
		return resource.Taken("RoleConflict", fmt.Errorf("PostgreSQL's role %s is not ours and stays", name))
	case r.mark.Owner != s.Resource.Owner:
		return resource.ErrStale
	}
	// What never became this role's database: a copy of a template, or of a backup.
	if err := d.dropUnfinished(ctx, pool, name); err != nil {
		return err
	}
	var owned bool
	if err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database b JOIN pg_authid r ON r.oid = b.datdba WHERE r.rolname = $1)`, name).Scan(&owned); err != nil {
		return fmt.Errorf("look for databases of role %s: %w", name, err)
	}
	if owned {
		return resource.Waiting("DatabaseStays", retrySoon, fmt.Errorf("role %s still owns a database; that goes first", name))
	}
	return dropRole(ctx, pool, name)
}

// dropRole ends a role that owns no database any more. It has been nowhere but
// in its own, so DROP OWNED has only what it was granted on shared objects to
// revoke. Already gone is success.
func dropRole(ctx context.Context, pool *pgxpool.Pool, name string) error {
	sql := fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s;\nDROP OWNED BY %s;\nDROP ROLE %s;", literal(name), quoted(name), quoted(name))
	if _, err := pool.Exec(ctx, sql); err != nil && !hasCode(err, "42704") {
		return fmt.Errorf("drop role %s: %w", name, err)
	}
	return nil
}
