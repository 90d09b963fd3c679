package database

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// A cluster that no object needs rests: its data stays where something in it is
// retained, and neither process nor configuration is there.

// restingFile lists what is retained in a cluster at rest, so that it can be
// listed without a start.
const restingFile = "resting.json"

// holdService lets one at a time make, end or borrow the server.
func (d *Driver) holdService(ctx context.Context) (release func(), err error) {
	select {
	case d.service <- struct{}{}:
		return func() { <-d.service }, nil
	case <-ctx.Done():
		return nil, resource.Waiting("PostgresBusy", retrySoon, errors.New("retained data of PostgreSQL is being restored or deleted; it goes on after that"))
	}
}

// awake runs work while the server is up. One at rest is started for it, for
// nobody but us, and goes back to rest. Should we die in between, what is left
// is a cluster that nobody wants, and is ended as such.
func (d *Driver) awake(ctx context.Context, work func() error) (err error) {
	if d.opts.System != nil {
		return work()
	}
	release, err := d.holdService(ctx)
	if err != nil {
		return err
	}
	if d.clusterExists() {
		release() // the objects' own: where the last one goes meanwhile, the work fails, and can be repeated
		return work()
	}
	defer release()
	if err = d.startOffline(ctx); err == nil {
		err = work()
	}
	// Also when the caller has gone.
	resting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopTimeout)
	defer cancel()
	return errors.Join(err, d.deleteCluster(resting))
}

// startOffline starts the server without any address.
func (d *Driver) startOffline(ctx context.Context) error {
	u, bin, _, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	return d.start(ctx, u, bin, resource.Cluster{Listen: netip.AddrPortFrom(netip.Addr{}, 5432), MaxConnections: 20}, offlinePatience)
}

// noteResting writes down what is retained, before the server goes to rest.
func (d *Driver) noteResting(ctx context.Context) error {
	items, err := d.listRetained(ctx)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(items, "", "  ")
	if err != nil {
		return err
	}
	return host.WriteFile(filepath.Join(d.dir, restingFile), append(b, '\n'), 0o600)
}

// resting is what is retained in a cluster at rest.
func (d *Driver) resting() (items []Item, err error) {
	b, err := os.ReadFile(filepath.Join(d.dir, restingFile))
	if errors.Is(err, fs.ErrNotExist) || !exists(d.dataDir()) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &items)
	}
	if err != nil {
		return nil, fmt.Errorf("list what is retained in PostgreSQL: %w", err)
	}
	return items, nil
}
