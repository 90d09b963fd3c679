package database

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// spareCount is how many databases are made ahead. Renaming one takes a
// millisecond, making one 30 to 110.
const spareCount = 2

// spares keeps two callers from taking the same spare. Which there are is
// always read from PostgreSQL, so those of a crashed daemon are used too.
type spares struct {
	mu      sync.Mutex
	taken   map[string]bool // by a caller that may still turn it into a database
	filling bool
	ended   bool // none are to be made any more
}

// takeSpare returns a spare that nobody else gets until release is called,
// making it if need be.
func (d *Driver) takeSpare(ctx context.Context, pool *pgxpool.Pool) (name string, release func(), err error) {
	names, err := listSpares(ctx, pool, d.opts.Installation, d.admin())
	if err != nil {
		return "", nil, err
	}
	fresh := newSpareName(d.opts.Installation)
	name = d.claimSpare(append(names, fresh))
	release = func() {
		d.spares.mu.Lock()
		defer d.spares.mu.Unlock()
		delete(d.spares.taken, name)
	}
	if name != fresh {
		return name, release, nil
	}
	if err := makeSpare(ctx, pool, name); err != nil {
		release()
		return "", nil, err
	}
	return name, release, nil
}

// claimSpare takes the first of the names that is free. The last one always is.
func (d *Driver) claimSpare(names []string) string {
	d.spares.mu.Lock()
	defer d.spares.mu.Unlock()
	if d.spares.taken == nil {
		d.spares.taken = map[string]bool{}
	}
	i := slices.IndexFunc(names, func(name string) bool { return !d.spares.taken[name] })
	d.spares.taken[names[i]] = true
	return names[i]
}

func listSpares(ctx context.Context, pool *pgxpool.Pool, installation, admin string) ([]string, error) {
	const query = `SELECT datname FROM pg_database WHERE starts_with(datname, $1) AND datdba = (SELECT oid FROM pg_authid WHERE rolname = $2) ORDER BY datname`
	rows, err := pool.Query(ctx, query, sparePrefix(installation), admin)
	if err != nil {
		return nil, fmt.Errorf("list spare databases: %w", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list spare databases: %w", err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// makeSpare makes an empty database from template0, which nobody can have changed,
// with the locale of a cluster of ours also in the host's own.
func makeSpare(ctx context.Context, pool *pgxpool.Pool, name string) error {
	if _, err := pool.Exec(ctx, "CREATE DATABASE "+quoted(name)+" TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE 'C.UTF-8'"); err != nil {
		return fmt.Errorf("make a database: %w", err)
	}
	return nil
}

// refill makes spares in the background, one at a time, until there are enough.
func (d *Driver) refill() {
	d.spares.mu.Lock()
	defer d.spares.mu.Unlock()
	if d.spares.filling || d.spares.ended || d.background.Err() != nil {
		return
	}
	d.spares.filling = true
	d.tasks.Go(func() {
		if err := d.fill(d.background); err != nil && d.background.Err() == nil {
			d.opts.Log.V(1).Info("no spare database was made", "reason", err.Error())
		}
	})
}

func (d *Driver) fill(ctx context.Context) error {
	defer func() {
		d.spares.mu.Lock()
		d.spares.filling = false
		d.spares.mu.Unlock()
	}()
	for !d.spares.over() {
		pool, err := d.connections()
		if err != nil {
			return err
		}
		free, err := d.freeSpares(ctx, pool)
		if err != nil || free >= spareCount {
			return err
		}
		if err := makeSpare(ctx, pool, newSpareName(d.opts.Installation)); err != nil {
			return err
		}
	}
	return nil
}

func (s *spares) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// end returns once no spare is being made any more; begin lets them be made again.
func (s *spares) end(ctx context.Context) error {
	for {
		s.mu.Lock()
		s.ended = true
		filling := s.filling
		s.mu.Unlock()
		if !filling {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until no database is made ahead any more: %w", ctx.Err())
		case <-time.After(reloadPoll):
		}
	}
}

func (s *spares) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = false
}

func (d *Driver) freeSpares(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	names, err := listSpares(ctx, pool, d.opts.Installation, d.admin())
	d.spares.mu.Lock()
	defer d.spares.mu.Unlock()
	return len(slices.DeleteFunc(names, func(name string) bool { return d.spares.taken[name] })), err
}
