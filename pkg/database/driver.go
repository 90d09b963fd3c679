package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	serviceName = "postgres"
	// maxSocketPath is sun_path without its closing NUL.
	maxSocketPath = 107
)

// Options of New.
type Options struct {
	Layout       host.Layout        // required
	Naming       resource.Naming    // required
	Installation string             // required
	Supervisor   *supervise.Manager // required
	// BinDir holds initdb, postgres, pg_dump and pg_restore. Optional: that of
	// the data directory's version, else the newest found on the host.
	BinDir string
	User   string      // optional: the user that the server runs as, "postgres"
	Port   uint16      // required with System: where it listens
	System *System     // optional: the host's own PostgreSQL instead of one of ours
	Log    logr.Logger // optional
	// LockWait is how long the dump of a database in use waits for a lock. Optional: 30 s.
	LockWait time.Duration
}

// Driver manages the kinds cluster, role, database, dump and access.
type Driver struct {
	opts Options
	dir  string // of the service: conf, data, and the supervisor's files

	poolMu   sync.Mutex
	pool     *pgxpool.Pool
	poolPort uint16

	hbaMu     sync.Mutex
	restoring []string // databases that a restore is writing to
	seen      hbaSeen
	right     [3]fileID // of the configuration when it was last found to be right
	written   int       // counts writes of the configuration
	enforced  int       // the write that the server was last seen to obey

	service  chan struct{} // held by who makes, ends or borrows the server
	verified verified
	spares   spares
	dumps    dumps

	background context.Context // ends with Close
	cancel     context.CancelFunc
	tasks      sync.WaitGroup
}

var _ resource.Driver = (*Driver)(nil)

// New returns the driver. It touches nothing on the host.
func New(o Options) (*Driver, error) {
	if o.Supervisor == nil || o.Installation == "" || o.Layout.State == "" || o.Layout.Run == "" {
		return nil, errors.New("database driver: Layout, Installation and Supervisor are required")
	}
	if o.LockWait == 0 {
		o.LockWait = lockWait
	}
	if o.User == "" {
		o.User = "postgres"
	}
	d := &Driver{opts: o, dir: o.Layout.Service(serviceName), service: make(chan struct{}, 1)}
	if err := d.checkMode(); err != nil {
		return nil, err
	}
	d.background, d.cancel = context.WithCancel(context.Background())
	if path := filepath.Join(d.socketDir(), ".s.PGSQL.65535"); len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path of PostgreSQL's socket, %s, is longer than %d bytes; choose a shorter Host.spec.runDir", path, maxSocketPath)
	}
	return d, nil
}

// Close ends what runs in the background in this process. PostgreSQL itself goes on.
func (d *Driver) Close() error {
	d.cancel()
	d.tasks.Wait()
	d.dropPool()
	return nil
}

// Name is "database".
func (d *Driver) Name() string { return "database" }

// Kinds are those that this driver manages.
func (d *Driver) Kinds() []resource.Kind {
	return []resource.Kind{resource.KindCluster, resource.KindRole, resource.KindDatabase, resource.KindDump, resource.KindAccess}
}

func (d *Driver) dataDir() string           { return filepath.Join(d.dir, "data") }
func (d *Driver) conf(f string) string      { return filepath.Join(d.dir, "conf", f) }
func (d *Driver) mark(o string) string      { return d.ownedBy(o).String() }
func (d *Driver) passwords() string         { return d.opts.Layout.Passwords() }
func (d *Driver) ours(m resource.Mark) bool { return m.Installation == d.opts.Installation }

func (d *Driver) socketDir() string {
	if d.opts.System != nil {
		return d.opts.System.SocketDir
	}
	return d.opts.Layout.RunService(serviceName)
}

func (d *Driver) clusterExists() bool {
	if d.opts.System != nil {
		return exists(d.systemNotePath())
	}
	return exists(d.conf(mainConf))
}

// admin is the superuser that we are.
func (d *Driver) admin() string {
	if d.opts.System != nil {
		return d.opts.User
	}
	return admin
}

func (d *Driver) ownedBy(owner string) resource.Mark {
	return resource.Mark{Installation: d.opts.Installation, Owner: owner}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Observe reads our files for cluster and access, and the shared catalogues
// once for role and database.
func (d *Driver) Observe(ctx context.Context) map[resource.Kind]resource.Domain {
	if !d.clusterExists() {
		return map[resource.Kind]resource.Domain{
			resource.KindCluster: resource.Known(), resource.KindAccess: resource.Known(),
			resource.KindRole: resource.Known(), resource.KindDatabase: resource.Known(), resource.KindDump: d.observeDumps(),
		}
	}
	observed := map[resource.Kind]resource.Domain{
		resource.KindCluster: d.observeCluster(ctx),
		resource.KindAccess:  d.observeAccess(),
		resource.KindDump:    d.observeDumps(),
	}
	if d.opts.System == nil && !exists(d.dataDir()) {
		// In the middle of its removal: nothing is in it any more.
		observed[resource.KindAccess], observed[resource.KindRole], observed[resource.KindDatabase] = resource.Known(), resource.Known(), resource.Known()
		return observed
	}
	c, err := d.observeCatalog(ctx)
	if err != nil {
		err = unavailable(err)
		observed[resource.KindRole], observed[resource.KindDatabase] = resource.Unknown(err), resource.Unknown(err)
		return observed
	}
	right := func(r roleRow) bool { return d.verified.check(r, filepath.Join(d.passwords(), r.name)) }
	observed[resource.KindRole] = c.observedRoles(d.opts.Installation, d.passwords(), right)
	observed[resource.KindDatabase] = c.observedDatabases(d.opts.Installation)
	return observed
}

func (d *Driver) observeCatalog(ctx context.Context) (catalog, error) {
	pool, err := d.connections()
	if err != nil {
		return catalog{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	return readCatalog(ctx, pool)
}

// Apply runs the steps: accesses all at once, the others one after another.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	errs := make([]error, len(steps))
	var accesses []int
	for i, s := range steps {
		switch v := s.Resource.Value.(type) {
		case resource.Cluster:
			errs[i] = d.applyCluster(ctx, s, v)
		case resource.Role:
			errs[i] = d.full(unavailable(d.applyRole(ctx, s, v)))
		case resource.Database:
			errs[i] = d.full(unavailable(d.applyDatabase(ctx, s, v)))
		case resource.Dump:
			errs[i] = d.full(unavailable(d.applyDump(ctx, s, v)))
		case resource.Access:
			accesses = append(accesses, i)
		default:
			errs[i] = resource.Terminal("UnknownKind", fmt.Errorf("%s is not a step of the database driver", s))
		}
	}
	if len(accesses) > 0 {
		d.applyAccesses(ctx, steps, accesses, errs)
	}
	return errs
}

// Watch tells of the server's start and end. PostgreSQL sends no events for
// changes of its catalogues; those wait for the next pass or resync.
//
// It begins by making the server obey its files: a daemon that died between
// writing pg_hba.conf and the reload leaves them unread.
func (d *Driver) Watch(ctx context.Context, notify func()) error {
	if d.opts.System != nil {
		return d.watchSystem(ctx, notify)
	}
	parent := filepath.Dir(d.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := d.enforce(bounded); err != nil {
		return unavailable(err)
	}
	return d.opts.Supervisor.Watch(ctx, parent, notify)
}
