package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/contract"
)

// errLocked says that another supervisor has the directory.
var errLocked = errors.New("another supervisor holds the lock")

// lock takes the directory's lock for the life of this process. An open file
// description lock, because readers can test one without taking it, even for
// a moment, in our way.
func lock() (*os.File, error) {
	f, err := os.OpenFile(contract.LockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

func readSpec() (contract.Spec, error) {
	var s contract.Spec
	b, err := os.ReadFile(contract.SpecFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", contract.SpecFile, err)
	}
	switch {
	case s.Version > contract.Version:
		return s, fmt.Errorf("%s has version %d, this supervisor knows up to %d; install the supervisor of the daemon's version", contract.SpecFile, s.Version, contract.Version)
	case len(s.Argv) == 0:
		return s, fmt.Errorf("%s names no program", contract.SpecFile)
	}
	return s, nil
}

// writeStatus replaces the status; readers see the old one or the new one. Only
// that a process has ended by itself is made durable: after a power cut one that
// ran is gone as well, and nobody may start again what was done.
func writeStatus(s contract.Status) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	const temporary = contract.StatusFile + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		dir, _ := os.Getwd()
		return fmt.Errorf("%s: %w", dir, err) // a person has to know which disk is full
	}
	if s.ExitedAt.IsZero() || s.Stopped {
		return os.Rename(temporary, contract.StatusFile)
	}
	return errors.Join(sync(temporary), os.Rename(temporary, contract.StatusFile), sync("."))
}

// sync makes a file, or the names in a directory, durable.
func sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
