package database

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

const (
	trashKind = "databases" // the directory of our dumps in the trash
	dumpFile  = "dump"      // pg_dump's custom format
	infoFile  = "info.json"
	// dumpSession is how the sessions of our dumps call themselves, backupSession
	// those of dumps for a backup, which end no other.
	dumpSession   = "tekton-dump"
	backupSession = "tekton-backup"
	// tellAfter is how long a step waits for what takes its time, before it says how
	// far that is. The next one joins it.
	tellAfter = 5 * time.Second
)

// Reasons why a database has no dump.
const (
	ReasonLocked     = "DatabaseLocked" // a session holds what the dump has to read
	ReasonDumpFailed = "DumpFailed"
)

// trashInfo stands beside a dump.
type trashInfo struct {
	Installation string   `json:"installation"`
	Database     string   `json:"database"`
	Label        string   `json:"label,omitempty"`
	Owner        string   `json:"owner"` // UID of the deleted object
	Extensions   []string `json:"extensions,omitempty"`
	Revision     string   `json:"revision,omitempty"` // that it was last set up for
	Seeded       bool     `json:"seeded,omitempty"`
	// Before is the revision before whose setup the dump was made; "": before the database went.
	Before    string    `json:"before,omitempty"`
	DeletedAt time.Time `json:"deletedAt"`
}

// dumps are jobs: one may take longer than the deadline of a step. A later
// step for the same database joins the job.
type dumps struct {
	mu   sync.Mutex
	jobs map[string]*dumpJob // by database: at most one each
}

type dumpJob struct {
	entry  string // of the trash
	began  time.Time
	ctx    context.Context // ends when nobody wants the dump any more
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done is closed
}

// trashEntry names a database's place in the trash. The oid makes a second
// dump of the same database, after a crash before the drop, replace the first.
func trashEntry(b databaseRow) string { return fmt.Sprintf("%s.%d", b.name, b.oid) }

// dump returns once a dump of the database is durably in the trash. want is the
// one from before a revision; of a database that goes it is zero.
func (d *Driver) dump(ctx context.Context, entry string, want resource.Dump, b databaseRow, role roleRow) error {
	job := d.joinDump(trashEntry(b), entry, func(ctx context.Context) error {
		at := time.Now().UTC()
		if at.Before(want.After) { // the clock was set back
			at = want.After
		}
		info := d.infoOf(b.name, role, at)
		info.Before = want.Revision
		return d.dumpTo(ctx, entry, d.trashPath(entry), dumpSession, info)
	})
	select {
	case <-job.done:
		d.leave(trashEntry(b), job)
		return job.err
	case <-ctx.Done():
		if want.Revision != "" && errors.Is(ctx.Err(), context.Canceled) {
			job.cancel() // another revision is wanted
		}
	case <-time.After(tellAfter):
	}
	return resource.Waiting("Dumping", time.Second, fmt.Errorf("database %s is being dumped to the trash: %s", b.name, d.progress(entry, b.name, job)))
}

// infoOf says what a dump is of.
func (d *Driver) infoOf(database string, role roleRow, at time.Time) trashInfo {
	n := role.note
	return trashInfo{
		Installation: d.opts.Installation, Database: database, Label: n.Label, Owner: role.mark.Owner,
		Extensions: n.Extensions, Revision: n.Revision, Seeded: n.Seeded, DeletedAt: at,
	}
}

// leave forgets a job that has ended.
func (d *Driver) leave(key string, job *dumpJob) {
	d.dumps.mu.Lock()
	defer d.dumps.mu.Unlock()
	if d.dumps.jobs[key] == job {
		delete(d.dumps.jobs, key)
		job.cancel()
	}
}

// progress says how far a dump is. How long it will be PostgreSQL does not know:
// a dump is compressed, and has no indexes.
func (d *Driver) progress(entry, database string, job *dumpJob) string {
	text := fmt.Sprintf("%.1f MB written in %s", megabytes(d.stagedSize(entry)), time.Since(job.began).Round(time.Second))
	if size := d.size(database); size > 0 {
		text += fmt.Sprintf(", the database has %.1f MB", megabytes(size))
	}
	return text
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }

// size of a database; 0 while that cannot be asked.
func (d *Driver) size(database string) (size int64) {
	ctx, cancel := context.WithTimeout(d.background, observeTimeout)
	defer cancel()
	if pool, err := d.connections(); err == nil {
		pool.QueryRow(ctx, `SELECT pg_database_size(oid) FROM pg_database WHERE datname = $1`, database).Scan(&size)
	}
	return size
}

