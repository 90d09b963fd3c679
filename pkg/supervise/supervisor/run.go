package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/cgroup"
	"tekton.host/pkg/supervise/contract"
)

const (
	// logGrace is how long the log waits for the last lines when somebody
	// outside the process's group keeps its pipe open.
	logGrace = time.Second
	// retryWrite is the pause after a status that could not be written.
	retryWrite = time.Second
)

// supervisor is the state of one run; only the goroutine of run touches it.
type supervisor struct {
	spec   contract.Spec
	status contract.Status
	unit   cgroup.Group
	main   cgroup.Group
	log    *boundedLog
	notify *net.UnixConn
	// address of notify, for the process's environment.
	address string

	exited  bool // the process itself, not yet what it left
	logDone chan struct{}
	kill    *time.Timer // runs while a stop waits for the process
	told    bool        // a status that says it is up was written
	retry   *time.Timer // runs while a status is to be written
}

// Run supervises the process of dir until it has ended. An error is one of
// supervision; how the process ended is in the status.
func Run(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	held, err := lock()
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer held.Close()
	spec, err := readSpec()
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	syscall.Umask(0o022)
	s := &supervisor{spec: spec, logDone: make(chan struct{}), kill: stopped(), retry: stopped()}
	s.status = contract.Status{
		Version: contract.Version, Name: spec.Name, Unit: spec.Unit, Mark: spec.Mark, Boot: spec.Boot,
		Supervisor: os.Getpid(), HostBoot: contract.HostBoot(), Generation: spec.Generation, Failures: spec.Failures,
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGCHLD)
	if err := s.start(); err != nil {
		s.status.Err = err.Error()
		s.status.ExitCode = codeOf(err)
		return errors.Join(err, s.ended())
	}
	return s.loop(signals)
}

// start prepares everything, then runs the process.
func (s *supervisor) start() error {
	if err := s.groups(); err != nil {
		return err
	}
	s.status.LimitsUnenforced = s.unit.Limit(s.spec.Limits)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of what the process leaves: %w", err)
	}
	var err error
	if s.log, err = openLog(s.spec.LogMax); err != nil {
		return err
	}
	if s.spec.Leader || s.spec.Notify {
		if s.notify, s.address, err = listenNotify(s.spec.Boot); err != nil {
			return fmt.Errorf("listen for notifications: %w", err)
		}
	}
	return s.spawn()
}

// groups finds the unit's group and makes the process's. Under systemd this
// process is in the unit's group itself and has to leave it before controllers
// can be handed down; without any there is no need for that move.
func (s *supervisor) groups() error {
	host, err := cgroup.Find()
	if err != nil {
		return err
	}
	self, err := host.Self()
	if err != nil {
		return err
	}
	s.unit = self
	if self.Name() == cgroup.Own {
		s.unit = host.Group(filepath.Dir(self.Path()))
	} else if len(self.Available()) > 0 {
		own := s.unit.Child(cgroup.Own)
		if err := own.Create(); err != nil {
			return err
		}
		if err := own.Join(); err != nil {
			return fmt.Errorf("move into cgroup %s: %w", own.Path(), err)
		}
	}
	s.main = s.unit.Child(cgroup.Main)
	if err := s.main.Create(); err != nil {
		return err
	}
	s.unit.Enable(s.unit.Available())
	return nil
}

// loop owns the state until the process and all of its kind are gone.
func (s *supervisor) loop(signals <-chan os.Signal) error {
	control, err := listenControl()
	if err != nil {
		// Signals still reach us, so the process can be stopped.
		fmt.Fprintln(os.Stderr, "tekton-supervise: control socket:", err)
	} else {
		defer os.Remove(contract.ControlFile)
	}
	calls, notes := make(chan call), make(chan note)
	if control != nil {
		go serveControl(control, calls)
	}
	if s.notify != nil {
		go readNotes(s.notify, notes)
	}
	if err = s.write(); err == nil {
		tellSystemd() // who started us reads the status from now on
	}
	for err == nil {
		select {
		case sig := <-signals:
			if sig == unix.SIGCHLD {
				if s.reap() {
					return s.ended()
				}
				continue
			}
			s.stop(0)
			err = s.write()
		case n := <-notes:
			err = s.note(n)
		case c := <-calls:
			c.reply <- s.handle(c.Request)
		case <-s.kill.C:
			err = s.main.Kill()
		case <-s.retry.C:
			err = s.write()
		}
	}
	err = fmt.Errorf("supervision ends, the process with it: %w", err)
	s.status.Err = err.Error()
	return errors.Join(err, s.ended())
}

// ended leaves nothing running and writes how the process ended.
func (s *supervisor) ended() error {
	var err error
	if s.main.Path() != "" {
		err = s.main.KillAll(context.Background())
		for s.reapOne() {
		}
		err = errors.Join(err, s.main.Remove(context.Background()))
	}
	if s.status.PID != 0 {
		select {
		case <-s.logDone:
		case <-time.After(logGrace):
		}
	}
	s.status.ExitedAt = time.Now()
	return errors.Join(err, writeStatus(s.status))
}

func (s *supervisor) note(n note) error {
	if n.sender != s.status.PID || !n.ready && n.leader == 0 {
		return nil
	}
	before := s.status
	if n.leader > 0 {
		s.status.Leader = n.leader
	}
	s.status.Ready = s.status.Ready || n.ready
	if s.status == before { // a service says READY=1 after each reload
		return nil
	}
	return s.write()
}

// write writes the status. Who waits for the process to be up has to learn that
// it cannot be written; afterwards a full disk ends nothing that runs.
func (s *supervisor) write() error {
	err := writeStatus(s.status)
	if err == nil {
		s.told = s.told || (!s.spec.Leader || s.status.Leader > 0) && (!s.spec.Notify || s.status.Ready)
		return nil
	}
	if !s.told {
		return err
	}
	s.retry.Reset(retryWrite)
	return nil
}

func (s *supervisor) handle(r contract.Request) contract.Response {
	var err error
	switch r.Op {
	case contract.OpStatus:
	case contract.OpStop:
		s.stop(r.Timeout)
		err = s.write()
	case contract.OpKill:
		s.status.Stopped = true
		err = errors.Join(s.write(), s.main.Kill())
	case contract.OpSignal:
		err = unix.Kill(s.status.PID, unix.Signal(r.Signal))
	case contract.OpLimits:
		if r.Limits != nil {
			s.status.LimitsUnenforced = s.unit.Limit(*r.Limits)
			err = s.write()
		}
	default:
		err = fmt.Errorf("unknown operation %q", r.Op)
	}
	response := contract.Response{Status: s.status}
	if err != nil {
		response.Err = err.Error()
	}
	return response
}

// stop asks the process to end and sets the time when it is killed.
func (s *supervisor) stop(timeout time.Duration) {
	sig := unix.Signal(s.spec.StopSignal)
	if sig == 0 {
		sig = unix.SIGTERM
	}
	if timeout == 0 {
		timeout = s.spec.StopTimeout
	}
	s.status.Stopped = true
	_ = unix.Kill(s.status.PID, sig)
	s.kill.Reset(timeout)
}

// stopped returns a timer that is not running.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}
