package source

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// traces are the system calls that a tool makes to replace path by content.
var traces = map[string]func(t *testing.T, path, content string){
	"shell redirection": write,
	"slow writer": func(t *testing.T, path, content string) {
		f, err := os.Create(path)
		must(t, err)
		for i := range len(content) {
			_, err := f.WriteString(content[i : i+1])
			must(t, err)
		}
		must(t, f.Close())
	},
	"vim": func(t *testing.T, path, content string) {
		swap := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".swp")
		write(t, swap, "b0VIM")
		write(t, filepath.Join(filepath.Dir(path), "4913"), "")
		must(t, os.Remove(filepath.Join(filepath.Dir(path), "4913")))
		must(t, os.Rename(path, path+"~"))
		write(t, path, content)
		must(t, os.Chmod(path, 0o644))
		must(t, os.Remove(path+"~"))
		must(t, os.Remove(swap))
	},
	"emacs": func(t *testing.T, path, content string) {
		lock := filepath.Join(filepath.Dir(path), ".#"+filepath.Base(path))
		must(t, os.Symlink("me@host.1:2", lock))
		write(t, filepath.Join(filepath.Dir(path), "#"+filepath.Base(path)+"#"), content[:1])
		must(t, os.Rename(path, path+"~"))
		write(t, path, content)
		must(t, os.Remove(filepath.Join(filepath.Dir(path), "#"+filepath.Base(path)+"#")))
		must(t, os.Remove(lock))
	},
	"nano": func(t *testing.T, path, content string) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		must(t, err)
		for line := range strings.Lines(content) {
			_, err := f.WriteString(line)
			must(t, err)
		}
		must(t, f.Sync())
		must(t, f.Close())
	},
	"sed -i": func(t *testing.T, path, content string) {
		script := path + ".sed"
		write(t, script, "1i\\\n"+strings.ReplaceAll(strings.TrimSuffix(content, "\n"), "\n", "\\\n")+"\nd\n")
		out, err := exec.Command("sed", "-i", "-f", script, path).CombinedOutput()
		if err != nil {
			t.Fatalf("sed: %v: %s", err, out)
		}
		must(t, os.Remove(script))
	},
	"rsync": func(t *testing.T, path, content string) {
		temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".Xy12Zq")
		write(t, temp, content)
		must(t, os.Chtimes(temp, time.Unix(1, 0), time.Unix(1, 0)))
		must(t, os.Rename(temp, path))
	},
	"rsync --inplace": func(t *testing.T, path, content string) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
		must(t, err)
		_, err = f.WriteString(content)
		must(t, err)
		must(t, f.Truncate(int64(len(content))))
		must(t, f.Close())
		must(t, os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	},
	"renameio": func(t *testing.T, path, content string) {
		must(t, renameio.WriteFile(path, []byte(content), 0o644))
	},
	"remove and write": func(t *testing.T, path, content string) {
		must(t, os.Remove(path))
		write(t, path, content)
	},
}

// TestTraces: while a tool replaces a file, no half of it is ever decoded, and
// events alone lead to the new content.
func TestTraces(t *testing.T) {
	for name, trace := range traces {
		t.Run(name, func(t *testing.T) {
			d, dec, dir := newDirectory(t)
			path := filepath.Join(dir, "a.yaml")
			write(t, path, doc("v0"))
			write(t, filepath.Join(dir, "other.yaml"), doc("other"))
			f := follow(t, d)
			f.until(t, "start", wants("v0", "other"))
			whole := []string{doc("v0"), doc("other")}
			for i := range 20 {
				next := fmt.Sprintf("v%d", i+1)
				whole = append(whole, doc(next))
				stop, stopped := make(chan struct{}), make(chan struct{})
				go func() { // an engine that looks all the time
					defer close(stopped)
					for {
						select {
						case <-stop:
							return
						default:
							d.Snapshot(t.Context())
						}
					}
				}()
				trace(t, path, doc(next))
				close(stop)
				<-stopped
				f.until(t, next, wants(next, "other"))
			}
			for _, data := range dec.calls() {
				if !slices.Contains(whole, data) {
					t.Errorf("half a file was decoded: %q", data)
				}
			}
		})
	}
}

