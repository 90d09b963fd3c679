package repository

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lock orders who works on a repository: many fetch at the same time, one alone
// makes it, removes locks and objects, or removes it.
type Lock struct{ f *os.File }

// OpenLock opens the lock of a repository, which lies beside it.
func OpenLock(dir string) (Lock, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return Lock{}, err
	}
	f, err := os.OpenFile(LockFile(dir), os.O_RDONLY|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return Lock{}, fmt.Errorf("open the repository's lock: %w", err)
	}
	return Lock{f}, nil
}

// LockFile is the lock's file.
func LockFile(dir string) string { return dir + ".lock" }

// Alone takes the lock for one alone, if nobody else has it. If somebody has,
// what was taken before is given back.
func (l Lock) Alone() bool { return l.take(unix.LOCK_EX|unix.LOCK_NB) == nil }

// Shared takes the lock with others. It waits for one alone.
func (l Lock) Shared() error { return l.take(unix.LOCK_SH) }

func (l Lock) take(how int) error {
	for {
		err := unix.Flock(int(l.f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Close gives the lock back.
func (l Lock) Close() { l.f.Close() }
