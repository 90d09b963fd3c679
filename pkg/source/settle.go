package source

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstRetry of a file that is being written; doubles up to lastRetry.
	// Most writers are done within the first few milliseconds.
	firstRetry = 5 * time.Millisecond
	lastRetry  = 200 * time.Millisecond
	// quietTime that a file must stay unchanged where leases cannot tell.
	quietTime = 300 * time.Millisecond
)

// writerState is what a lease tells about a file.
type writerState int

const (
	noWriter writerState = iota
	hasWriter
	cannotTell
)

// probeWriters asks the kernel whether anybody has the file open for writing:
// it grants a read lease only when nobody has. The lease is given back at
// once, so that it never delays a writer.
func probeWriters(fd int) (writerState, error) {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return noWriter, err
	case errors.Is(err, unix.EAGAIN):
		return hasWriter, nil
	}
	// EINVAL, ENOLCK, EOPNOTSUPP: the file system has no leases.
	// EACCES: neither its owner nor CAP_LEASE.
	return cannotTell, nil
}

// wait is what is remembered of an unsettled file.
type wait struct {
	key   fileKey
	since time.Time     // when key was first seen
	delay time.Duration // the last one asked for
	next  time.Time     // when it ends
}

// unsettled returns 0 when the file may be read, else when to look again.
func (s *scan) unsettled(name string, fd int, key fileKey) time.Duration {
	state, err := s.d.probe(fd)
	switch {
	case err != nil || state == hasWriter:
		return s.postpone(name, key)
	case state == noWriter:
		return 0
	}
	left := quietTime - s.d.now().Sub(s.since(name, key))
	if left <= 0 {
		return 0
	}
	s.remember(name, key)
	return left
}

// since returns when the file was first seen with this key.
func (s *scan) since(name string, key fileKey) time.Time {
	if c := s.d.cache[name]; c != nil && c.key == key {
		return c.since
	}
	if w := s.d.pending[name]; w != nil && w.key == key {
		return w.since
	}
	return s.d.now()
}

func (s *scan) remember(name string, key fileKey) *wait {
	w := s.d.pending[name]
	if w == nil {
		w = &wait{}
		s.d.pending[name] = w
	}
	if w.key != key || w.since.IsZero() {
		w.key, w.since = key, s.d.now()
	}
	return w
}

// postpone returns when to look again: 5, 10, 20 … 200 ms. Looks in between,
// which events cause, neither lengthen nor restart the wait.
func (s *scan) postpone(name string, key fileKey) time.Duration {
	w, now := s.remember(name, key), s.d.now()
	if left := w.next.Sub(now); left > 0 {
		return left
	}
	w.delay = min(max(2*w.delay, firstRetry), lastRetry)
	w.next = now.Add(w.delay)
	return w.delay
}
