package machine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
)

func TestRemoveTree(t *testing.T) {
	testenv.Root(t)
	for _, tt := range []struct {
		name string
		// make builds a tree in dir.
		make func(t *testing.T, dir string)
	}{
		{"nothing", func(t *testing.T, dir string) { must(t, os.Remove(dir)) }},
		{"links are not followed", func(t *testing.T, dir string) { must(t, os.Symlink(dir+"-canary", dir+"/link")) }},
		{"immutable file and directory", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(dir+"/var/empty/deep", 0o755))
			must(t, os.WriteFile(dir+"/var/empty/file", nil, 0o644))
			for _, p := range []string{"/var/empty/file", "/var/empty/deep", "/var/empty", ""} {
				setFlags(t, dir+p, stuckFlags&^0x20)
			}
		}},
		{"append-only", func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/log", nil, 0o644))
			setFlags(t, dir+"/log", 0x20)
			setFlags(t, dir, 0x20)
		}},
		{"special files", func(t *testing.T, dir string) {
			must(t, unix.Mkfifo(dir+"/fifo", 0o644))
			must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
			must(t, os.WriteFile(dir+"/new\nline", nil, 0))
		}},
		{"deeper than descriptors", func(t *testing.T, dir string) { makeDeep(t, dir, 3000) }},
		{"wide", func(t *testing.T, dir string) {
			for i := range 3000 {
				must(t, os.WriteFile(filepath.Join(dir, strings.Repeat("x", 1+i%200)+string(rune('a'+i/200))), nil, 0o644))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tree")
			must(t, os.Mkdir(dir, 0o755))
			must(t, os.Mkdir(dir+"-canary", 0o755))
			must(t, os.WriteFile(dir+"-canary/file", nil, 0o644))
			tt.make(t, dir)
			if err := removeTree(context.Background(), dir); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(dir); !os.IsNotExist(err) {
				t.Errorf("still there: %v", err)
			}
			if _, err := os.Stat(dir + "-canary/file"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRemoveTreeStopsAtMounts(t *testing.T) {
	testenv.Root(t)
	dir := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(dir+"/a/mount", 0o755))
	must(t, unix.Mount("tmpfs", dir+"/a/mount", "tmpfs", 0, ""))
	unmounted := false
	t.Cleanup(func() {
		if !unmounted {
			unix.Unmount(dir+"/a/mount", unix.MNT_DETACH)
		}
	})
	must(t, os.WriteFile(dir+"/a/mount/precious", nil, 0o644))
	err := removeTree(context.Background(), dir)
	if err == nil || !strings.Contains(err.Error(), "findmnt -R "+dir+"/a/mount") {
		t.Errorf("error %v does not say where and what to do", err)
	}
	if _, err := os.Stat(dir + "/a/mount/precious"); err != nil {
		t.Error("removal went through a mount")
	}
	must(t, unix.Unmount(dir+"/a/mount", 0))
	unmounted = true
	must(t, removeTree(context.Background(), dir))
}

// TestWithoutMounts takes mounts off and leaves what is behind them.
func TestWithoutMounts(t *testing.T) {
	testenv.Root(t)
	base := t.TempDir()
	dir, precious := filepath.Join(base, "tr ee\\"), filepath.Join(base, "precious")
	for _, d := range []string{dir + "/upper/tmpfs", dir + "/up", dir + "/work", dir + "/over lay", base + "/other", precious} {
		must(t, os.MkdirAll(d, 0o755))
	}
	must(t, os.WriteFile(precious+"/file", nil, 0o644))
	must(t, unix.Mount("tmpfs", dir+"/upper/tmpfs", "tmpfs", 0, ""))
	must(t, os.Mkdir(dir+"/upper/tmpfs/bind", 0o755))
	must(t, unix.Mount(precious, dir+"/upper/tmpfs/bind", "", unix.MS_BIND, ""))
	must(t, unix.Mount(precious, dir+"/up", "", unix.MS_BIND, ""))
	must(t, unix.Mount("overlay", dir+"/over lay", "overlay", 0, "lowerdir="+precious+":"+base+"/other"))
	t.Cleanup(func() {
		points, _ := mountsBelow(dir)
		for i := range points {
			unix.Unmount(points[len(points)-1-i], unix.MNT_DETACH)
		}
	})
	remove := func() error {
		return withoutMounts(dir, func() error { return removeTree(t.Context(), dir) })
	}
	used, err := os.Open(dir + "/up")
	must(t, err)
	if err := remove(); err == nil || !strings.Contains(err.Error(), "findmnt") {
		t.Errorf("with a mount in use: %v", err)
	}
	used.Close()
	must(t, remove())
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	if _, err := os.Stat(precious + "/file"); err != nil {
		t.Errorf("removal went through a mount: %v", err)
	}
}

// makeDeep nests directories far deeper than there are descriptors.
func makeDeep(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, openDir, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		next, err := unix.Openat(fd, "d", openDir, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
}

func setFlags(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
