package database

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// System is the host's own PostgreSQL, which somebody else configures and runs.
// We are its superuser Options.User over the socket, by the peer's user id.
//
//   - Only roles and databases with our mark are touched, and no setting.
//   - pg_hba.conf has one static rule: from our subnet a role reaches the
//     database of its own name, by password. The firewall says which machine
//     reaches the port at all. So, other than in a PostgreSQL of ours, a role is
//     not bound to the address of its machine.
//   - That this is so is tried over the network whenever the server has read its
//     configuration: listening, own database by password, no other database.
//   - What an access allows is written down here; connections of our roles from
//     machines that no access allows are ended.
type System struct {
	SocketDir string // required
}

const (
	systemFile = "system.json" // says that the host's own PostgreSQL is in use
	// probedDatabase is one that every server has and nobody from a machine may reach.
	probedDatabase = "template1"
)

// systemNote is the content of systemFile.
type systemNote struct {
	Cluster resource.Cluster `json:"cluster"`
	// State of the server that was found to let machines in as it should.
	State serverState `json:"state"`
}

// serverState changes when the server may have read another configuration.
type serverState struct {
	Started time.Time `json:"started"`
	Loaded  time.Time `json:"loaded"`
}

func (d *Driver) systemNotePath() string { return filepath.Join(d.dir, systemFile) }

// checkMode refuses to look past databases that the other mode has made.
func (d *Driver) checkMode() error {
	system := exists(d.systemNotePath())
	managed := exists(d.conf(mainConf)) || exists(d.dataDir())
	switch {
	case d.opts.System != nil && managed:
		return fmt.Errorf("spec.postgres.mode of the Host is system, but %s holds the PostgreSQL of mode managed with its databases; set the mode back and delete them (tekton data list), or move the directory away", d.dir)
	case d.opts.System == nil && system:
		return fmt.Errorf("%s says that databases are in the host's own PostgreSQL; set spec.postgres.mode of the Host back to system and delete their objects first, or remove the file and leave them there", d.systemNotePath())
	}
	return nil
}

func (d *Driver) readSystem() (n systemNote, err error) {
	b, err := os.ReadFile(d.systemNotePath())
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(b, &n)
}

// observeSystem shows a server that does not answer, or was not tried since it
// has read its configuration, as the zero value: it differs from every wanted one.
func (d *Driver) observeSystem(ctx context.Context) resource.Domain {
	var v resource.Cluster
	note, err := d.readSystem()
	if err == nil {
		bounded, cancel := context.WithTimeout(ctx, observeTimeout)
		defer cancel()
		if now, err := d.serverState(bounded); err == nil && now == note.State {
			v = note.Cluster
		}
	}
	return resource.Known(resource.New(resource.HostOwner, "", serviceName, v))
}

// serverState asks twice: connections of before a restart are not good any more.
func (d *Driver) serverState(ctx context.Context) (serverState, error) {
	s, err := d.askState(ctx)
	if err != nil {
		d.dropPool()
		s, err = d.askState(ctx)
	}
	return s, err
}

func (d *Driver) askState(ctx context.Context) (s serverState, err error) {
	pool, err := d.connections()
	if err == nil {
		err = pool.QueryRow(ctx, "SELECT pg_postmaster_start_time(), pg_conf_load_time()").Scan(&s.Started, &s.Loaded)
	}
	s.Started, s.Loaded = s.Started.UTC(), s.Loaded.UTC()
	return s, err
}

// putSystem begins to use the host's own PostgreSQL, once it lets machines in as it should.
func (d *Driver) putSystem(ctx context.Context, v resource.Cluster) error {
	if err := addressPresent(v.Listen.Addr()); err != nil {
		return err
	}
	state, err := d.serverState(ctx)
	if err != nil {
		return resource.Taken("PostgresUnavailable", fmt.Errorf(
			"the host's own PostgreSQL does not let us in through %s as %s: %w; start it (systemctl start postgresql), let pg_hba.conf have \"local all %[2]s peer\", or correct Host.spec.postgres", d.socketDir(), d.admin(), err))
	}
	pool, err := d.connections()
	if err != nil {
		return err
	}
	var version int
	var super bool
	if err := pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000, rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&version, &super); err != nil {
		return unavailable(err)
	}
	switch {
	case version < minMajor:
		return resource.Taken("PostgresVersion", fmt.Errorf("the host's own PostgreSQL %d is too old; %d or newer is needed", version, minMajor))
	case !super:
		return resource.Taken("PostgresUser", fmt.Errorf("%s is no superuser of the host's own PostgreSQL; name one in Host.spec.postgres.user", d.admin()))
	}
	if err := d.tryRule(ctx, v.Listen); err != nil {
		return err
	}
	if err := d.noteSystem(systemNote{v, state}); err != nil {
		return err
	}
	d.spares.begin()
	d.refill()
	return d.enforce(ctx)
}

