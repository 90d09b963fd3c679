package supervise

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
)

const (
	// defaultStopTimeout is that of a spec without one.
	defaultStopTimeout = 10 * time.Second
	// clearTimeout bounds the killing of what was left by a killed supervisor.
	clearTimeout = 10 * time.Second
	// errorLines of the log enter the error of a start.
	errorLines = 10
)

// Start runs s in dir and returns once it runs: with Spec.Leader the leader is
// known, with Spec.Notify the process has said READY=1. When it ends before
// that, the error carries the last lines of its log. When dir has a running
// process already, nothing is started and its status is returned, after the
// same wait. When ctx ends first, the process is left as it is; call again.
//
// Version and Boot of s are filled in. What a killed supervisor left running
// is killed first.
func (m *Manager) Start(ctx context.Context, dir string, s Spec) (Status, error) {
	status, err := m.start(ctx, dir, s)
	if err != nil {
		return status, fmt.Errorf("start %s: %w", s.Unit, withDisk(err, dir))
	}
	return status, nil
}

func (m *Manager) start(ctx context.Context, dir string, s Spec) (Status, error) {
	if err := check(s); err != nil {
		return Status{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Status{}, err
	}
	changed, cancel, err := m.events.subscribe(dir)
	if err != nil {
		return Status{}, err
	}
	defer cancel()
	from := logEnd(dir)
	boot, failed, err := m.begin(ctx, dir, s, changed)
	if err != nil {
		return Status{}, err
	}
	// No lock is held any more: a process that never gets ready can be stopped.
	s.Boot = boot
	return m.await(ctx, dir, s, changed, failed, from)
}

// begin launches a supervisor unless one runs, and returns the id of the run.
func (m *Manager) begin(ctx context.Context, dir string, s Spec, changed <-chan struct{}) (boot string, failed <-chan error, err error) {
	unlock, err := m.busy.lock(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	status, found, err := m.Status(dir)
	if err != nil {
		return "", nil, err
	}
	if found && status.Running {
		return status.Boot, nil, nil
	}
	if err := m.free(ctx, dir, s, changed); err != nil {
		return "", nil, err
	}
	s.Version, s.Boot = Version, rand.Text()
	if s.StopTimeout == 0 {
		s.StopTimeout = defaultStopTimeout
	}
	if err := writeSpec(dir, s); err != nil {
		return "", nil, err
	}
	m.seen.Delete(dir) // not before: it knows since when the run before is lost
	failed, err = m.form.launch(ctx, dir, s)
	return s.Boot, failed, err
}

func check(s Spec) error {
	switch {
	case len(s.Argv) == 0 || !filepath.IsAbs(s.Argv[0]):
		return fmt.Errorf("argv %q does not begin with an absolute path", s.Argv)
	case s.Unit == "" || strings.ContainsAny(s.Unit, "/ ") || strings.HasPrefix(s.Unit, "."):
		return fmt.Errorf("unit name %q is not a plain file name", s.Unit)
	case s.Mark == "":
		return errors.New("spec has no mark")
	}
	return nil
}

// free makes dir and unit ready for a new run.
func (m *Manager) free(ctx context.Context, dir string, s Spec, changed <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, clearTimeout)
	defer cancel()
	// A supervisor whose process has ended leaves by itself in a moment.
	if err := awaitUnlock(ctx, dir, changed); err != nil {
		return fmt.Errorf("the supervisor of the run before does not end: %w", err)
	}
	if err := m.form.clear(ctx, s.Unit, s.Mark); err != nil {
		return err
	}
	if _, _, err := m.readStatus(dir); damaged(err) {
		return os.Remove(filepath.Join(dir, StatusFile))
	}
	return nil
}

// withDisk adds that the disk is full, and where, to an error that does not know
// it: of a supervisor that could not even write why it ended.
func withDisk(err error, dir string) error {
	if errors.Is(err, unix.ENOSPC) { // of this process's own files: with their paths
		return err
	}
	full := host.Full(dir)
	if full == nil && strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		full = &fs.PathError{Op: "write to", Path: dir, Err: unix.ENOSPC}
	}
	if full != nil {
		return fmt.Errorf("%w; %w", err, full)
	}
	return err
}

// await waits until the run is as far as s wants it.
func (m *Manager) await(ctx context.Context, dir string, s Spec, changed <-chan struct{}, failed <-chan error, from int64) (Status, error) {
	var failure error
	for {
		status, found, err := m.Status(dir)
		if err != nil {
			return Status{}, err
		}
		if found && status.Boot == s.Boot {
			if !status.Running {
				return status, ended(dir, status, from)
			}
			if (!s.Leader || status.Leader > 0) && (!s.Notify || status.Ready) {
				return status, nil
			}
		}
		if failure != nil {
			return Status{}, withLog(failure, dir, from)
		}
		if spec, found, err := m.ReadSpec(dir); err != nil || !found || spec.Boot != s.Boot {
			return Status{}, errors.Join(errors.New("it was stopped meanwhile"), err)
		}
		select {
		case <-changed:
		case failure = <-failed:
			// The status is read once more: it knows better why.
			failed = nil
		case <-ctx.Done():
			return status, withLog(fmt.Errorf("not ready yet: %w", ctx.Err()), dir, from)
		}
	}
}

// ended is the error of a run that ended before it was ready.
func ended(dir string, s Status, from int64) error {
	if s.Err != "" {
		return errors.New(s.Err)
	}
	return withLog(fmt.Errorf("ended with code %d before it was ready", s.ExitCode), dir, from)
}

// withLog adds the last lines of the log since from.
func withLog(err error, dir string, from int64) error {
	lines := tail(dir, errorLines, from)
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w; its log ends: %s", err, strings.Join(lines, " | "))
}

// awaitUnlock waits until no supervisor holds dir.
func awaitUnlock(ctx context.Context, dir string, changed <-chan struct{}) error {
	for {
		held, err := lockHeld(dir)
		if err != nil || !held {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
