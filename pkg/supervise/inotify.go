package supervise

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's queue is used directly, not through fsnotify: that watches for
// every write too, and each line that a machine logs would wake the daemon.
const (
	// runEvents are a replaced status and a lock that is let go, also by a kill.
	runEvents = unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE | unix.IN_ONLYDIR
	// childEvents are children of a directory that come and go.
	childEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_ONLYDIR
	// settleTries and settlePause bound the wait for a lock that is being let
	// go: the kernel reports the close a moment before it drops the lock.
	settleTries = 20
	settlePause = time.Millisecond
)

// event is one report of the kernel.
type event struct {
	wd   int32
	mask uint32
	name string
}

// inotify is one queue of the kernel.
type inotify struct{ file *os.File }

func newInotify() (inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return inotify{}, fmt.Errorf("watch for changes (see fs.inotify.max_user_instances): %w", err)
	}
	return inotify{os.NewFile(uintptr(fd), "inotify")}, nil
}

func (n inotify) add(path string, mask uint32) (wd int32, err error) {
	err = n.control(func(fd int) error {
		w, err := unix.InotifyAddWatch(fd, path, mask)
		wd = int32(w)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("watch %s (see fs.inotify.max_user_watches): %w", path, err)
	}
	return wd, nil
}

func (n inotify) remove(wd int32) {
	_ = n.control(func(fd int) error {
		_, err := unix.InotifyRmWatch(fd, uint32(wd))
		return err
	})
}

// control keeps the descriptor non-blocking, unlike File.Fd.
func (n inotify) control(f func(fd int) error) error {
	raw, err := n.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}

// read hands over events until the queue is closed.
func (n inotify) read(handle func(event)) error {
	buf := make([]byte, 16<<10)
	for {
		size, err := n.file.Read(buf)
		if err != nil {
			return err
		}
		for b := buf[:size]; len(b) >= unix.SizeofInotifyEvent; {
			length := int(binary.NativeEndian.Uint32(b[12:]))
			name := b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+length]
			handle(event{
				wd:   int32(binary.NativeEndian.Uint32(b)),
				mask: binary.NativeEndian.Uint32(b[4:]),
				name: string(bytes.TrimRight(name, "\x00")),
			})
			b = b[unix.SizeofInotifyEvent+length:]
		}
	}
}

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

func isStatus(e event) bool { return e.mask&unix.IN_MOVED_TO != 0 && e.name == StatusFile }
func isUnlock(e event) bool { return e.mask&unix.IN_CLOSE_WRITE != 0 && e.name == LockFile }

// settle waits until a lock that is being let go is free. That it still is
// held at the end only means that a new supervisor has it already.
func settle(dir string) {
	for range settleTries {
		if held, err := lockHeld(dir); err != nil || !held {
			return
		}
		time.Sleep(settlePause)
	}
}
