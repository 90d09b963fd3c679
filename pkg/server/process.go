package server

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/server/wire"
)

const (
	// hangupTime between SIGHUP and SIGKILL for what a client left behind.
	hangupTime = time.Second
	killTime   = 5 * time.Second
	killPoll   = 10 * time.Millisecond
)

// process is a command in a machine. nsenter is our child, in a session of its
// own; the command is nsenter's child. On a terminal the command is in a
// session of its own again, so that ^C reaches it and not nsenter.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File // with a terminal: the same file as stdin
	stderr *os.File // nil with a terminal

	mu     sync.Mutex
	reaped bool // its process id may be another's now
	// sessions of nsenter and of the command, as far as they were seen.
	sessions map[int]bool
}

// takeTerminal runs the arguments that follow in a session of their own with
// the terminal on standard input as theirs. util-linux and busybox have it.
var takeTerminal = []string{"setsid", "-c"}

// terminalType is what $TERM may look like; it names a file in terminfo.
var terminalType = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$`)

// startProcess starts a command in a machine.
func startProcess(cmd *exec.Cmd, t *wire.Terminal) (_ *process, err error) {
	if t != nil && terminalType.MatchString(t.Type) {
		cmd.Env = append(cmd.Env, "TERM="+t.Type)
	}
	p := &process{cmd: cmd}
	theirs, err := p.open(t)
	defer closeAll(theirs)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p.sessions = map[int]bool{cmd.Process.Pid: true}
	return p, nil
}

// open makes the files at both ends; those of the command are returned.
func (p *process) open(t *wire.Terminal) (theirs []*os.File, err error) {
	if t != nil {
		master, slave, err := pty.Open()
		if err != nil {
			return nil, fmt.Errorf("open a terminal: %w", err)
		}
		p.stdin, p.stdout = master, master
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		return []*os.File{slave}, p.resize(t.Size)
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.stdin, p.cmd.Stdin = stdin, in
	stdout, out, err := os.Pipe()
	if err != nil {
		return []*os.File{in}, err
	}
	p.stdout, p.cmd.Stdout = stdout, out
	stderr, errs, err := os.Pipe()
	if err != nil {
		return []*os.File{in, out}, err
	}
	p.stderr, p.cmd.Stderr = stderr, errs
	return []*os.File{in, out, errs}, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (p *process) close() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			f.Close()
		}
	}
}

func (p *process) resize(s wire.Size) error {
	if s == (wire.Size{}) {
		return nil
	}
	return pty.Setsize(p.stdin, &pty.Winsize{Rows: s.Rows, Cols: s.Cols})
}

// exited waits for the end without reaping: until reap, the process id is
// taken and so is the session's.
func (p *process) exited() error {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// reap returns the exit code, 128+n for signal n.
func (p *process) reap() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd.Wait()
	p.reaped = true
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// signal goes to the command's process group.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	nsenter := p.cmd.Process.Pid
	group := map[int]bool{}
	all := p.members()
	for _, m := range all {
		if m.parent == nsenter {
			group[m.group] = true
		}
	}
	for _, m := range all {
		if group[m.group] {
			syscall.Kill(m.pid, sig)
		}
	}
}

// members returns the living processes of our sessions but nsenter.
func (p *process) members() []stat {
	nsenter := p.cmd.Process.Pid
	all := processes()
	for _, st := range all {
		if st.parent == nsenter {
			p.sessions[st.session] = true
		}
	}
	return slices.DeleteFunc(all, func(st stat) bool { return !p.sessions[st.session] || st.pid == nsenter })
}

// end ends all processes of the sessions: a hang-up, then a kill. nsenter ends
// when its child has.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	hangup := time.Now().Add(hangupTime)
	give := hangup.Add(killTime)
	for sig := syscall.SIGHUP; time.Now().Before(give); time.Sleep(killPoll) {
		left := p.members()
		if len(left) == 0 {
			break
		}
		if time.Now().After(hangup) {
			sig = syscall.SIGKILL
		}
		for _, m := range left {
			if sig != 0 {
				syscall.Kill(m.pid, sig)
			}
		}
		sig = 0 // one hang-up is enough
	}
	syscall.Kill(p.cmd.Process.Pid, syscall.SIGKILL) // if it had no child yet
}

// stat is what /proc/PID/stat says.
type stat struct{ pid, parent, group, session int }

// processes returns the living processes.
func processes() []stat {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []stat
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil {
			continue
		}
		if st, ok := parseStat(pid, string(text)); ok {
			all = append(all, st)
		}
	}
	return all
}

// parseStat reads "PID (COMMAND) STATE PPID PGRP SESSION ..." of a living
// process. The command may hold anything, also parentheses.
func parseStat(pid int, text string) (stat, bool) {
	var state string
	st := stat{pid: pid}
	_, err := fmt.Sscan(text[strings.LastIndexByte(text, ')')+1:], &state, &st.parent, &st.group, &st.session)
	return st, err == nil && state != "Z" && state != "X"
}
