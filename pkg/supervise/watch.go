package supervise

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Watch calls notify whenever a process in a child directory of parent starts,
// becomes ready, ends or loses its supervisor, and when children come or go,
// until ctx ends. Logging wakes nobody. It has the shape of resource.Driver's
// Watch.
func (m *Manager) Watch(ctx context.Context, parent string, notify func()) error {
	queue, err := newInotify()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { queue.file.Close() })()
	defer queue.file.Close()
	w := watch{queue: queue, parent: parent, dirs: make(map[int32]string), notify: notify}
	if w.top, err = queue.add(parent, childEvents); err != nil {
		return err
	}
	if err := w.rescan(); err != nil {
		return err
	}
	err = queue.read(func(e event) {
		if e := w.handle(e); e != nil {
			w.failed = e
			queue.file.Close()
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(w.failed, err)
}

// WatchProgress is Watch, and calls notify at intervals as well, while something
// is under way whose progress no event tells of.
func (m *Manager) WatchProgress(ctx context.Context, parent string, every time.Duration, underWay func() bool, notify func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if underWay() {
					notify()
				}
			}
		}
	}()
	return m.Watch(ctx, parent, notify)
}

type watch struct {
	queue  inotify
	parent string
	top    int32
	dirs   map[int32]string
	notify func()
	failed error
}

func (w *watch) handle(e event) error {
	switch {
	case e.mask&unix.IN_Q_OVERFLOW != 0:
		w.notify()
		return w.rescan()
	case e.wd == w.top && e.mask&unix.IN_IGNORED != 0:
		return &fs.PathError{Op: "watch", Path: w.parent, Err: fs.ErrNotExist}
	case e.wd == w.top && e.mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		w.notify()
		if e.mask&unix.IN_ISDIR != 0 {
			return w.add(e.name)
		}
	case e.wd == w.top:
		w.notify()
	case e.mask&unix.IN_IGNORED != 0:
		delete(w.dirs, e.wd)
	case isStatus(e):
		w.notify()
	case isUnlock(e):
		dir := w.dirs[e.wd]
		go func() {
			settle(dir)
			w.notify()
		}()
	}
	return nil
}

func (w *watch) rescan() error {
	entries, err := os.ReadDir(w.parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := w.add(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// add watches a child. What happened in it before is covered by a notification:
// that of the child's creation, or the first look of whoever began to watch.
func (w *watch) add(name string) error {
	path := filepath.Join(w.parent, name)
	wd, err := w.queue.add(path, runEvents)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	w.dirs[wd] = path
	if _, err := os.Stat(filepath.Join(path, StatusFile)); err == nil {
		w.notify()
	}
	return nil
}
