package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFullDisk starts a process with room for no page more, for one, for two …,
// and the same with inodes. Each time it runs or the start says at once what is
// full, and nothing is left of it.
func TestFullDisk(t *testing.T) {
	f := newFixture(t)
	for what, options := range map[string]func(n int, used unix.Statfs_t) string{
		"pages": func(n int, used unix.Statfs_t) string {
			return fmt.Sprintf("size=%d", (int(used.Blocks-used.Bfree)+n)*os.Getpagesize())
		},
		"inodes": func(n int, used unix.Statfs_t) string {
			return fmt.Sprintf("nr_inodes=%d", int(used.Files-used.Ffree)+n)
		},
	} {
		t.Run(what, func(t *testing.T) {
			disk := t.TempDir()
			mountMemory(t, disk)
			refused := 0
			for n := 0; ; n++ {
				dir := filepath.Join(disk, "a")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				var s unix.Statfs_t
				if err := errors.Join(unix.Statfs(disk, &s), unix.Mount("", disk, "", unix.MS_REMOUNT, options(n, s))); err != nil {
					t.Fatal(err)
				}
				enough := f.startIn(dir)
				if err := errors.Join(unix.Mount("", disk, "", unix.MS_REMOUNT, "size=1M,nr_inodes=1000"), os.RemoveAll(dir)); err != nil {
					t.Fatal(err)
				}
				if enough {
					break
				}
				refused++
			}
			// The spec, the lock, the status and the log: each wants an inode of its own.
			if t.Logf("%d starts were refused", refused); refused < 3 {
				t.Error("the room was no limit: nothing was tested")
			}
		})
	}
}

func mountMemory(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1M,nr_inodes=1000"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // systemd may be looking at it
			t.Error(err)
		}
	})
	// A page in use: a size of none at all would mean no limit.
	if err := os.WriteFile(filepath.Join(dir, "page"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startIn reports whether a process could be started in a directory. One that
// could not has told why, and left no unit.
func (f *fixture) startIn(dir string) bool {
	f.t.Helper()
	spec := f.spec("a", "ready")
	spec.Notify = true
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	_, err := f.Start(ctx, dir, spec)
	if err != nil && (ctx.Err() != nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), dir)) {
		f.t.Errorf("it does not say that the disk of %s is full: %v", dir, err)
	}
	f.stop(dir)
	if units, unitErr := f.Units(f.t.Context(), f.mark()); len(units) > 0 || unitErr != nil {
		f.t.Errorf("after %v these units exist: %v %v", err, units, unitErr)
	}
	return err == nil
}
