package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

const (
	stopTimeout = time.Minute // a fast shutdown writes a checkpoint
	logMax      = 8 << 20
	// startPatience is how long a start is waited for in a step; afterwards it is
	// looked at again and again: the replay of a log may take long, and on a full
	// disk it may never end.
	startPatience   = 10 * time.Second
	offlinePatience = time.Hour // its caller's context ends sooner
	// retrySoon is when to look again at what is about to happen.
	retrySoon = 200 * time.Millisecond
	// rubbishPrefix begins the names of unfinished and of dropped data directories.
	rubbishPrefix = "data.new"
	// minMajor: before 15 everybody may create tables in the schema public.
	minMajor = 15
)

// running returns the process's status and the value that it was started with;
// the zero Cluster when it does not run.
func (d *Driver) running() (supervise.Status, resource.Cluster, error) {
	st, found, err := d.opts.Supervisor.Status(d.dir)
	if err != nil || !found || !st.Running {
		return supervise.Status{}, resource.Cluster{}, err
	}
	spec, found, err := d.opts.Supervisor.ReadSpec(d.dir)
	if err != nil || !found || spec.Boot != st.Boot {
		return st, resource.Cluster{}, err
	}
	return st, clusterOf(spec.Argv), nil
}

// observeCluster shows a cluster that does not run, or whose configuration is
// not ours any more, as the zero value: it differs from every wanted one.
func (d *Driver) observeCluster(ctx context.Context) resource.Domain {
	if d.opts.System != nil {
		return d.observeSystem(ctx)
	}
	st, v, err := d.running()
	if err != nil {
		return resource.Unknown(err)
	}
	if !st.Ready || !d.filesRight() {
		v = resource.Cluster{}
	}
	return resource.Known(resource.New(resource.HostOwner, "", serviceName, v))
}

func (d *Driver) applyCluster(ctx context.Context, s resource.Step, v resource.Cluster) error {
	release, err := d.holdService(ctx)
	if err != nil {
		return err
	}
	defer release()
	if s.Verb == resource.Delete {
		if d.opts.System != nil {
			return d.leaveSystem(ctx)
		}
		return d.deleteCluster(ctx)
	}
	if s.Resource.Name != serviceName {
		return resource.Terminal("InvalidName", fmt.Errorf("cluster %q: the one cluster of a host is named %q", s.Resource.Name, serviceName))
	}
	if d.opts.System != nil {
		return d.putSystem(ctx, v)
	}
	return d.putCluster(ctx, v)
}

func (d *Driver) putCluster(ctx context.Context, v resource.Cluster) error {
	st, now, err := d.running()
	if err != nil {
		return err
	}
	if !st.Running || now != v {
		// Before any file says that there is a cluster.
		if err := addressPresent(v.Listen.Addr()); err != nil {
			return err
		}
	}
	u, bin, written, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	if st.Running && now == v {
		if !st.Ready {
			return d.starting()
		}
		return d.enforce(ctx)
	}
	if st.Running {
		d.opts.Log.Info("restarting PostgreSQL", "listen", v.Listen.String(), "maxConnections", v.MaxConnections)
	}
	if err := d.start(ctx, u, bin, v, startPatience); err != nil {
		return err
	}
	d.nowEnforced(written)
	d.refill()
	return nil
}

// prepare makes all that a start needs, and says which write of the
// configuration is the newest.
func (d *Driver) prepare(ctx context.Context) (u user, bin string, written int, err error) {
	if u, err = d.user(); err != nil {
		return u, "", 0, err
	}
	if err := d.directories(u); err != nil {
		return u, "", 0, err
	}
	if bin, err = d.ensureData(ctx, u); err != nil {
		return u, "", 0, err
	}
	written, err = d.writeFiles()
	return u, bin, written, err
}