// stagedSize is how much of a dump is there.
func (d *Driver) stagedSize(entry string) int64 {
	info, err := os.Lstat(filepath.Join(d.staging(entry), dumpFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

// joinDump returns the job that makes the entry. Another one of the same database
// is not wanted any more: it is ended first.
func (d *Driver) joinDump(database, entry string, run func(context.Context) error) *dumpJob {
	d.dumps.mu.Lock()
	defer d.dumps.mu.Unlock()
	old, running := d.dumps.jobs[database]
	if running && old.entry == entry && old.ctx.Err() == nil {
		return old
	}
	if d.dumps.jobs == nil {
		d.dumps.jobs = map[string]*dumpJob{}
	}
	job := &dumpJob{entry: entry, began: time.Now(), done: make(chan struct{})}
	job.ctx, job.cancel = context.WithCancel(d.background)
	d.dumps.jobs[database] = job
	d.tasks.Go(func() {
		defer close(job.done)
		if running {
			old.cancel()
			<-old.done
		}
		job.err = run(job.ctx)
	})
	return job
}

// dumpTo dumps as the cluster's user, who needs no password over the socket, into
// a directory of that user, and then moves the whole to its place.
func (d *Driver) dumpTo(ctx context.Context, entry, place, session string, info trashInfo) error {
	u, err := d.user()
	if err != nil {
		return err
	}
	staging, err := d.stage(u, entry)
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	if err := d.pgDump(ctx, u, filepath.Join(staging, dumpFile), session, info); err != nil {
		return err
	}
	if err := seal(staging, info); err != nil {
		return fmt.Errorf("keep the dump of database %s: %w", info.Database, err)
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return err
	}
	if err := os.RemoveAll(place); err != nil {
		return err
	}
	return renameDurably(staging, place)
}

func (d *Driver) pgDump(ctx context.Context, u user, file, session string, info trashInfo) error {
	if err := d.endDump(ctx, session, info.Database); err != nil { // one of a daemon that died
		return err
	}
	dumping, giveUp := context.WithCancelCause(ctx)
	if info.Before != "" || session == backupSession { // it is in use
		var watch sync.WaitGroup
		watch.Go(func() { d.watchDump(dumping, session, info.Database, giveUp) })
		defer watch.Wait()
	}
	defer giveUp(nil)
	err := d.pgTool(dumping, u, filepath.Dir(file), []string{"PGAPPNAME=" + session}, "pg_dump",
		"--format=custom", "--file="+file, "--username="+d.admin(), "--dbname="+info.Database)
	if err == nil {
		return nil
	}
	// A session does not see that its client has gone while it waits for a lock.
	over, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	err = errors.Join(err, d.endDump(over, session, info.Database))
	if locked, is := errors.AsType[*lockedError](context.Cause(dumping)); is {
		return resource.Because(ReasonLocked, fmt.Errorf("database %s was not dumped: %w", info.Database, locked))
	}
	return resource.Because(ReasonDumpFailed, fmt.Errorf("dump database %s: %w", info.Database, err))
}

// endDump ends the sessions of dumps of a database.
func (d *Driver) endDump(ctx context.Context, session, database string) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = $2 AND usename = current_user", database, session)
	if err != nil {
		return fmt.Errorf("end the dump of database %s: %w", database, err)
	}
	return nil
}

func (d *Driver) trashPath(entry string) string {
	return filepath.Join(d.opts.Layout.Trash(), trashKind, entry)
}

func (d *Driver) staging(entry string) string { return filepath.Join(d.dir, "dump", entry) }

// stage makes an empty directory that the cluster's user may write to.
func (d *Driver) stage(u user, entry string) (string, error) {
	staging := d.staging(entry)
	if err := mkdir(filepath.Dir(staging), 0o755); err != nil {
		return "", err
	}
	if err := os.RemoveAll(staging); err != nil {
		return "", err
	}
	return staging, u.mkdir(staging, 0o700)
}

// pgTool runs one of PostgreSQL's client programs over the socket.
func (d *Driver) pgTool(ctx context.Context, u user, dir string, env []string, program string, args ...string) error {
	major, err := d.major(ctx)
	if err != nil {
		return err
	}
	bin, err := d.binDirFor(ctx, major)
	if err != nil {
		return err
	}
	port, err := d.port()
	if err != nil {
		return err
	}
	argv := append([]string{filepath.Join(bin, program), "--host=" + d.socketDir(), "--port=" + portString(port), "--no-password"}, args...)
	_, err = host.Run(ctx, host.Command{Argv: argv, Dir: dir, Env: env, Credential: u.Credential})
	return err
}

// major version of the server.
func (d *Driver) major(ctx context.Context) (string, error) {
	if d.opts.System == nil {
		version, err := os.ReadFile(filepath.Join(d.dataDir(), "PG_VERSION"))
		return strings.TrimSpace(string(version)), err
	}
	pool, err := d.connections()
	if err != nil {
		return "", err
	}
	var major string
	err = pool.QueryRow(ctx, "SELECT (current_setting('server_version_num')::int / 10000)::text").Scan(&major)
	return major, err
}

// seal makes a staged dump root's, so that nobody can change it, and durable.
func seal(staging string, info trashInfo) error {
	root, err := os.OpenRoot(staging)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Chown(".", 0, 0); err != nil {
		return err
	}
	st, err := root.Lstat(dumpFile)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file: %w", dumpFile, fs.ErrInvalid)
	}
	if err := root.Lchown(dumpFile, 0, 0); err != nil {
		return err
	}
	if err := root.Chmod(dumpFile, 0o600); err != nil {
		return err
	}
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	return host.WriteFile(filepath.Join(staging, infoFile), append(b, '\n'), 0o600)
}
