package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise/cgroup"
)

// supervised starts supervisors itself: in a session of their own, born in a
// cgroup of their own (parent/UNIT/supervise), never in the daemon's.
type supervised struct {
	program string
	parent  string
	log     logr.Logger
}

// groups returns the group that holds all units, and that of one.
func (l *supervised) groups(unit string) (parent, group cgroup.Group, err error) {
	host, err := cgroup.Find()
	if err != nil {
		return parent, group, err
	}
	parent = host.Group(l.parent)
	return parent, parent.Child(unit), nil
}

func (l *supervised) launch(_ context.Context, dir string, s Spec) (<-chan error, error) {
	_, group, err := l.groups(s.Unit)
	if err != nil {
		return nil, err
	}
	own := group.Child(cgroup.Own)
	// Marked before anything is in it: clear relies on that.
	if err := group.Create(); err != nil {
		return nil, err
	}
	if err := group.SetMark(s.Mark); err != nil {
		return nil, err
	}
	if err := own.Create(); err != nil {
		return nil, err
	}
	if err := l.handDown(s.Limits); err != nil {
		return nil, err
	}
	pid, pidfd, err := l.spawn(dir, own)
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	go func() {
		// Also the reaping: this process is the supervisor's parent.
		if err := reap(pid, pidfd); err != nil {
			failed <- err
		}
	}()
	return failed, nil
}

// handDown enables the controllers that the limits need, and no others: it is a
// change of the host's own root cgroup.
func (l *supervised) handDown(limits Limits) error {
	host, err := cgroup.Find()
	if err != nil {
		return err
	}
	if controllers := cgroup.Controllers(limits); len(controllers) > 0 {
		host.Group("/").Enable(controllers)
		host.Group(l.parent).Enable(controllers)
	}
	return nil
}

// spawn starts the supervisor and returns the process and a descriptor of it. What it
// has to say before it has opened the log goes there, too.
func (l *supervised) spawn(dir string, group cgroup.Group) (pid, pidfd int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(dir, LogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, 0, err
	}
	defer log.Close()
	cgroupDir, err := group.Open()
	if err != nil {
		return 0, 0, err
	}
	defer cgroupDir.Close()
	pid, err = syscall.ForkExec(l.program, []string{"tekton-supervise", dir}, &syscall.ProcAttr{
		Dir: "/", Env: []string{},
		Files: []uintptr{null.Fd(), null.Fd(), log.Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid: true, PidFD: &pidfd,
			UseCgroupFD: true, CgroupFD: int(cgroupDir.Fd()),
		},
	})
	if err != nil {
		return 0, 0, fmt.Errorf("start the supervisor %s: %w", l.program, err)
	}
	return pid, pidfd, nil
}

// reap waits for a supervisor's end and says how it failed, if it did. The
// descriptor waits in the runtime's poller, where a waiting call would keep a
// thread for every machine.
func reap(pid, pidfd int) error {
	_ = unix.SetNonblock(pidfd, true)
	f := os.NewFile(uintptr(pidfd), "pidfd")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ws unix.WaitStatus
	var waitErr error
	err = raw.Read(func(uintptr) bool {
		var got int
		got, waitErr = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		return got != 0 && !errors.Is(waitErr, unix.EINTR)
	})
	if err := errors.Join(err, waitErr); err != nil {
		return err
	}
	if ws.Exited() && ws.ExitStatus() == 0 {
		return nil
	}
	if ws.Signaled() {
		return fmt.Errorf("its supervisor was ended by %v", ws.Signal())
	}
	return fmt.Errorf("its supervisor ended with code %d", ws.ExitStatus())
}

func (l *supervised) clear(ctx context.Context, unit, mark string) error {
	parent, group, err := l.groups(unit)
	if err != nil {
		return err
	}
	if group.Mark() == "" {
		// Of a start that was cut short before the mark: nothing can be in it.
		// What has something in it is not ours, and stays.
		group.RemoveEmpty()
	}
	if !group.Exists() {
		return nil
	}
	if err := conflict("cgroup "+group.Path(), group.Mark(), mark); err != nil && !abandoned(group) {
		return err
	}
	if err := group.KillAll(ctx); err != nil {
		return err
	}
	if err := group.Remove(ctx); err != nil {
		return err
	}
	parent.RemoveEmpty()
	return nil
}

// abandoned reports whether a group is left over from an installation that is
// gone: it has a mark of ours, whoever's, and no process in it, so that nothing
// is lost with it. An installation that lives makes its groups at each start.
func abandoned(g cgroup.Group) bool {
	_, marked := resource.ParseMark(g.Mark())
	populated, err := g.Populated()
	return marked && err == nil && !populated
}

// setLimits only makes the controllers available; the supervisor writes them.
func (l *supervised) setLimits(_ context.Context, _ string, limits Limits) error {
	return l.handDown(limits)
}

func (l *supervised) units(context.Context) ([]Unit, error) {
	parent, _, err := l.groups("")
	if err != nil {
		return nil, err
	}
	groups, err := parent.Children()
	if err != nil {
		return nil, err
	}
	var out []Unit
	for _, g := range groups {
		pids, err := g.Procs()
		if err != nil {
			return nil, err
		}
		out = append(out, Unit{Name: g.Name(), Mark: g.Mark(), Processes: len(pids)})
	}
	return out, nil
}

func (l *supervised) close() error { return nil }

// conflict is the error of a unit that exists and is not of mark's installation.
func conflict(what, has, mark string) error {
	theirs, marked := resource.ParseMark(has)
	ours, _ := resource.ParseMark(mark)
	if marked && theirs.Installation == ours.Installation {
		return nil
	}
	if !marked {
		has = "nobody we know"
	}
	return resource.Taken("Conflict", fmt.Errorf("%s exists and belongs to %s; remove it or choose another Host.spec.instance", what, has))
}
