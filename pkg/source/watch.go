package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// PollInterval between looks that no event asked for: a directory on a
	// network file system sends none.
	PollInterval = 30 * time.Second
	// BlindInterval is the same while the directory cannot be watched.
	BlindInterval = 2 * time.Second
	// rearmDelay after an event, so that a burst looks for moved directories once.
	rearmDelay = 50 * time.Millisecond
	// armRounds bounds how often a plan is made again because the directories
	// moved while it was carried out.
	armRounds = 5
)

// watchError is why the directory is not watched now.
type watchError struct {
	mu  sync.Mutex
	err error
}

func (w *watchError) set(err error) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed = (err == nil) != (w.err == nil)
	w.err = err
	return changed
}

// WatchError says why events cannot be had, so that the directory is looked at
// only every BlindInterval; nil while they can or before Watch.
func (d *Directory) WatchError() error {
	d.watched.mu.Lock()
	defer d.watched.mu.Unlock()
	return d.watched.err
}

// Watch calls notify whenever the snapshot may have changed, until ctx ends.
// It polls by itself while events cannot be had, so its error is always nil.
// notify must not block.
func (d *Directory) Watch(ctx context.Context, notify func()) error {
	for {
		err := d.watch(ctx, notify)
		if ctx.Err() != nil {
			return nil
		}
		d.blind(err)
		notify()
		select {
		case <-ctx.Done():
		case <-time.After(d.blindEvery):
		}
	}
}

// blind notes whether the directory can be watched, and logs when that changes.
func (d *Directory) blind(err error) {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w; raise the sysctls fs.inotify.max_user_instances and fs.inotify.max_user_watches", err)
	}
	if !d.watched.set(err) {
		return
	}
	if err != nil {
		d.log.Info("directory cannot be watched, polling instead", "path", d.path, "every", d.blindEvery.String(), "why", err.Error())
	} else {
		d.log.Info("directory is watched again", "path", d.path)
	}
}

func (d *Directory) watch(ctx context.Context, notify func()) error {
	w, err := d.newWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	arms := &arms{watcher: w, path: d.path, armed: map[string]identity{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mounts := watchMounts(ctx)
	rearm, poll := time.NewTimer(0), time.NewTimer(d.pollEvery)
	defer rearm.Stop()
	defer poll.Stop()
	planned := true
	later := func() {
		if !planned {
			planned = true
			rearm.Reset(rearmDelay)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-w.Events:
			if !open {
				return errors.New("the watcher ended")
			}
			if arms.plan.wants(event.Name) {
				notify()
				later()
			}
		case err, open := <-w.Errors: // most likely an overflow (fs.inotify.max_queued_events): events were lost
			if !open {
				return errors.New("the watcher ended")
			}
			d.log.V(1).Info("events were lost; looking at everything", "path", d.path, "why", err.Error())
			notify()
			later()
		case <-mounts: // most likely elsewhere, but one that came and went leaves no other trace
			notify()
			later()
		case <-rearm.C:
			planned = false
			changed, err := arms.update()
			d.blind(err)
			if changed { // what came before the watch was seen by nobody
				notify()
			}
			poll.Reset(d.interval())
		case <-poll.C:
			later()
			notify()
			poll.Reset(d.interval())
		}
	}
}

func (d *Directory) interval() time.Duration {
	if d.WatchError() != nil {
		return d.blindEvery
	}
	return d.pollEvery
}

// identity tells a directory from the one that takes its place.
type identity struct{ dev, ino uint64 }

func identify(dir string) (identity, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return identity{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return identity{st.Dev, st.Ino}, nil
}

// arms keeps the kernel's watches as the plan says.
type arms struct {
	watcher *fsnotify.Watcher
	path    string
	plan    watchPlan
	armed   map[string]identity
}

// update plans anew and arms until the plan is stable. changed says that some
// directory is watched that was not before.
func (a *arms) update() (changed bool, err error) {
	for range armRounds {
		again, err := a.round()
		if err != nil {
			return changed, err
		}
		if !again {
			return changed, nil
		}
		changed = true
	}
	return changed, nil
}

func (a *arms) round() (changed bool, err error) {
	a.plan = planWatches(a.path)
	alive := map[string]bool{}
	for _, dir := range a.watcher.WatchList() {
		alive[dir] = true
	}
	for dir := range a.armed {
		if a.plan[dir] == nil || !alive[dir] {
			// Gone already is what we want; the kernel drops a watch with its directory.
			_ = a.watcher.Remove(dir)
			delete(a.armed, dir)
		}
	}
	var failed error
	for dir := range a.plan {
		id, err := identify(dir)
		if err != nil {
			continue // it went away since the plan: the next round sees that
		}
		if a.armed[dir] == id {
			continue
		}
		_ = a.watcher.Remove(dir) // it is another one now
		delete(a.armed, dir)
		if err := a.watcher.Add(dir); err != nil {
			failed = fmt.Errorf("watch %s: %w", dir, err)
			continue
		}
		a.armed[dir] = id
		changed = true
	}
	return changed, failed
}

// watchPlan says which directories to watch, and which names in them matter.
type watchPlan map[string]*interest

// interest in the entries of a directory.
type interest struct {
	all   bool
	names map[string]bool
}

// wants reports whether an event about this path matters.
func (p watchPlan) wants(path string) bool {
	if p[path] != nil {
		return true // the watched directory itself went away or changed its mode
	}
	in := p[filepath.Dir(path)]
	return in != nil && (in.all || in.names[filepath.Base(path)])
}

func (p watchPlan) in(dir string) *interest {
	if p[dir] == nil {
		p[dir] = &interest{names: map[string]bool{}}
	}
	return p[dir]
}

// planWatches: the directory, the place where it hangs, every place where a
// link on the way to it or to one of its files hangs, and where those files
// are. Of what does not exist: the nearest place where it could appear.
func planWatches(path string) watchPlan {
	p := watchPlan{}
	dir, ok := p.follow(path)
	if !ok {
		return p
	}
	p.in(dir).all = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink != 0 && SpecFile(e.Name()) {
			p.follow(filepath.Join(dir, e.Name()))
		}
	}
	return p
}

// follow walks to where a path leads, and adds each place on which that depends.
func (p watchPlan) follow(path string) (real string, ok bool) {
	const maxLinks = 40 // the kernel's own limit
	links := 0
	dir, rest := "/", components(path)
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			dir = filepath.Dir(dir)
			continue
		}
		full := filepath.Join(dir, name)
		info, err := os.Lstat(full)
		if err != nil {
			p.in(dir).names[name] = true
			return "", false
		}
		if info.Mode()&os.ModeSymlink == 0 {
			if len(rest) == 0 {
				p.in(dir).names[name] = true
			}
			dir = full
			continue
		}
		p.in(dir).names[name] = true
		target, err := os.Readlink(full)
		if links++; err != nil || links > maxLinks {
			return "", false
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(components(target), rest...)
	}
	return dir, true
}

// components of a path, without the empty ones and ".".
func components(path string) []string {
	var out []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			out = append(out, name)
		}
	}
	return out
}
