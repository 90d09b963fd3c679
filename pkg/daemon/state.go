package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/host"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/machine/hostkey"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/secret"
)

// lockPatience is how long the lock is waited for: a daemon that was killed while
// it started a program leaves it to the child, until that has become the program.
const lockPatience = 2 * time.Second

// takeState locks the state directory and opens what is durable in it.
func (d *Daemon) takeState() error {
	// 0711: an unprivileged Caddy or PostgreSQL must reach its own directory below, but list nothing.
	for _, dir := range []string{d.layout.State, d.layout.Run, d.layout.Service("")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	d.lock = flock.New(d.layout.Lock())
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	locked, err := d.lock.TryLockContext(ctx, lockPatience/100)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("lock %s: %w", d.layout.Lock(), err)
	}
	if !locked {
		return fmt.Errorf("another tektond runs on %s (it holds %s); stop it, or give this one another --state-dir and instance", d.layout.State, d.layout.Lock())
	}
	if _, err := os.Lstat(d.layout.Restoring()); err == nil {
		return fmt.Errorf("%s is there: a backup is being put back, or that was cut short; let `tekton backup restore` with that backup come to its end first", d.layout.Restoring())
	}
	if err := host.Tidy(d.layout); err != nil {
		return fmt.Errorf("tidy the state directory up: %w", err)
	}
	if d.id, err = host.LoadOrCreateInstallation(d.layout); err != nil {
		return err
	}
	if d.ledger, err = ledger.Open(d.layout.Ledger(), ledger.Options{}); err != nil {
		return err
	}
	key, err := secret.LoadOrCreateKey(d.layout)
	if err != nil {
		return err
	}
	d.secrets, err = secret.Open(d.layout.Secrets, key)
	return err
}

// hostKeys returns the public halves of the host keys that machines derive. It
// remembers them: every pass asks for all.
func hostKeys(l host.Layout) (func(name string) string, error) {
	secret, err := os.ReadFile(l.Key())
	if err != nil {
		return nil, fmt.Errorf("read what host keys are derived from: %w", err)
	}
	var known sync.Map
	return func(name string) string {
		public, found := known.Load(name)
		if !found {
			public = hostkey.Derive(secret, name).Public()
			known.Store(name, public)
		}
		return public.(string)
	}, nil
}

// recordSysctl keeps a setting's original in the ledger before it is changed.
func (d *Daemon) recordSysctl(key, original string) error {
	c := resource.Claim{Key: compile.SysctlKey(key), Owner: resource.HostOwner, Value: compile.SysctlValue(original)}
	err := d.ledger.Commit(context.Background(), []ledger.Op{ledger.Claim(c)})[0]
	if err != nil && d.sysctlOriginals()[key] != "" {
		return nil // recorded before; the first value counts
	}
	return err
}

func (d *Daemon) sysctlOriginals() map[string]string {
	entries, _, err := d.ledger.List(context.Background())
	if err != nil {
		return nil
	}
	return compile.SysctlOriginals(entries)
}

// loadMissing and saveMissing keep the objects that a source holds over a
// restart of the daemon.
func (d *Daemon) loadMissing() (absence.State, error) {
	var s absence.State
	raw, err := os.ReadFile(d.layout.Missing())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("%s cannot be read: %w; remove it to forget which deletions are held", d.layout.Missing(), err)
	}
	return s, nil
}

func (d *Daemon) saveMissing(s absence.State) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return host.WriteFile(d.layout.Missing(), raw, 0o600)
}
