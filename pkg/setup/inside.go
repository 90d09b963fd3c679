package setup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/handover"
)

const (
	// maxLine of what is said inside; a longer one is cut.
	maxLine = 2 << 10
	// drainTime that output may pause after the end of a program, while another
	// process still holds it open.
	drainTime = 200 * time.Millisecond
	// endTime of a machine whose processes are being killed.
	endTime = time.Second
)

// inside is a running machine that programs are sent into.
type inside struct {
	ns     *host.Namespaces
	root   *os.Root
	leader int
	start  string
	owner  int // host's id of the machine's root
}

// enter opens the machine whose first process was started then.
func enter(leader int, start string) (*inside, error) {
	ns, err := host.OpenNamespaces(leader)
	if err != nil {
		return nil, fmt.Errorf("enter the machine: %w", err)
	}
	root, err := os.OpenRoot("/proc/" + strconv.Itoa(leader) + "/root")
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("enter the machine: %w", err)
	}
	m := &inside{ns: ns, root: root, leader: leader, start: start, owner: rootOf(leader)}
	if !m.alive() {
		m.close()
		return nil, fmt.Errorf("enter the machine: %w", os.ErrProcessDone)
	}
	return m, nil
}

func (m *inside) close() {
	m.root.Close()
	m.ns.Close()
}

// alive reports whether the machine's first process is there.
func (m *inside) alive() bool {
	start, err := host.ProcessStart(m.leader)
	return err == nil && start == m.start
}

// ended reports whether the end of the machine is why err came about: what runs
// in there is killed a moment before its first process is gone.
func (m *inside) ended(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	killed := ok && exit.Sys().(syscall.WaitStatus).Signaled()
	for until := time.Now().Add(endTime); killed && m.alive() && time.Now().Before(until); {
		time.Sleep(endTime / 50)
	}
	return !m.alive()
}

// rootOf is the host's id of the root of a process's user namespace.
func rootOf(pid int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/uid_map")
	f := strings.Fields(string(text))
	if err != nil || len(f) < 3 || f[0] != "0" {
		return 0
	}
	id, _ := strconv.Atoi(f[1])
	return id
}

// do has a piece of work done inside, with its lines told as they come. It lives
// in this process's cgroup: nothing of it outlives the attempt.
func (m *inside) do(ctx context.Context, w handover.Work, in io.Reader, line func(string)) error {
	document, err := handover.SealWork(w)
	if err != nil {
		return err
	}
	defer document.Close()
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	theirs.Chown(m.owner, m.owner) // so that /dev/stderr can be opened by name inside
	cmd, err := m.ns.Command("", handover.InitPath, "work")
	if err != nil {
		theirs.Close()
		return err
	}
	cmd.SysProcAttr.UseCgroupFD = false
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, theirs, theirs
	cmd.ExtraFiles = []*os.File{document} // becomes handover.FD
	cmd.WaitDelay = drainTime
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	var reading sync.WaitGroup
	reading.Go(func() { lines(ours, line) })
	err = cmd.Wait()
	stop()
	ours.SetReadDeadline(time.Now().Add(drainTime))
	reading.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it left before it had taken all of its input
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// lines reads lines of text; what is no text does not reach a terminal.
func lines(r io.Reader, line func(string)) {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		text, prefix, err := b.ReadLine()
		if err != nil {
			return
		}
		line(printable(string(text)))
		for prefix && err == nil {
			_, prefix, err = b.ReadLine()
		}
	}
}

func printable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsPrint(c):
			return c
		case c == '\t':
			return ' '
		}
		return '�'
	}, s)
}
