package nixos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// killedWithHost is how a container ended that the host took along.
const killedWithHost = 128 + int(unix.SIGKILL)

// readTimeout bounds looking at a unit or the end of its journal.
const readTimeout = 2 * time.Second

// Manager runs containers. It holds no state that matters: a new one takes
// over everything.
type Manager struct {
	paths Paths
	run   string

	bus supervise.Bus
	mu  sync.Mutex
	// seen are units as they were last read; a change takes them out.
	seen       map[string]unit
	generation int        // of seen: raised by every change
	heard      *dbus.Conn // changes arrive on it
	notify     func()
	again      atomic.Bool // lookAgain is under way
}

// Options of a Manager.
type Options struct {
	Paths Paths  // optional: NixOS's own
	Run   string // required: a directory on tmpfs, for secrets
}

// New returns a Manager. It touches nothing.
func New(o Options) *Manager {
	m := &Manager{paths: o.Paths.withDefaults(), run: o.Run, seen: map[string]unit{}}
	m.bus.Connected = m.listen
	return m
}

// Close ends the connection to systemd; containers are not affected.
func (m *Manager) Close() { m.bus.Close() }

// listen takes units out of seen whenever systemd says that they changed.
func (m *Manager) listen(conn *dbus.Conn) {
	m.mu.Lock()
	m.seen, m.heard = map[string]unit{}, conn
	m.generation++
	m.mu.Unlock()
	updates, overflow := make(chan *dbus.PropertiesUpdate, 256), make(chan error, 1)
	conn.SetPropertiesSubscriber(updates, overflow)
	go func() {
		for conn.Connected() {
			select {
			case u := <-updates:
				if strings.HasPrefix(u.UnitName, "container@") {
					m.changed(u.UnitName)
				}
			case <-overflow:
				m.changed("")
			case <-time.After(time.Minute): // is the connection still there?
			}
		}
		m.mu.Lock()
		if m.heard == conn {
			m.heard = nil
		}
		m.mu.Unlock()
		m.changed("")
	}()
}

// changed says that a unit did, "" that any may have.
func (m *Manager) changed(id string) {
	m.forget(id)
	m.tell()
}

// tell has whoever watches look.
func (m *Manager) tell() {
	m.mu.Lock()
	notify := m.notify
	m.mu.Unlock()
	if notify != nil {
		notify()
	}
}

// againAfter is when a container is looked at again that has no first process
// yet, or no longer: one that systemd itself has started.
const againAfter = 50 * time.Millisecond

// lookAgain has everybody look again, once.
func (m *Manager) lookAgain() {
	if m.again.CompareAndSwap(false, true) {
		time.AfterFunc(againAfter, func() {
			m.again.Store(false)
			m.tell()
		})
	}
}

// forget what was read of a unit, "" of all.
func (m *Manager) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	if id == "" {
		clear(m.seen)
	}
	delete(m.seen, id)
}

// Watch calls notify when a container's unit changes, until ctx ends.
func (m *Manager) Watch(ctx context.Context, notify func()) {
	m.mu.Lock()
	m.notify = notify
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.notify = nil
	m.mu.Unlock()
}

// FilePath is where a file of a container lies.
func (m *Manager) FilePath(container, name string) string {
	return filepath.Join(m.run, container, name)
}

// Prepare writes what a container is. It claims the container for the machine's
// directory: one of somebody else is a conflict.
func (m *Manager) Prepare(dir string, c Container) error {
	if !validName.MatchString(c.Name) {
		return resource.Terminal("InvalidMachine", fmt.Errorf("%q cannot name a NixOS container", c.Name))
	}
	s, found, err := readState(dir)
	if err != nil {
		return err
	}
	if !found {
		s = state{Name: c.Name, Mark: c.Conf.Mark}
		if _, err := m.paths.claim(c.Name, s.Mark); err != nil {
			return err
		}
		if err := writeState(dir, s); err != nil {
			return err
		}
	}
	return m.paths.place(c)
}

// Status tells of a container as a supervisor does of its process.
func (m *Manager) Status(dir string) (supervise.Status, bool, error) {
	s, found, err := readState(dir)
	if err != nil || !found || !s.Started {
		return supervise.Status{}, false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	u, err := m.look(ctx, s.Name)
	if err != nil {
		return supervise.Status{}, false, err
	}
	status := u.status(s)
	if s.Starting && !status.Running && !askedFor(dir, u) {
		return supervise.Status{}, false, nil
	}
	if _, err := os.Lstat(filepath.Join(m.run, s.Name)); !status.Running && errors.Is(err, fs.ErrNotExist) {
		status.ExitCode = killedWithHost // tmpfs has forgotten the start: the host was down
	}
	return status, true, nil
}

// askedFor reports whether the unit has run since the state said that it is to
// be started: the daemon was killed after it had asked systemd.
func askedFor(dir string, u unit) bool {
	info, err := os.Lstat(filepath.Join(dir, stateFile))
	return err == nil && u.started.After(info.ModTime())
}

// Tail returns the last lines that a container's unit wrote.
func (m *Manager) Tail(dir string, lines int) []string {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	cmd, err := journal(ctx, dir, supervise.LogOptions{Tail: lines}, time.Time{})
	if err != nil {
		return nil
	}
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return supervise.Lines(out)
}

// OpenLog reads what a container's unit wrote; Previous is all before its
// present start.
func (m *Manager) OpenLog(ctx context.Context, dir string, o supervise.LogOptions) (io.ReadCloser, error) {
	var until time.Time
	if o.Previous {
		s, found, err := m.Status(dir)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, supervise.ErrNoPrevious
		}
		until = s.StartedAt
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd, err := journal(ctx, dir, o, until)
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &reading{out, cancel, cmd}, nil
}

// reading ends its program when it is closed.
type reading struct {
	io.Reader
	cancel context.CancelFunc
	cmd    *exec.Cmd
}

func (r *reading) Close() error {
	r.cancel()
	_ = r.cmd.Wait() // it was killed
	return nil
}

// journalTime is a moment as journalctl reads it.
func journalTime(t time.Time) string { return fmt.Sprintf("@%d.%06d", t.Unix(), t.Nanosecond()/1000) }

// journal prints what the unit of a directory's container wrote, until a moment
// if there is one.
func journal(ctx context.Context, dir string, o supervise.LogOptions, until time.Time) (*exec.Cmd, error) {
	s, _, err := readState(dir)
	if err != nil {
		return nil, err
	}
	number := "all"
	if o.Tail >= 0 {
		number = strconv.Itoa(o.Tail)
	}
	argv := []string{"--quiet", "--no-pager", "--output=cat", "--unit=" + unitName(s.Name), "--lines=" + number}
	if !o.Since.IsZero() {
		argv = append(argv, "--since="+journalTime(o.Since))
	}
	if !until.IsZero() {
		argv = append(argv, "--until="+journalTime(until))
	}
	if o.Follow {
		argv = append(argv, "--follow")
	}
	cmd := exec.CommandContext(ctx, "journalctl", argv...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	return cmd, nil
}

func isError(err error, name string) bool {
	e, ok := errors.AsType[godbus.Error](err)
	return ok && e.Name == name
}
