package supervise

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
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
