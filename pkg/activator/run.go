package activator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/fsnotify/fsnotify"
)

const (
	// idleTimeout is longer than Caddy keeps a connection that it does not use.
	idleTimeout   = 5 * time.Minute
	headerTimeout = 30 * time.Second
	// memoryLimit for the garbage collector: requests are passed on, not kept.
	memoryLimit = 96 << 20
)

// Serve is the process `tektond activator DIR`: it goes by DIR/gates.json until
// ctx ends.
func Serve(ctx context.Context, dir string) error {
	debug.SetMemoryLimit(memoryLimit)
	s := newServer(dir)
	s.restore()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	defer w.Close()
	// The directory: the file is replaced, not written.
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	t, err := s.load()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", t.Listen.String())
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	if err := become(t.UID, t.GID); err != nil {
		return err
	}
	return s.run(ctx, l, w, t.Listen)
}

// become gives root's rights up.
func become(uid, gid uint32) error {
	if os.Geteuid() != 0 || uid == 0 {
		return nil
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(gid)), syscall.Setuid(int(uid))); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	return nil
}

// run serves, and follows the table.
func (s *server) run(ctx context.Context, l net.Listener, w *fsnotify.Watcher, listen netip.AddrPort) error {
	ctx, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	writing.Go(func() { s.write(ctx) })
	defer writing.Wait()
	defer cancel()
	h := &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	defer h.Close()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell the supervisor: %w", err)
	}
	path := filepath.Join(s.dir, tableFile)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		case e := <-w.Events:
			if e.Name != path {
				continue
			}
		case <-w.Errors: // events were lost
		}
		next, err := s.load()
		if err != nil {
			fmt.Fprintln(os.Stderr, "the last good table stays:", err)
			continue
		}
		if next.Listen != listen {
			return fmt.Errorf("it is to listen on %s from now on; the daemon starts it again", next.Listen)
		}
	}
}
