package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/contract"
)

// codeKilled is reported for a process that lost its supervisor: 128+SIGKILL.
const codeKilled = 137

// seen is the status of a directory as it was read last. It spares decoding:
// what is in the file is compared, not its times.
type seen struct {
	raw    string
	status Status
	lostAt time.Time // when it was first seen without a supervisor
}

// Status reads dir; found is false when it has none. A process whose
// supervisor was killed reads as ended with code 137: by itself, or, when the
// host has been down since, as one that was stopped.
func (m *Manager) Status(dir string) (s Status, found bool, err error) {
	// The lock is tested first: a supervisor writes the end of its process
	// before it lets go, so a free lock makes the status final.
	held, err := lockHeld(dir)
	if err != nil {
		return Status{}, false, err
	}
	for {
		s, found, err = m.readStatus(dir)
		if !held && damaged(err) {
			return Status{}, false, nil // what it told of went with the power
		}
		if !found || err != nil {
			return Status{}, false, err
		}
		if !s.ExitedAt.IsZero() {
			return s, true, nil
		}
		if held {
			s.Running = true
			return s, true, nil
		}
		// Free, but not ended: killed, or the supervisor began just now.
		if held, err = lockHeld(dir); err != nil {
			return Status{}, false, err
		}
		if !held {
			break
		}
	}
	s.ExitCode, s.ExitedAt = codeKilled, m.lostAt(dir)
	s.Stopped = s.Stopped || s.HostBoot != "" && s.HostBoot != contract.HostBoot()
	return s, true, nil
}

// damaged reports whether a file holds something other than what was written.
// A power cut leaves a new file empty or full of zeros when it was not synced,
// and neither spec nor status are: the process that they tell of is gone, too.
func damaged(err error) bool {
	_, found := errors.AsType[*json.SyntaxError](err)
	return found
}

// readStatus reads the file as it is.
func (m *Manager) readStatus(dir string) (Status, bool, error) {
	raw, found, err := readFile(dir, StatusFile)
	if !found || err != nil {
		return Status{}, false, err
	}
	if last, ok := m.seen.Load(dir); ok && last.(seen).raw == string(raw) {
		return last.(seen).status, true, nil
	}
	var s Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return Status{}, false, fmt.Errorf("read %s: %w", filepath.Join(dir, StatusFile), err)
	}
	if s.Version < Version-1 || s.Version > Version {
		return Status{}, false, fmt.Errorf("%s: status has version %d, this daemon speaks %d and %d; run a daemon of the supervisor's version or end the process", dir, s.Version, Version-1, Version)
	}
	m.seen.Store(dir, seen{raw: string(raw), status: s})
	return s, true, nil
}

// lostAt says when the run of dir lost its supervisor, as far as this Manager
// has seen.
func (m *Manager) lostAt(dir string) time.Time {
	value, ok := m.seen.Load(dir)
	if !ok {
		return time.Now()
	}
	last := value.(seen)
	if last.lostAt.IsZero() {
		last.lostAt = time.Now()
		m.seen.CompareAndSwap(dir, value, last)
	}
	return last.lostAt
}

// ReadSpec returns the spec that dir was started with last.
func (m *Manager) ReadSpec(dir string) (s Spec, found bool, err error) {
	raw, found, err := readFile(dir, SpecFile)
	if !found || err != nil {
		return Spec{}, false, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return Spec{}, false, fmt.Errorf("read %s: %w", filepath.Join(dir, SpecFile), err)
	}
	return s, true, nil
}

// lockHeld reports whether a supervisor lives, without taking its lock.
func lockHeld(dir string) (bool, error) {
	path := filepath.Join(dir, LockFile)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil {
		return false, &fs.PathError{Op: "test lock", Path: path, Err: err}
	}
	return l.Type != unix.F_UNLCK, nil
}

// readFile goes around package os, which would offer every file to the poller:
// a daemon reads all of its directories in every pass.
func readFile(dir, name string) (b []byte, found bool, err error) {
	path := filepath.Join(dir, name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, false, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		b = append(b, buf[:max(n, 0)]...)
		if err == nil && n < len(buf) {
			return b, true, nil
		}
	}
}

// writeSpec replaces the spec, which may hold secrets in its environment. It is
// not made durable: after a power cut the process is gone as well.
func writeSpec(dir string, s Spec) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, SpecFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