// start ends what runs and starts the server with v, and returns once it
// accepts connections, or patience is over.
func (d *Driver) start(ctx context.Context, u user, bin string, v resource.Cluster, patience time.Duration) error {
	d.dropPool()
	if err := d.opts.Supervisor.Stop(ctx, d.dir, stopTimeout); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	if err := d.dropStalePID(); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := d.opts.Supervisor.Start(starting, d.dir, supervise.Spec{
		Name:        serviceName,
		Unit:        d.opts.Naming.Unit(serviceName),
		Mark:        d.mark(resource.HostOwner),
		Argv:        append([]string{filepath.Join(bin, "postgres")}, d.flags(v)...),
		Env:         []string{"PATH=" + bin + ":/usr/bin:/bin", "LC_ALL=C.UTF-8"},
		Dir:         d.dataDir(),
		UID:         u.Uid,
		GID:         u.Gid,
		Notify:      true,
		LogMax:      logMax,
		StopSignal:  int(syscall.SIGINT), // fast: SIGTERM would wait for clients
		StopTimeout: stopTimeout,
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return d.starting()
	}
	if err != nil {
		return resource.Because("PostgresStart", fmt.Errorf("start PostgreSQL: %w", err))
	}
	return nil
}

// starting is the error of a server that runs and does not accept connections yet.
func (d *Driver) starting() error {
	err := errors.New("PostgreSQL is starting; after a crash it replays its log first")
	if full := host.Full(d.dir); full != nil {
		err = fmt.Errorf("PostgreSQL does not come up: %w", full)
	}
	return resource.Waiting("PostgresStarting", retrySoon, err)
}

// dropStalePID removes the postmaster.pid of a server that was killed, when its
// number has become that of another process, after a reboot for one: PostgreSQL
// would take that for a server on the same data. Servers work in their data
// directory; a number that is free is PostgreSQL's own business.
func (d *Driver) dropStalePID() error {
	path := filepath.Join(d.dataDir(), "postmaster.pid")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, _, _ := strings.Cut(string(content), "\n")
	if _, err := strconv.Atoi(pid); err != nil {
		return nil // PostgreSQL says what is wrong with it
	}
	works, err := os.Stat("/proc/" + pid + "/cwd")
	if err != nil {
		return nil
	}
	data, err := os.Stat(d.dataDir())
	if err != nil || os.SameFile(works, data) {
		return err
	}
	d.opts.Log.Info("removing the mark of a dead PostgreSQL", "file", path)
	return os.Remove(path)
}

// addressPresent waits for the service address: PostgreSQL ends when it cannot bind.
func addressPresent(want netip.Addr) error {
	present, err := host.HasAddress(want)
	if err != nil {
		return err
	}
	if !present {
		return resource.Waiting("ServiceAddressMissing", retrySoon, fmt.Errorf("PostgreSQL is to listen on %s, which no interface of the host has yet", want))
	}
	return nil
}

// ensureData makes the data directory where there is none and returns the
// programs that fit it. The directory appears whole or not at all.
func (d *Driver) ensureData(ctx context.Context, u user) (bin string, err error) {
	version, err := os.ReadFile(filepath.Join(d.dataDir(), "PG_VERSION"))
	if err == nil {
		return d.binDirFor(ctx, strings.TrimSpace(string(version)))
	}
	if exists(d.dataDir()) {
		return "", resource.Taken("PostgresData", fmt.Errorf("%s is no data directory of PostgreSQL: %w; move it away, and a new one is made", d.dataDir(), err))
	}
	bin, err = d.binDir(ctx)
	if err != nil {
		return "", err
	}
	// A name of its own: an initdb that has outlived a killed daemon may still
	// write to the former one, which then goes later.
	_ = d.removeRubbish()
	staging := d.rubbish()
	if err := u.mkdir(staging, 0o700); err != nil {
		return "", err
	}
	if err := d.initdb(ctx, u, bin, staging); err != nil {
		return "", err
	}
	return bin, renameDurably(staging, d.dataDir())
}

// rubbish is a new name for a data directory that is not one yet, or no more.
func (d *Driver) rubbish() string {
	return filepath.Join(d.dir, fmt.Sprintf("%s%d", rubbishPrefix, time.Now().UnixNano()))
}

func (d *Driver) removeRubbish() error {
	found, err := filepath.Glob(filepath.Join(d.dir, rubbishPrefix+"*"))
	for _, path := range found {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// removeData removes the data directory, which goes whole or not at all: half
// of one could neither be asked what is in it nor be taken for an empty one.
func (d *Driver) removeData() error {
	err := os.Rename(d.dataDir(), d.rubbish())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.removeRubbish())
}

func (d *Driver) initdb(ctx context.Context, u user, bin, dir string) error {
	if _, err := u.run(ctx, dir, "", filepath.Join(bin, "initdb"), "-D", dir, "-U", admin,
		"--auth-local=peer", "--auth-host=reject", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return resource.Because("PostgresUser", fmt.Errorf("make PostgreSQL's data directory: %w; all directories above %s must let user %s pass", err, dir, d.opts.User))
		}
		return fmt.Errorf("make PostgreSQL's data directory: %w", err)
	}
	// Before anybody can connect: by default every role may use every database.
	revoke := "REVOKE ALL ON DATABASE " + adminDatabase + " FROM PUBLIC;\nREVOKE ALL ON DATABASE template1 FROM PUBLIC;\n"
	if _, err := u.run(ctx, dir, revoke, filepath.Join(bin, "postgres"), "--single", "-D", dir, "-c", "exit_on_error=on", adminDatabase); err != nil {
		return fmt.Errorf("revoke PostgreSQL's default privileges: %w", err)
	}
	return nil
}

// deleteCluster stops the server. Its data stays while a database in it is
// retained or is not ours, and a later Put takes it up again.
func (d *Driver) deleteCluster(ctx context.Context) error {
	if d.clusterExists() && exists(d.dataDir()) {
		kept, err := d.keptData(ctx)
		if err != nil {
			return fmt.Errorf("find out whether PostgreSQL holds retained data: %w; if none of it is needed, remove %s", err, d.dataDir())
		}
		if len(kept) > 0 {
			d.opts.Log.Info("PostgreSQL's data stays", "directory", d.dataDir(), "databases", len(kept))
			if err := d.noteResting(ctx); err != nil {
				return err
			}
			return d.removeService(ctx, "conf", "dump")
		}
	}
	if !d.clusterExists() && exists(d.dataDir()) {
		return d.removeService(ctx, "conf", "dump") // deleted before; what stayed, stays
	}
	return d.removeService(ctx, "data", "dump", "conf")
}

// keptData asks the server, which is started without any address if need be.
func (d *Driver) keptData(ctx context.Context) ([]string, error) {
	st, _, err := d.running()
	if err != nil {
		return nil, err
	}
	if !st.Ready {
		if err := d.startOffline(ctx); err != nil {
			return nil, err
		}
	}
	pool, err := d.connections()
	if err != nil {
		return nil, err
	}
	c, err := readCatalog(ctx, pool)
	return c.kept(d.opts.Installation), err
}

// removeService stops the process and removes the named directories of the
// service, the configuration last: while it is there the cluster is observed,
// and a Delete that was cut short is planned again.
func (d *Driver) removeService(ctx context.Context, names ...string) error {
	d.dropPool()
	if err := d.opts.Supervisor.Stop(ctx, d.dir, stopTimeout); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	for _, name := range names {
		remove := func() error { return os.RemoveAll(filepath.Join(d.dir, name)) }
		if name == "data" {
			remove = d.removeData
		}
		if err := remove(); err != nil {
			return fmt.Errorf("remove PostgreSQL's files: %w", err)
		}
	}
	if err := os.RemoveAll(d.socketDir()); err != nil {
		return fmt.Errorf("remove PostgreSQL's socket directory: %w", err)
	}
	if exists(d.dataDir()) {
		return nil
	}
	return os.RemoveAll(d.dir)
}