// TestVolumeSwap is what kubelet and others do: links into ..data, which is a
// link that is replaced.
func TestVolumeSwap(t *testing.T) {
	d, _, dir := newDirectory(t)
	generation := func(n int) {
		target := fmt.Sprintf("..2026_%d", n)
		must(t, os.Mkdir(filepath.Join(dir, target), 0o755))
		write(t, filepath.Join(dir, target, "a.yaml"), doc(fmt.Sprintf("v%d", n)))
		must(t, os.Symlink(target, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	generation(0)
	must(t, os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")))
	f := follow(t, d)
	f.until(t, "start", wants("v0"))
	for n := 1; n < 10; n++ {
		generation(n)
		f.until(t, "swap", wants(fmt.Sprintf("v%d", n)))
		must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..2026_%d", n-1))))
	}
	// In place, in the directory behind two links.
	write(t, filepath.Join(dir, "..2026_9", "a.yaml"), doc("edited"))
	f.until(t, "edit behind the links", wants("edited"))
}

// TestDirectoryComesAndGoes: the watch follows the path, whatever takes its place.
func TestDirectoryComesAndGoes(t *testing.T) {
	base := realTemp(t)
	path := filepath.Join(base, "state", "specs")
	d, _ := open(t, path)
	f := follow(t, d)
	gone := func(s Snapshot) bool { return s.Err != nil && !s.Complete }
	f.until(t, "missing", gone)

	must(t, os.MkdirAll(path, 0o755))
	f.until(t, "made, empty", wants())
	write(t, filepath.Join(path, "a.yaml"), doc("a"))
	f.until(t, "first file", wants("a"))

	must(t, os.Rename(path, path+".away"))
	f.until(t, "renamed away", gone)
	must(t, os.Mkdir(path, 0o755))
	write(t, filepath.Join(path, "b.yaml"), doc("b"))
	f.until(t, "another in its place", wants("b"))
	write(t, filepath.Join(path, "c.yaml"), doc("c"))
	f.until(t, "a file in that one", wants("b", "c"))

	must(t, os.RemoveAll(filepath.Join(base, "state")))
	f.until(t, "its parent removed", gone)
	must(t, os.MkdirAll(path, 0o755))
	write(t, filepath.Join(path, "d.yaml"), doc("d"))
	f.until(t, "all of it again", wants("d"))
}

// TestDirectoryIsALink: neither a swap of the link nor of a link above it, nor
// a change in a target elsewhere, is missed.
func TestDirectoryIsALink(t *testing.T) {
	base := realTemp(t)
	for _, n := range []string{"1", "2", "3"} {
		must(t, os.MkdirAll(filepath.Join(base, "release"+n, "specs"), 0o755))
		write(t, filepath.Join(base, "release"+n, "specs", "a.yaml"), doc("a"+n))
	}
	swap := func(target, link string) {
		must(t, os.Symlink(target, filepath.Join(base, "new")))
		must(t, os.Rename(filepath.Join(base, "new"), filepath.Join(base, link)))
	}
	swap("release1", "current")
	swap("current/specs", "specs")
	d, _ := open(t, filepath.Join(base, "specs"))
	f := follow(t, d)
	f.until(t, "start", wants("a1"))
	swap("release2", "current")
	f.until(t, "a link on the way swapped", wants("a2"))
	swap("release3/specs", "specs")
	f.until(t, "the link itself swapped", wants("a3"))
	write(t, filepath.Join(base, "release3", "specs", "b.yaml"), doc("b"))
	f.until(t, "a file in the new target", wants("a3", "b"))

	elsewhere := filepath.Join(base, "elsewhere")
	must(t, os.Mkdir(elsewhere, 0o755))
	must(t, os.Symlink(filepath.Join(elsewhere, "c.yaml"), filepath.Join(base, "release3", "specs", "c.yaml")))
	f.until(t, "dangling", func(s Snapshot) bool { return slices.Equal(problems(s), []string{"c.yaml DanglingLink"}) })
	write(t, filepath.Join(elsewhere, "c.yaml"), doc("c"))
	f.until(t, "target appears", wants("a3", "b", "c"))
	must(t, os.Remove(filepath.Join(elsewhere, "c.yaml")))
	write(t, filepath.Join(elsewhere, "c.yaml"), doc("cc"))
	f.until(t, "target replaced", wants("a3", "b", "cc"))
}

// TestMountedOver: of a mount inotify says nothing; the mount table does.
func TestMountedOver(t *testing.T) {
	testenv.Root(t)
	d, _, dir := newDirectory(t)
	d.pollEvery = time.Hour
	write(t, filepath.Join(dir, "a.yaml"), doc("a"))
	must(t, EnsureMarker(dir))
	f := follow(t, d)
	f.until(t, "start", wants("a"))

	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	mounted := true
	t.Cleanup(func() {
		if mounted {
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	if s := f.until(t, "mounted over", wants()); s.Marked {
		t.Error("the empty file system counts as marked")
	}
	write(t, filepath.Join(dir, "b.yaml"), doc("b"))
	f.until(t, "a file in the mount", wants("b"))
	must(t, unix.Unmount(dir, unix.MNT_DETACH))
	mounted = false
	f.until(t, "unmounted", wants("a"))
}

func TestThousandFilesAtOnce(t *testing.T) {
	d, _, dir := newDirectory(t)
	f := follow(t, d)
	f.until(t, "start", wants())
	var all []string
	for i := range 1000 {
		name := fmt.Sprintf("o%04d", i)
		write(t, filepath.Join(dir, name+".yaml"), doc(name))
		all = append(all, name)
	}
	f.until(t, "all", wants(all...))
	for _, name := range all[:999] {
		must(t, os.Remove(filepath.Join(dir, name+".yaml")))
	}
	f.until(t, "one left", wants("o0999"))
	if len(d.cache) != 1 {
		t.Errorf("%d files are still remembered, want 1", len(d.cache))
	}
}

// TestBlind: without inotify the directory is still looked at, and once there
// are instances again it is watched.
func TestBlind(t *testing.T) {
	d, _, dir := newDirectory(t)
	d.blindEvery = time.Millisecond
	var exhausted atomic.Bool
	exhausted.Store(true)
	d.newWatcher = func() (*fsnotify.Watcher, error) {
		if exhausted.Load() {
			return nil, fmt.Errorf("inotify_init1: %w", unix.EMFILE)
		}
		return fsnotify.NewWatcher()
	}
	f := follow(t, d)
	write(t, filepath.Join(dir, "a.yaml"), doc("a"))
	f.until(t, "a file, seen by polling", func(s Snapshot) bool { return wants("a")(s) && d.WatchError() != nil })
	if err := d.WatchError(); err == nil || !strings.Contains(err.Error(), "max_user_instances") {
		t.Errorf("error = %v, want the sysctl to raise", err)
	}
	exhausted.Store(false)
	write(t, filepath.Join(dir, "b.yaml"), doc("b"))
	f.until(t, "watched again", func(s Snapshot) bool { return wants("a", "b")(s) && d.WatchError() == nil })
}

func TestPlanWatches(t *testing.T) {
	base := realTemp(t)
	in := func(p string) string { return filepath.Join(base, p) }
	must(t, os.MkdirAll(in("real/specs"), 0o755))
	must(t, os.MkdirAll(in("far"), 0o755))
	must(t, os.Symlink("real", in("link")))
	must(t, os.Symlink("../../far/x.yaml", in("real/specs/x.yaml")))
	must(t, os.Symlink("../../far/note", in("real/specs/note.txt")))
	must(t, os.Symlink("loop", in("loop")))
	tests := map[string]struct {
		path string
		want map[string]string // directory: names, or "*"
	}{
		"through a link": {in("link/specs"), map[string]string{base: "link", in("real"): "specs", in("real/specs"): "*", in("far"): "x.yaml"}},
		"missing":        {in("real/none/specs"), map[string]string{in("real"): "none"}},
		"a circle":       {in("loop/specs"), map[string]string{base: "loop"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			for dir, in := range planWatches(tc.path) {
				var all []string
				for n := range in.names {
					all = append(all, n)
				}
				slices.Sort(all)
				got[dir] = strings.Join(all, " ")
				if in.all {
					got[dir] = "*"
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
	plan := planWatches(in("link/specs"))
	for path, want := range map[string]bool{
		in("real/specs/..data"): true, in("link"): true, in("real/other"): false, in("far/y"): false, in("far/x.yaml"): true, in("real/specs"): true,
	} {
		if got := plan.wants(path); got != want {
			t.Errorf("wants(%s) = %t, want %t", path, got, want)
		}
	}
}
