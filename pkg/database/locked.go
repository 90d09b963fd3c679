package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lockWait is how long the dump of a database in use waits for a lock: longer
	// than a sound transaction holds one, and short against the work that waits for
	// a dump to end. pg_dump would wait for ever; its own --lock-wait-timeout is for
	// its locks on tables only, and not for those on sequences, views, functions.
	lockWait = 30 * time.Second
	// looksPerWait is how often a dump is looked at in that time.
	looksPerWait = 10
)

// lockedError is why a dump was given up.
type lockedError struct {
	wait time.Duration
	// statement of pg_dump that waits, and the sessions that it waits for.
	statement, holders string
}

func (e *lockedError) Error() string {
	return fmt.Sprintf("the application holds a lock on what is dumped for longer than %s; end the transaction that does: session %s, for which this waits: %s", e.wait, e.holders, e.statement)
}

// watchDump gives a dump up that waits for locks of others for too long.
func (d *Driver) watchDump(ctx context.Context, session, database string, giveUp context.CancelCauseFunc) {
	look := time.NewTicker(d.opts.LockWait / looksPerWait)
	defer look.Stop()
	var since time.Time // it was seen waiting at every look
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			locked, err := d.lockedDump(ctx, session, database)
			switch {
			case err != nil: // what PostgreSQL does not tell is asked again
			case locked == nil:
				since = time.Time{}
			case since.IsZero():
				since = now
			case now.Sub(since) >= d.opts.LockWait:
				giveUp(locked)
				return
			}
		}
	}
}

// lockedDump says what the dump of a database waits for, nil when it does not wait.
func (d *Driver) lockedDump(ctx context.Context, session, database string) (*lockedError, error) {
	pool, err := d.connections()
	if err != nil {
		return nil, err
	}
	e := &lockedError{wait: d.opts.LockWait}
	err = pool.QueryRow(ctx, `SELECT left(a.query, 200), coalesce((SELECT string_agg(format('%s (%s)', b.pid, b.state), ', ')
		FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid))), 'that has just ended')
		FROM pg_stat_activity a WHERE a.datname = $1 AND a.application_name = $2 AND a.usename = current_user AND a.wait_event_type = 'Lock'`,
		database, session).Scan(&e.statement, &e.holders)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return e, err
}
