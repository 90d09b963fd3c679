package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes of a process that could not be started, as shells have them.
const (
	codeNotFound      = 127
	codeNotExecutable = 126
)

// spawn starts the process in its own group and session, with a pipe as output.
func (s *supervisor) spawn() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	group, err := s.main.Open()
	if err != nil {
		return err
	}
	defer group.Close()
	env := slices.Clone(s.spec.Env)
	if s.address != "" {
		env = append(env, "NOTIFY_SOCKET="+s.address)
	}
	dir := s.spec.Dir
	if dir == "" {
		dir = "/"
	}
	s.status.StartedAt = time.Now()
	s.status.PID, err = syscall.ForkExec(s.spec.Argv[0], s.spec.Argv, &syscall.ProcAttr{
		Dir: dir, Env: env,
		Files: []uintptr{null.Fd(), write.Fd(), write.Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid: true, Credential: s.credential(), AmbientCaps: s.ambientCaps(),
			UseCgroupFD: true, CgroupFD: int(group.Fd()),
		},
	})
	if err != nil {
		s.status.PID = 0
		read.Close()
		return fmt.Errorf("start %s: %w", s.spec.Argv[0], err)
	}
	go func() {
		defer close(s.logDone)
		s.log.copyFrom(read)
	}()
	return nil
}

// credential is nil when the process keeps root.
func (s *supervisor) credential() *syscall.Credential {
	if s.spec.UID == 0 && s.spec.GID == 0 && len(s.spec.Groups) == 0 {
		return nil
	}
	return &syscall.Credential{Uid: s.spec.UID, Gid: s.spec.GID, Groups: s.spec.Groups}
}

func (s *supervisor) ambientCaps() []uintptr {
	var caps []uintptr
	for _, c := range s.spec.AmbientCaps {
		caps = append(caps, uintptr(c))
	}
	return caps
}

// reap collects whoever has died and reports whether the process itself has.
func (s *supervisor) reap() bool {
	for s.reapOne() {
	}
	return s.exited
}

// reapOne collects one dead child, ours or one that was left to us.
func (s *supervisor) reapOne() bool {
	var ws unix.WaitStatus
	pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
	if errors.Is(err, unix.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if pid == s.status.PID {
		s.exited = true
		s.status.ExitCode = ws.ExitStatus()
		if ws.Signaled() {
			s.status.ExitCode = 128 + int(ws.Signal())
		}
	}
	return true
}

func codeOf(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return codeNotFound
	}
	return codeNotExecutable
}
