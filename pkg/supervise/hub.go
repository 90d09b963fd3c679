package supervise

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// hub shares one queue among all waits of a Manager, since the kernel gives a
// user only 128.
type hub struct {
	mu     sync.Mutex
	queue  inotify
	open   bool
	dirs   map[int32]*watchedDir
	closed bool
}

type watchedDir struct {
	path    string
	waiters map[chan struct{}]bool
}

func newHub() *hub { return &hub{dirs: make(map[int32]*watchedDir)} }

// subscribe delivers on the channel when the status of dir was replaced or its
// lock let go. Deliveries that nobody has taken yet are one.
func (h *hub) subscribe(dir string) (changed <-chan struct{}, cancel func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, errors.New("the manager was closed")
	}
	if !h.open {
		if h.queue, err = newInotify(); err != nil {
			return nil, nil, err
		}
		h.open = true
		go h.queue.read(h.dispatch)
	}
	wd, err := h.queue.add(dir, runEvents)
	if err != nil {
		return nil, nil, err
	}
	d := h.dirs[wd]
	if d == nil {
		d = &watchedDir{dir, make(map[chan struct{}]bool)}
		h.dirs[wd] = d
	}
	ch := make(chan struct{}, 1)
	d.waiters[ch] = true
	return ch, func() { h.unsubscribe(wd, d, ch) }, nil
}

func (h *hub) unsubscribe(wd int32, d *watchedDir, ch chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(d.waiters, ch)
	if len(d.waiters) == 0 && h.dirs[wd] == d {
		delete(h.dirs, wd)
		h.queue.remove(wd)
	}
}

func (h *hub) dispatch(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.mask&unix.IN_Q_OVERFLOW != 0 {
		for _, d := range h.dirs {
			d.wake()
		}
		return
	}
	d := h.dirs[e.wd]
	switch {
	case d == nil:
	case e.mask&unix.IN_IGNORED != 0:
		delete(h.dirs, e.wd)
		d.wake()
	case isStatus(e):
		d.wake()
	case isUnlock(e):
		go func() {
			settle(d.path)
			h.mu.Lock()
			defer h.mu.Unlock()
			d.wake()
		}()
	}
}

func (d *watchedDir) wake() {
	for ch := range d.waiters {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open && !h.closed {
		h.queue.file.Close()
	}
	h.closed = true
}
