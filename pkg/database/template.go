package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/resource"
)

const (
	// templateRetry is when to look again for what only a person can change.
	templateRetry = 10 * time.Second
	// ownersAtOnce bounds how many locks one transaction takes.
	ownersAtOnce = 200
)

// clone makes a copy of a template, in which all is the role's, and returns its
// name. It is ours alone until it is renamed: one that a crash has left half done
// is never taken for a database, and is removed by the next try, or with the role.
func (d *Driver) clone(ctx context.Context, pool *pgxpool.Pool, v resource.Database) (name string, err error) {
	name = cloneName(d.opts.Installation, v.Name)
	if err := drop(ctx, pool, name); err != nil {
		return "", err
	}
	if err := checkTemplate(ctx, pool, v); err != nil {
		return "", err
	}
	if err := d.copyTemplate(ctx, name, v); err != nil {
		return "", err
	}
	if err := d.inDatabase(ctx, name, func(conn *pgx.Conn) error { return handOver(ctx, conn, v) }); err != nil {
		return "", errors.Join(err, drop(context.WithoutCancel(ctx), pool, name)) // it may be large
	}
	return name, nil
}

// checkTemplate refuses a database that its operator did not mark as a template,
// and one that belongs to an object: its owner can set that mark, too.
func checkTemplate(ctx context.Context, pool *pgxpool.Pool, v resource.Database) error {
	var marked bool
	var comment string
	err := pool.QueryRow(ctx, `SELECT datistemplate, coalesce(shobj_description(datdba, 'pg_authid'), '') FROM pg_database WHERE datname = $1`, v.Template).Scan(&marked, &comment)
	_, isObjects := resource.ParseMark(comment)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return noTemplate(v)
	case err != nil:
		return fmt.Errorf("look for template %s: %w", v.Template, err)
	case isObjects:
		return resource.Waiting("TemplateNotAllowed", templateRetry, fmt.Errorf("database %s belongs to an object, and is nothing that others are made of; name another template", v.Template))
	case !marked:
		return resource.Waiting("TemplateNotAllowed", templateRetry, fmt.Errorf("database %s is not marked as a template; if others may have what is in it: ALTER DATABASE %s IS_TEMPLATE true", v.Template, quoted(v.Template)))
	}
	return nil
}

func noTemplate(v resource.Database) error {
	return resource.Waiting("TemplateMissing", templateRetry, fmt.Errorf("PostgreSQL has no database %s, which database %s is to be a copy of; make it, with ALTER DATABASE %s IS_TEMPLATE true, or name another template", v.Template, v.Name, quoted(v.Template)))
}

// copyTemplate takes as long as the template is large. Nobody may be connected to
// that: no copy could be right.
func (d *Driver) copyTemplate(ctx context.Context, name string, v resource.Database) error {
	err := d.inDatabase(ctx, adminDatabase, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SET statement_timeout = 0"); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", quoted(name), quoted(v.Template))); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, fmt.Sprintf("REVOKE ALL ON DATABASE %s FROM PUBLIC", quoted(name)))
		return err
	})
	switch {
	case hasCode(err, "3D000"):
		return noTemplate(v)
	case hasCode(err, "55006"):
		return resource.Waiting("TemplateBusy", templateRetry, fmt.Errorf("database %s is in use, and cannot be copied to %s: %w; end its connections, or keep them away: ALTER DATABASE %s ALLOW_CONNECTIONS false", v.Template, v.Name, err, quoted(v.Template)))
	case hasCode(err, "42P04", "23505"): // a daemon that was killed has begun it, and PostgreSQL goes on
		return resource.Waiting("TemplateBusy", time.Second, fmt.Errorf("copy database %s to %s: %w", v.Template, v.Name, err))
	case err != nil:
		return fmt.Errorf("copy database %s to %s: %w", v.Template, v.Name, err)
	}
	return nil
}

// superuserCode are event triggers, and casts between types of PostgreSQL's own:
// what they run has the rights of who changes or asks something, also ours, and
// would be the role's to rewrite.
const superuserCode = `
SELECT pg_describe_object(c.classid, c.oid, 0) FROM (
	SELECT 'pg_event_trigger'::regclass AS classid, oid FROM pg_event_trigger
	UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast WHERE oid >= 16384 AND castfunc <> 0 AND castsource < 16384 AND casttarget < 16384
) c WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = c.classid AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1`

// othersObjects are the statements that give a role what is in a database: all
// that has an owner, other than what belongs to an extension, to another object
// (the sequence of a column, the row type of a table) or to PostgreSQL itself.
// REASSIGN OWNED does not: it cannot take from a superuser, and would give away
// the databases of the former owner, too. Foreign servers, publications and
// languages stay whose they are: they lead out of the database.
const othersObjects = `
WITH owned (classid, objid, owner) AS (
	SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace WHERE oid >= 16384 OR nspname = 'public'
	UNION ALL SELECT 'pg_class'::regclass, oid, relowner FROM pg_class c WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
		OR relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a')
	UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
	UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type WHERE typtype IN ('b', 'c', 'd', 'e', 'r')
	UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
	UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass
	UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
	UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
	UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
	UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
	UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
	UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
	UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata
)
SELECT format('ALTER %s %s OWNER TO %I', CASE
	WHEN o.classid = 'pg_proc'::regclass THEN 'ROUTINE'
	WHEN o.classid = 'pg_statistic_ext'::regclass THEN 'STATISTICS'
	ELSE upper(i.type) END, i.identity, $1::text)
FROM owned o, pg_identify_object(o.classid, o.objid, 0) i
WHERE (o.objid >= 16384 OR o.classid IN ('pg_namespace'::regclass, 'pg_largeobject'::regclass))
AND coalesce(i.schema, '') NOT IN ('pg_catalog', 'information_schema')
AND pg_get_userbyid(o.owner) NOT IN ($1, 'pg_database_owner')
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype IN ('e', 'i'))
ORDER BY o.classid <> 'pg_namespace'::regclass, o.classid::oid, o.objid`

// handOver gives all of a copy to the role.
func handOver(ctx context.Context, conn *pgx.Conn, v resource.Database) error {
	code, err := column(ctx, conn, superuserCode)
	if err != nil {
		return fmt.Errorf("look into the copy of %s: %w", v.Template, err)
	}
	if len(code) > 0 {
		return resource.Waiting("TemplateNotAllowed", templateRetry, fmt.Errorf("template %s has what would act with the server's rights in somebody else's database (%s); drop that there, or name another template", v.Template, strings.Join(code, ", ")))
	}
	statements, err := column(ctx, conn, othersObjects, v.Owner)
	if err != nil {
		return fmt.Errorf("look into the copy of %s: %w", v.Template, err)
	}
	for some := range slices.Chunk(statements, ownersAtOnce) {
		if _, err := conn.Exec(ctx, strings.Join(some, ";\n")); err != nil {
			return fmt.Errorf("give what is in the copy of %s to role %s: %w", v.Template, v.Owner, err)
		}
	}
	return nil
}

// column reads a query's only column.
func column(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
