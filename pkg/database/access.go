package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// hbaSeen is what was read from pg_hba.conf, kept for as long as the file is
// the same. The entries are never changed in place.
type hbaSeen struct {
	file    fileID
	entries map[string]entry
}

// readHBA reads the accesses in pg_hba.conf; none when there is no file. The
// caller holds hbaMu.
func (d *Driver) readHBA() (hba, error) {
	file, err := identify(d.conf(hbaConf))
	if errors.Is(err, fs.ErrNotExist) {
		return hba{restore: d.restoring}, nil
	}
	if err != nil {
		return hba{}, err
	}
	if d.seen.entries == nil || d.seen.file != file {
		content, err := os.ReadFile(d.conf(hbaConf))
		if err != nil {
			return hba{}, err
		}
		d.seen = hbaSeen{file: file, entries: parseHBA(content, d.opts.Installation).entries}
	}
	return hba{entries: d.seen.entries, restore: d.restoring}, nil
}

func (d *Driver) observeAccess() resource.Domain {
	d.hbaMu.Lock()
	defer d.hbaMu.Unlock()
	h, err := d.readHBA()
	if err != nil {
		return resource.Unknown(err)
	}
	items := make(resource.Set, len(h.entries))
	for name, e := range h.entries {
		r := resource.New(e.mark.Owner, e.instance, name, e.access)
		items[r.ID] = r
	}
	return resource.Domain{Items: items}
}

// applyAccesses writes all steps in one file and makes the server obey it once.
// While the server is down the file is enough: it is read at the start.
func (d *Driver) applyAccesses(ctx context.Context, steps []resource.Step, at []int, errs []error) {
	err := d.changeHBA(func(h hba) {
		for _, i := range at {
			errs[i] = d.changeAccess(h, steps[i], steps[i].Resource.Value.(resource.Access))
		}
	})
	if err == nil {
		err = d.enforce(ctx)
	}
	for _, i := range at {
		if errs[i] == nil {
			errs[i] = unavailable(err)
		}
	}
}

func (d *Driver) changeAccess(h hba, s resource.Step, a resource.Access) error {
	name := s.Resource.Name
	if s.Verb == resource.Delete {
		delete(h.entries, name)
		return nil
	}
	if err := errors.Join(checkName("role", a.Role), checkName("database", a.Database)); err != nil {
		return err
	}
	if name != accessName(a) || !a.Addr.Is4() {
		return resource.Terminal("InvalidName", fmt.Errorf("access %q must be named %q and have an IPv4 address", name, accessName(a)))
	}
	if !d.clusterExists() {
		return resource.Waiting("PostgresStarting", retrySoon, errors.New("there is no PostgreSQL yet to give access to"))
	}
	h.entries[name] = entry{access: a, mark: d.ownedBy(s.Resource.Owner), instance: s.Resource.Instance}
	return nil
}

// changeHBA edits pg_hba.conf. Nothing is written when nothing changed.
func (d *Driver) changeHBA(edit func(hba)) error {
	d.hbaMu.Lock()
	defer d.hbaMu.Unlock()
	h, err := d.readHBA()
	if err != nil {
		return err
	}
	before := h.entries
	if h.entries = maps.Clone(before); h.entries == nil {
		h.entries = map[string]entry{}
	}
	edit(h)
	if maps.Equal(before, h.entries) {
		return nil
	}
	d.written++
	return host.WriteFile(d.conf(hbaConf), h.render(), 0o644)
}

// enforce makes the running server obey its files: new connections by a reload,
// those that are open by ending each that no line allows. Until it has
// succeeded the cluster is observed as not right, so that it is tried again.
func (d *Driver) enforce(ctx context.Context) error {
	if d.opts.System == nil {
		st, _, err := d.running()
		if err != nil || !st.Running {
			return err
		}
	}
	d.hbaMu.Lock()
	written := d.written
	h, err := d.readHBA()
	d.hbaMu.Unlock()
	if err != nil {
		return err
	}
	if d.opts.System == nil {
		if err := d.reload(ctx); err != nil {
			return err
		}
	}
	if err := d.endForbidden(ctx, h); err != nil {
		return err
	}
	d.nowEnforced(written)
	return nil
}

// nowEnforced notes that the server obeys the files as of a number of writes.
func (d *Driver) nowEnforced(written int) {
	d.hbaMu.Lock()
	defer d.hbaMu.Unlock()
	d.enforced = max(d.enforced, written)
}

// endForbidden ends the connections from addresses that the role may not come from.
func (d *Driver) endForbidden(ctx context.Context, h hba) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	mayEnd, err := d.mayEnd(ctx, pool)
	if err != nil {
		return err
	}
	rows, err := pool.Query(ctx, `SELECT pid, usename, host(client_addr) FROM pg_stat_activity WHERE usename IS NOT NULL AND client_addr IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("list PostgreSQL's connections: %w", err)
	}
	var forbidden []int32
	var pid int32
	var role, addr string
	if _, err := pgx.ForEachRow(rows, []any{&pid, &role, &addr}, func() error {
		if _, allowed := h.entries[role+"@"+addr]; !allowed && mayEnd(role, addr) {
			forbidden = append(forbidden, pid)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("list PostgreSQL's connections: %w", err)
	}
	if len(forbidden) == 0 {
		return nil
	}
	if _, err := pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid`, forbidden); err != nil {
		return fmt.Errorf("end connections that are not allowed any more: %w", err)
	}
	return nil
}

// mayEnd says whose connections are ours to end: in the host's own PostgreSQL
// those of our roles from machines.
func (d *Driver) mayEnd(ctx context.Context, pool *pgxpool.Pool) (func(role, addr string) bool, error) {
	if d.opts.System == nil {
		return func(string, string) bool { return true }, nil
	}
	c, err := readCatalog(ctx, pool)
	return func(role, addr string) bool {
		from, err := netip.ParseAddr(addr)
		r := c.roles[role]
		return r.marked && d.ours(r.mark) && err == nil && d.opts.Naming.Subnet.Contains(from) && from != d.opts.Naming.Service()
	}, err
}

const reloadPoll = time.Millisecond

// reload makes the server read its files again and waits until it has: the
// postmaster passes the signal on to its sessions before it reads pg_hba.conf,
// and accepts nothing before it has done both.
func (d *Driver) reload(ctx context.Context) error {
	pool, err := d.connections()
	if err != nil {
		return err
	}
	return pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		var before, now time.Time
		if err := c.QueryRow(ctx, `SELECT pg_conf_load_time() FROM (SELECT pg_reload_conf()) r`).Scan(&before); err != nil {
			return fmt.Errorf("reload PostgreSQL's configuration: %w", err)
		}
		for {
			if err := c.QueryRow(ctx, `SELECT pg_conf_load_time()`).Scan(&now); err != nil {
				return fmt.Errorf("wait until PostgreSQL has reloaded its configuration: %w", err)
			}
			if now.After(before) {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait until PostgreSQL has reloaded its configuration: %w", ctx.Err())
			case <-time.After(reloadPoll):
			}
		}
	})
}
