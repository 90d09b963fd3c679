package systemdhost

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/cgroup"
)

// destroyTimeout bounds the killing and removing of a host.
const destroyTimeout = 30 * time.Second

// destroy ends a host at once; a clean shutdown is PowerOff's.
func (h *Host) destroy() {
	ctx, cancel := context.WithTimeout(context.Background(), destroyTimeout)
	defer cancel()
	if h.t.Failed() {
		h.t.Logf("console of the systemd host:\n%s", h.Console())
	}
	if err := h.group.KillAll(ctx); err != nil {
		h.t.Error(err)
	}
	if h.nspawn != nil {
		<-h.exited
	}
	if err := h.group.Remove(ctx); err != nil {
		h.t.Error(err)
	}
	if err := removeDir(h.dir); err != nil {
		h.t.Errorf("remove the systemd host: %v", err)
	}
	h.lock.Close()
}

// removeDir unmounts and removes a host's directory and its lock.
func removeDir(dir string) error {
	err := unix.Unmount(filepath.Join(dir, "root"), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	// Hosts may have left immutable files or mounts of their own: those are errors.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Remove(dir + ".lock")
}

// sweep removes hosts whose test process was killed: their locks are free.
func sweep(t testing.TB, groups cgroup.Host, hosts string) {
	locks, err := filepath.Glob(filepath.Join(hosts, prefix+"*.lock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), destroyTimeout)
	defer cancel()
	for _, path := range locks {
		lock, err := lockFile(path, syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue // it lives
		}
		dir := strings.TrimSuffix(path, ".lock")
		group := groups.Group(filepath.Base(dir))
		if err := errors.Join(group.KillAll(ctx), group.Remove(ctx), removeDir(dir)); err != nil {
			t.Logf("sweep of %s, left by a killed test: %v", dir, err)
		}
		lock.Close()
	}
}
