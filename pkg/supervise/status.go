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
)

// codeKilled is reported for a process that lost its supervisor: 128+SIGKILL.
const codeKilled = 137

// lostRun remembers when a run was first seen without its supervisor.
type lostRun struct {
	boot string
	at   time.Time
}

// Status reads dir; found is false when it has none. A process whose
// supervisor was killed reads as ended with code 137.
func (m *Manager) Status(dir string) (s Status, found bool, err error) {
	// The lock is tested first: a supervisor writes the end of its process
	// before it lets go, so a free lock makes the status final.
	held, err := lockHeld(dir)
	if err != nil {
		return Status{}, false, err
	}
	for {
		found, err = readJSON(dir, StatusFile, &s)
		if !found || err != nil {
			return Status{}, false, err
		}
		if s.Version < Version-1 || s.Version > Version {
			return Status{}, false, fmt.Errorf("%s: status has version %d, this daemon speaks %d and %d; run a daemon of the supervisor's version or end the process", dir, s.Version, Version-1, Version)
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
		s = Status{}
	}
	s.ExitCode, s.ExitedAt = codeKilled, m.lostAt(dir, s.Boot)
	return s, true, nil
}

// lostAt says when a run lost its supervisor, as far as this Manager has seen.
func (m *Manager) lostAt(dir, boot string) time.Time {
	now := lostRun{boot, time.Now()}
	if seen, ok := m.lost.LoadOrStore(dir, now); ok && seen.(lostRun).boot == boot {
		return seen.(lostRun).at
	}
	m.lost.Store(dir, now)
	return now.at
}

// ReadSpec returns the spec that dir was started with last.
func (m *Manager) ReadSpec(dir string) (s Spec, found bool, err error) {
	found, err = readJSON(dir, SpecFile, &s)
	return s, found, err
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

func readJSON(dir, name string, v any) (found bool, err error) {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
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
