package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
)

// Where Nix keeps things. Its garbage collector holds the lock exclusively from
// before it looks for roots until it has deleted.
const (
	storeDir = "/nix/store"
	rootsDir = "/nix/var/nix/gcroots"
	gcLock   = "/nix/var/nix/gc.lock"
)

// Roots keeps store paths from Nix's garbage collector: a directory of symbolic
// links. Everything in it is ours.
type Roots struct{ dir string }

// NewRoots returns the roots of an installation.
func NewRoots(installation string) Roots {
	return Roots{filepath.Join(rootsDir, "tekton-"+installation)}
}

// Put keeps path, also one that is yet to be built, and returns when no running
// garbage collection can have missed it. Which path the name kept before does
// not matter; path is then kept in its stead.
func (r Roots) Put(ctx context.Context, name, path string) error {
	if dir, base := filepath.Split(path); dir != storeDir+"/" || base == "" || strings.HasPrefix(base, ".") {
		return fmt.Errorf("%q is not %s/NAME", path, storeDir)
	}
	return r.put(ctx, name, path)
}

// PutLink keeps what a link outside of the store leads to at the time of a
// collection; it need not be there yet.
func (r Roots) PutLink(ctx context.Context, name, link string) error {
	if !filepath.IsAbs(link) {
		return fmt.Errorf("%q is no absolute path", link)
	}
	return r.put(ctx, name, link)
}

func (r Roots) put(ctx context.Context, name, path string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".new") || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("GC root %q is not a plain file name", name)
	}
	link := filepath.Join(r.dir, name)
	if now, err := os.Readlink(link); err == nil && now == path {
		return awaitCollector(ctx) // the Put that made it may not have waited to the end
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("keep %s from the garbage collector: %w", path, err)
	}
	// Replaced in one step: what is kept stays kept at every moment.
	next := link + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(path, next); err != nil {
		return err
	}
	if err := os.Rename(next, link); err != nil {
		return err
	}
	if err := host.SyncDir(r.dir); err != nil {
		return err
	}
	return awaitCollector(ctx)
}

// collectorPoll is how often the collector's lock is tried.
const collectorPoll = 100 * time.Millisecond

// awaitCollector returns when the collector that may run has ended. One that
// begins later sees the roots that are there now.
func awaitCollector(ctx context.Context) error {
	// Read-only: a confined daemon sees Nix's state so.
	f, err := os.OpenFile(gcLock, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the garbage collector's lock: %w", err)
	}
	defer f.Close() // gives the lock back
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", gcLock, err)
		}
		select {
		case <-time.After(collectorPoll):
		case <-ctx.Done():
			return fmt.Errorf("wait for the garbage collection under way: %w", ctx.Err())
		}
	}
}

// List returns the kept paths by name.
func (r Roots) List() (map[string]string, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list GC roots: %w", err)
	}
	out := make(map[string]string, len(entries))
	for _, e := range entries {
		path, err := os.Readlink(filepath.Join(r.dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list GC roots: %w", err)
		}
		out[e.Name()] = path
	}
	return out, nil
}

// Remove lets the next garbage collection take what the name keeps. With the
// last one the directory goes. Gone already is success.
func (r Roots) Remove(name string) error {
	if name != filepath.Base(name) {
		return fmt.Errorf("GC root %q is not a plain file name", name)
	}
	for _, link := range []string{name, name + ".new"} {
		if err := os.Remove(filepath.Join(r.dir, link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove GC root: %w", err)
		}
	}
	if err := unix.Rmdir(r.dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "rmdir", Path: r.dir, Err: err}
	}
	return nil
}
