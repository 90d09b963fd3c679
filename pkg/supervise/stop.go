package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/contract"
)

const (
	// answerTimeout bounds how long a supervisor takes to answer a request.
	answerTimeout = 2 * time.Second
	// killGrace is what a supervisor gets to clean up after a kill before it
	// is killed itself.
	killGrace = 2 * time.Second
)

// ErrNotRunning says that a directory has no running process.
var ErrNotRunning = errors.New("not running")

// Stop ends what runs in dir: stop signal, after timeout (0: that of the spec)
// SIGKILL to all of it. When it returns nil all processes and the cgroup are
// gone, and dir has no status any more; the log stays. Gone already is success.
func (m *Manager) Stop(ctx context.Context, dir string, timeout time.Duration) error {
	unlock, err := m.busy.lock(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	s, found, err := m.ReadSpec(dir)
	if damaged(err) {
		s, err = m.specOfStatus(dir)
	} else if err == nil && !found {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", dir, err)
	}
	if timeout == 0 {
		timeout = s.StopTimeout
	}
	if err := m.stopSupervisor(ctx, dir, timeout); err != nil {
		return fmt.Errorf("stop %s: %w", s.Unit, err)
	}
	if s.Unit != "" {
		clearing, cancel := context.WithTimeout(ctx, clearTimeout)
		defer cancel()
		if err := m.form.clear(clearing, s.Unit, s.Mark); err != nil {
			return fmt.Errorf("stop %s: %w", s.Unit, err)
		}
	}
	m.seen.Delete(dir)
	// The spec goes last: with it a stop that was cut short can be repeated.
	for _, name := range []string{ControlFile, StatusFile, SpecFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("stop %s: %w", s.Unit, err)
		}
	}
	return nil
}

// specOfStatus is what a stop needs of a damaged spec, as far as the status
// has it: without that, too, nothing can be left of the run.
func (m *Manager) specOfStatus(dir string) (Spec, error) {
	s, _, err := m.Status(dir)
	return Spec{Unit: s.Unit, Mark: s.Mark, StopTimeout: defaultStopTimeout}, err
}

// stopSupervisor asks the supervisor to stop its process and waits until it is
// gone. One that does not manage is left to clear, which kills everything.
func (m *Manager) stopSupervisor(ctx context.Context, dir string, timeout time.Duration) error {
	if held, err := lockHeld(dir); err != nil || !held {
		return err
	}
	changed, cancel, err := m.events.subscribe(dir)
	if err != nil {
		return err
	}
	defer cancel()
	waiting, done := context.WithTimeout(ctx, timeout+killGrace)
	defer done()
	if err = m.askToStop(waiting, dir, timeout, changed); err == nil {
		err = awaitUnlock(waiting, dir, changed)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	return err
}

// askToStop asks by the control socket, or else by a signal, which means the
// same with the timeout of the spec.
func (m *Manager) askToStop(ctx context.Context, dir string, timeout time.Duration, changed <-chan struct{}) error {
	for {
		if _, err := call(ctx, dir, contract.Request{Op: contract.OpStop, Timeout: timeout}); err == nil {
			return nil
		}
		status, found, err := m.Status(dir)
		if err != nil {
			return err
		}
		if found && status.Running {
			_ = unix.Kill(status.Supervisor, unix.SIGTERM)
			return nil
		}
		if held, err := lockHeld(dir); err != nil || !held || found {
			return err
		}
		// It has just begun and will have a status, and a socket, in a moment.
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// SetLimits changes the limits of what runs in dir, and in its spec.
func (m *Manager) SetLimits(ctx context.Context, dir string, l Limits) error {
	unlock, err := m.busy.lock(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	s, found, err := m.ReadSpec(dir)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("set limits of %s: %w", dir, ErrNotRunning)
	}
	if err := m.form.setLimits(ctx, s.Unit, l); err != nil {
		return fmt.Errorf("set limits of %s: %w", s.Unit, err)
	}
	if _, err := call(ctx, dir, contract.Request{Op: contract.OpLimits, Limits: &l}); err != nil {
		return fmt.Errorf("set limits of %s: %w", s.Unit, err)
	}
	s.Limits = l
	return writeSpec(dir, s)
}

// Signal sends sig to the process in dir (with Spec.Leader: to systemd-nspawn).
func (m *Manager) Signal(ctx context.Context, dir string, sig syscall.Signal) error {
	_, err := call(ctx, dir, contract.Request{Op: contract.OpSignal, Signal: int(sig)})
	if err != nil {
		return fmt.Errorf("send %v to the process of %s: %w", sig, dir, err)
	}
	return nil
}

// call asks the supervisor of dir.
func call(ctx context.Context, dir string, r contract.Request) (contract.Response, error) {
	var response contract.Response
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := dial(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return response, ErrNotRunning
	}
	if err != nil {
		return response, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return response, err
	}
	if err := json.NewDecoder(conn).Decode(&response); err != nil {
		return response, fmt.Errorf("the supervisor does not answer %q: %w", r.Op, err)
	}
	if response.Err != "" {
		return response, fmt.Errorf("the supervisor refuses %q: %s", r.Op, response.Err)
	}
	return response, nil
}

// dial goes through the open directory, because the address of a unix socket
// has room for 107 bytes only.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), ControlFile))
}