func (d *Driver) noteSystem(n systemNote) error {
	if err := os.MkdirAll(d.conf(""), 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return host.WriteFile(d.systemNotePath(), append(b, '\n'), 0o644)
}

// tryRule logs in as a machine would, with a password that is wrong: the answer
// tells whether there is a rule.
func (d *Driver) tryRule(ctx context.Context, at netip.AddrPort) error {
	subnet := d.opts.Naming.Subnet.Masked()
	own, err := d.tryLogin(ctx, at, d.admin())
	if err != nil {
		return resource.Taken("PostgresUnreachable", fmt.Errorf(
			"the host's own PostgreSQL is not reached at %s, where machines look for it: %w; write into postgresql.conf: listen_addresses = 'localhost,%s' and port = %d; into a file below /etc/sysctl.d, as the address may come later than PostgreSQL: net.ipv4.ip_nonlocal_bind = 1; then apply both: sysctl --system, systemctl restart postgresql",
			at, err, at.Addr(), at.Port()))
	}
	other, err := d.tryLogin(ctx, at, probedDatabase)
	if err != nil {
		return unavailable(err)
	}
	if own != codeWrongPassword || other != codeNoRule {
		return resource.Taken("PostgresRule", fmt.Errorf(
			"pg_hba.conf of the host's own PostgreSQL has to let machines into the database of their role's own name, by password, and into no other; write these lines before all others that begin with host: \"host sameuser all %[1]s scram-sha-256\" and \"host all all %[1]s reject\"; then: systemctl reload postgresql", subnet))
	}
	return nil
}

// What PostgreSQL answers to a wrong password, and where no rule lets one in.
const (
	codeWrongPassword = "28P01"
	codeNoRule        = "28000"
)

// tryLogin returns the SQLSTATE with which a login as the superuser is refused;
// "" when it is not refused. The error says that nobody answers.
func (d *Driver) tryLogin(ctx context.Context, at netip.AddrPort, database string) (code string, err error) {
	c, err := pgx.ParseConfig("host=/ sslmode=disable user=" + d.admin())
	if err != nil {
		return "", err
	}
	c.Host, c.Port, c.Database, c.Password = at.Addr().String(), at.Port(), database, "wrong"
	c.ConnectTimeout = connectTimeout
	conn, err := pgx.ConnectConfig(ctx, c)
	if err == nil {
		return "", conn.Close(ctx)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code, nil
	}
	return "", err
}

// leaveSystem takes what is ours, and of no object, out of the host's own PostgreSQL.
func (d *Driver) leaveSystem(ctx context.Context) error {
	if err := d.spares.end(ctx); err != nil {
		return err
	}
	pool, err := d.connections()
	if err != nil {
		return err
	}
	names, err := listSpares(ctx, pool, d.opts.Installation, d.admin())
	if err != nil {
		return unavailable(err)
	}
	for _, name := range names {
		if err := drop(ctx, pool, name); err != nil {
			return err
		}
	}
	d.dropPool()
	if err := os.RemoveAll(d.conf("")); err != nil {
		return err
	}
	return os.RemoveAll(d.dir)
}

// watchSystem tells of starts and ends of the server, by its socket.
func (d *Driver) watchSystem(ctx context.Context, notify func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the socket of PostgreSQL: %w", err)
	}
	defer w.Close()
	if err := w.Add(d.socketDir()); err != nil {
		return fmt.Errorf("watch %s: %w", d.socketDir(), err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			if e.Has(fsnotify.Remove) && e.Name == d.socketDir() {
				return fmt.Errorf("%s has gone", d.socketDir())
			}
		case <-w.Errors: // events were lost
		}
		notify()
	}
}

// connectSystem has a pool's connections made as the operator's database
// superuser: PostgreSQL asks the kernel whose process connects.
func (d *Driver) connectSystem(c *pgxpool.Config) error {
	u, err := d.user()
	if err != nil {
		return err
	}
	c.ConnConfig.User = d.admin()
	c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialAs(ctx, int(u.Uid), network, address)
	}
	return nil
}

// dialAs connects with another effective user id, which the kernel keeps with
// the connection. It is this thread's alone, and for the moment of connecting.
func dialAs(ctx context.Context, uid int, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	const keep = ^uintptr(0)
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("become user %d: %w", uid, errno)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(os.Getuid()), keep); errno != 0 {
		return conn, errors.Join(err, fmt.Errorf("become root again: %w", errno)) // the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return conn, err
}

// restoreAs gives pg_restore a way to be a role of the host's own PostgreSQL:
// over the network, by password, which the file holds that env names.
func (d *Driver) restoreAs(ctx context.Context, u user, staging, role string) (server []string, env []string, err error) {
	pool, err := d.connections()
	if err != nil {
		return nil, nil, err
	}
	c, err := readCatalog(ctx, pool, role)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	password, err := readPassword(filepath.Join(d.passwords(), role))
	if err != nil || !matches(c.roles[role].verifier, password) {
		// A database that no object has yet: a password for the moment, which lockOut takes.
		password = rand.Text()
		if err := lend(ctx, pool, role, password); err != nil {
			return nil, nil, err
		}
	}
	address := "localhost"
	service := d.opts.Naming.Service()
	if present, err := host.HasAddress(service); err == nil && present {
		address = service.String()
	}
	file := filepath.Join(staging, "password")
	if err := host.WriteFile(file, []byte("*:*:*:*:"+password+"\n"), 0o600); err != nil {
		return nil, nil, err
	}
	return []string{"--host=" + address}, []string{"PGPASSFILE=" + file}, os.Chown(file, int(u.Uid), int(u.Gid))
}

// lend gives a role a password.
func lend(ctx context.Context, pool *pgxpool.Pool, role, password string) error {
	stored, err := newVerifier(password)
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD %s", quoted(role), literal(stored)))
	return err
}
