package database

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/resource"
)

const (
	// observeTimeout bounds how long a slow PostgreSQL may hold up a pass.
	observeTimeout = 1500 * time.Millisecond
	// maxConnections of the daemon; PostgreSQL keeps reservedConnections for superusers.
	maxConnections      = 4
	reservedConnections = 8
	connectTimeout      = 5 * time.Second
)

// sessionSettings of each connection of ours. Given at the start of a session
// they win over what the owner of a database may have set for it.
var sessionSettings = map[string]string{
	"application_name":                    "tekton",
	"search_path":                         "pg_catalog,pg_temp",
	"statement_timeout":                   "120s",
	"lock_timeout":                        "10s",
	"idle_in_transaction_session_timeout": "30s",
	"standard_conforming_strings":         "on",
	"default_transaction_read_only":       "off",
	"client_min_messages":                 "warning",
}

// connConfig leads over the socket, as the superuser, by the peer's user id.
func connConfig(socketDir string, port uint16, database string) (*pgxpool.Config, error) {
	// All that libpq would take from the environment is named here.
	c, err := pgxpool.ParseConfig("host=/ port=5432 sslmode=disable target_session_attrs=any user=" + admin)
	if err != nil {
		return nil, fmt.Errorf("configure the connection to PostgreSQL: %w", err)
	}
	c.ConnConfig.Host, c.ConnConfig.Port = socketDir, port
	c.ConnConfig.Database, c.ConnConfig.Password = database, ""
	c.ConnConfig.ConnectTimeout = connectTimeout
	c.ConnConfig.RuntimeParams = sessionSettings
	c.MaxConns = maxConnections
	c.MaxConnIdleTime = 5 * time.Minute
	c.HealthCheckPeriod = 10 * time.Minute // an idle daemon does not wake for it
	return c, nil
}

// connections returns the pool for the cluster's present port, made at first
// use. It connects when asked for a connection, not before.
func (d *Driver) connections() (*pgxpool.Pool, error) {
	d.poolMu.Lock()
	defer d.poolMu.Unlock()
	port, err := d.port()
	if err != nil {
		return nil, err
	}
	if port == 0 {
		return nil, resource.Because("PostgresUnavailable", errors.New("PostgreSQL is not running; it is started again by itself"))
	}
	if d.pool != nil && d.poolPort == port {
		return d.pool, nil
	}
	d.dropPoolLocked()
	c, err := connConfig(d.socketDir(), port, adminDatabase)
	if err != nil {
		return nil, err
	}
	if d.opts.System != nil {
		if err := d.connectSystem(c); err != nil {
			return nil, err
		}
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return nil, fmt.Errorf("open the connections to PostgreSQL: %w", err)
	}
	d.pool, d.poolPort = pool, port
	return pool, nil
}

// port that the server is at; 0 when it does not run.
func (d *Driver) port() (uint16, error) {
	if d.opts.System != nil {
		return d.opts.Port, nil
	}
	_, running, err := d.running()
	return running.Listen.Port(), err
}

// dropPool forgets all connections. It does not wait for those in use.
func (d *Driver) dropPool() {
	d.poolMu.Lock()
	defer d.poolMu.Unlock()
	d.dropPoolLocked()
}

func (d *Driver) dropPoolLocked() {
	if d.pool != nil {
		go d.pool.Close()
		d.pool = nil
	}
}

// inDatabase runs f on a connection of its own to another database.
func (d *Driver) inDatabase(ctx context.Context, name string, f func(*pgx.Conn) error) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	c := pool.Config().ConnConfig.Copy()
	c.Database = name
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return unavailable(fmt.Errorf("connect to database %s: %w", name, err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// unavailable gives errors that PostgreSQL did not itself answer with their
// condition reason.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return err
	}
	return resource.Because(resource.Reason(err, "PostgresUnavailable"), err)
}

// full adds what the host calls it, and where, to an error of PostgreSQL that it
// has no room: it does not always say so (it has written half a block).
func (d *Driver) full(err error) error {
	const diskFull = "53100"
	if !hasCode(err, diskFull) {
		return err
	}
	return fmt.Errorf("%w; write to %s: %w", err, d.dataDir(), syscall.ENOSPC)
}

// hasCode reports whether PostgreSQL answered with one of the SQLSTATE codes.
func hasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

func portString(p uint16) string { return strconv.Itoa(int(p)) }
