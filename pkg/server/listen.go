package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// maxSocketPath is the kernel's limit of sun_path without its final NUL.
	maxSocketPath = 107
	// dialTimeout of the question whether anybody listens on an old socket.
	dialTimeout = 2 * time.Second
)

// ListenOptions say where the API listens.
type ListenOptions struct {
	// Path of the socket. required
	Path string
	// Group that may use it beside root. optional
	Group string
}

// Listen makes the socket: 0660 root:GROUP, or 0600 without a group. The
// socket is bound in a private directory and moved to its place with its
// permissions set, so that it is never open to others. A socket that nobody
// listens on is replaced. The caller holds the lock of the state directory, so
// that no other daemon of ours does the same at the same time.
func Listen(o ListenOptions) (net.Listener, error) {
	gid, mode, err := socketAccess(o.Group)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(o.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	if err := checkFree(o.Path); err != nil {
		return nil, err
	}
	// Always of the same name: what a killed daemon left of it goes here.
	private := filepath.Join(dir, "."+filepath.Base(o.Path))
	if err := errors.Join(os.RemoveAll(private), os.Mkdir(private, 0o700)); err != nil {
		return nil, fmt.Errorf("make a directory beside socket %s: %w", o.Path, err)
	}
	defer os.RemoveAll(private)
	temporary := filepath.Join(private, "s")
	if n := max(len(temporary), len(o.Path)); n > maxSocketPath {
		return nil, fmt.Errorf("the path of socket %s is too long: the kernel allows %d bytes and %d are needed; choose a shorter one", o.Path, maxSocketPath, n)
	}
	l, err := net.Listen("unix", temporary)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", o.Path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &socket{Listener: l, path: o.Path}
	if err := s.install(temporary, gid, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("install socket %s: %w", o.Path, err)
	}
	return s, nil
}

// socketAccess returns the group and the mode of the socket; gid -1 leaves the group.
func socketAccess(group string) (gid int, mode fs.FileMode, err error) {
	if group == "" {
		return -1, 0o600, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, 0, fmt.Errorf("group %q may use the socket, but the host has no such group: create it (groupadd --system %s) or change spec.socketGroup of the Host: %w", group, group, err)
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, 0o660, err
}

// patience is how long a socket in use is waited for: a daemon that was killed
// while it started a program leaves it to the child, until that has become the program.
const patience = 2 * time.Second

// checkFree returns an error unless path may be taken: nothing there, or a
// socket that nobody listens on.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way of the socket: it is no socket; move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
		conn.Close()
		time.Sleep(patience / 100)
		conn, err = net.DialTimeout("unix", path, dialTimeout)
	}
	if err == nil {
		conn.Close()
		return fmt.Errorf("another daemon listens on %s: stop it, or give this one another --socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find out whether anybody listens on %s: %w", path, err)
	}
	return nil
}

// socket is a listener that removes its own path at the end, and no other's.
type socket struct {
	net.Listener
	path string
	info fs.FileInfo
	once sync.Once
}

func (s *socket) install(temporary string, gid int, mode fs.FileMode) error {
	if gid >= 0 {
		if err := os.Chown(temporary, -1, gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(temporary, mode); err != nil {
		return err
	}
	info, err := os.Lstat(temporary)
	if err != nil {
		return err
	}
	s.info = info
	return os.Rename(temporary, s.path)
}

func (s *socket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.info) {
			os.Remove(s.path)
		}
	})
	return s.Listener.Close()
}
