package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/supervise/supervisetest"
)

// traced are four objects in a directory that is a mount, two of them under load.
type traced struct {
	*tekton
	version int // of app: the host name of its second route
	loads   []*load
	pids    map[string]int
}

var tracedNames = []string{"calm", "app", "blue", "green"}

func newTraced(t *testing.T) *traced {
	t.Helper()
	supervisetest.Root(t, "git", "rsync", "nano", "sed")
	r := &traced{tekton: prepare(t), pids: map[string]int{}}
	t.Cleanup(r.unmount)
	// The file system stays mounted elsewhere while it is away from the source.
	r.check(os.Mkdir(r.path("kept"), 0o755))
	r.check(unix.Mount("tmpfs", r.path("kept"), "tmpfs", 0, "mode=755"))
	r.mount()
	r.up()
	for _, name := range tracedNames {
		r.write(name+".yaml", r.object(name, 0))
	}
	r.ready(tracedNames...)
	for _, name := range tracedNames {
		r.converges("start", name, 0)
		r.pids[name] = r.leader(name)
	}
	r.loads = []*load{r.load("calm.test"), r.load("app.test")}
	return r
}

func (r *traced) mount() {
	r.t.Helper()
	r.check(unix.Mount(r.path("kept"), r.specs(), "", unix.MS_BIND, ""))
}

// object has one route that stays and one that tells its version.
func (r *traced) object(name string, version int) string {
	return r.guest(name, fmt.Sprintf("routes: [{host: %s.test, port: 8080}, {host: %s.test, port: 8081}]", name, versionOf(name, version)))
}

func versionOf(name string, version int) string { return fmt.Sprintf("%s-v%d", name, version) }

func (r *traced) converges(what, name string, version int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%s: version %d of %s is served", what, version, name), func() error {
		_, err := r.served(versionOf(name, version)+".test", "/")
		return err
	})
}

// proxyLoads counts the configurations that the proxy was given: each is a
// numbered directory.
func (r *traced) proxyLoads() int {
	r.t.Helper()
	current, err := os.Readlink(r.state("services/caddy/current"))
	r.check(err)
	n, err := strconv.Atoi(filepath.Base(current))
	r.check(err)
	return n
}

// unharmed demands that nothing was stopped or made anew.
func (r *traced) unharmed(what string) {
	r.t.Helper()
	for name, pid := range r.pids {
		if now := r.leader(name); now != pid {
			r.t.Errorf("%s: the process of %s was %d and is %d", what, name, pid, now)
		}
	}
	for _, l := range r.loads {
		l.mu.Lock()
		failed := len(l.failures)
		l.mu.Unlock()
		if failed > 0 {
			r.t.Errorf("%s: %d requests have failed by now", what, failed)
		}
	}
}

// finish ends the load, and takes the objects away while the directory is there.
func (r *traced) finish() {
	r.t.Helper()
	for _, l := range r.loads {
		l.end(r.t)
	}
	r.unharmed("at the end")
	for _, name := range tracedNames {
		r.must("delete", name)
	}
	r.gone(tracedNames...)
	r.unmount()
}

func (r *traced) unmount() {
	unix.Unmount(r.specs(), unix.MNT_DETACH)
	unix.Unmount(r.path("kept"), unix.MNT_DETACH)
}

// TestEditors edits a spec with every editor: it converges with one reload of
// the proxy an edit, and nothing is restarted.
func TestEditors(t *testing.T) {
	t.Parallel()
	r := newTraced(t)
	file := r.specs("app.yaml")
	for _, e := range edits {
		before := r.proxyLoads()
		from, to := versionOf("app", r.version), versionOf("app", r.version+1)
		r.version++
		r.check(e.do(r.tekton, file, from+".test", to+".test"))
		r.converges(e.name, "app", r.version)
		r.settled()
		r.unharmed(e.name)
		if n := r.proxyLoads() - before; n != 1 {
			t.Errorf("%s: the proxy was loaded %d times, want once", e.name, n)
		}
	}
	r.finish()
}

// TestTrees changes the directory as a whole: by git, as Kubernetes does, by
// another mount or directory in its place, and by its mode.
func TestTrees(t *testing.T) {
	t.Parallel()
	r := newTraced(t)
	git := func(args ...string) {
		t.Helper()
		r.check(call(append([]string{"git", "-C", r.specs(), "-c", "user.name=me", "-c", "user.email=me@host", "-c", "safe.directory=*"}, args...)...))
	}
	all := func(what string, version int) {
		t.Helper()
		for _, name := range tracedNames[1:] {
			r.converges(what, name, version)
		}
		r.settled()
		r.unharmed(what)
	}
	// A branch in which three objects changed, one of them in another file.
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "-m", "one")
	git("checkout", "-q", "-b", "other")
	git("mv", "app.yaml", "a-renamed.yaml")
	r.write("a-renamed.yaml", r.object("app", 1))
	r.write("blue.yaml", r.object("blue", 1))
	r.write("green.yaml", r.object("green", 1))
	git("commit", "-q", "-a", "-m", "two")
	all("written on a branch", 1)
	for i := range 3 {
		before := r.proxyLoads()
		git("checkout", "-q", []string{"main", "other"}[i%2])
		all("git checkout", i%2)
		if n := r.proxyLoads() - before; n < 1 || n > 2 {
			t.Errorf("git checkout: the proxy was loaded %d times for three objects that changed together", n)
		}
	}
	// Now at main: app.yaml, blue.yaml, green.yaml, calm.yaml.
	generation := func(version int) {
		t.Helper()
		dir := fmt.Sprintf("..generation%d", version)
		r.check(os.Mkdir(r.specs(dir), 0o755))
		for _, name := range tracedNames[1:] {
			r.write(filepath.Join(dir, name+".yaml"), r.object(name, version))
		}
		r.check(errors.Join(os.Symlink(dir, r.specs("..data_tmp")), os.Rename(r.specs("..data_tmp"), r.specs("..data"))))
	}
	generation(2)
	for _, name := range tracedNames[1:] {
		r.check(errors.Join(os.Symlink("..data/"+name+".yaml", r.specs(".link")), os.Rename(r.specs(".link"), r.specs(name+".yaml"))))
	}
	all("files that become links", 2)
	before := r.proxyLoads()
	generation(3)
	all("..data", 3)
	if n := r.proxyLoads() - before; n != 1 {
		t.Errorf("..data: the proxy was loaded %d times for one swap", n)
	}
	r.check(os.RemoveAll(r.specs("..generation2")))

	before = r.proxyLoads()
	away := func(what string, go_, back func() error) {
		t.Helper()
		r.check(go_())
		r.eventually(what+": it is said", func() error {
			if r.held() == "" {
				return errors.New("nothing is said")
			}
			return nil
		})
		r.unharmed(what)
		r.check(back())
		r.eventually(what+": all is well again", func() error {
			if text := r.held(); text != "" {
				return errors.New(text)
			}
			return nil
		})
		r.settled()
		r.unharmed(what)
	}
	away("unmounted", func() error {
		// The daemon may be reading it at this very moment.
		r.eventually("nobody has it open", func() error { return unix.Unmount(r.specs(), 0) })
		return nil
	}, func() error { r.mount(); return nil })
	away("chmod 000", func() error { return os.Chmod(r.specs(), 0) }, func() error { return os.Chmod(r.specs(), 0o755) })
	if n := r.proxyLoads() - before; n != 0 {
		t.Errorf("the directory went and came back: the proxy was loaded %d times for nothing", n)
	}
	// A file that may not be read is no removal either.
	r.check(os.Chmod(r.specs("..data/app.yaml"), 0))
	r.eventually("chmod 000 of a file is said", func() error {
		problems, err := r.api().Problems(t.Context())
		if err != nil || len(problems) != 1 || problems[0].Reason != "UnreadableFile" {
			return fmt.Errorf("%v %v", problems, err)
		}
		return nil
	})
	r.unharmed("chmod 000 of a file")
	r.check(os.Chmod(r.specs("..data/app.yaml"), 0o644))
	generation(4)
	all("after all that", 4)
	// What a tool has linked is the tool's to remove: tekton writes through no link.
	for _, name := range tracedNames {
		file := r.specs(name + ".yaml")
		if info, err := os.Lstat(file); err != nil || info.Mode()&os.ModeSymlink == 0 {
			continue
		}
		if out, err := r.run("delete", name); err == nil || !strings.Contains(err.Error(), "put a copy in the place of the link") {
			t.Errorf("tekton delete %s, whose file is a link: %s %v", name, out, err)
		}
		text, err := os.ReadFile(file)
		r.check(err)
		r.check(os.WriteFile(file+".copy", text, 0o644))
		r.check(os.Rename(file+".copy", file))
	}
	r.settled()
	r.finish()
}

// TestThousandFiles copies a thousand specs at once, while the daemon's queue
// of events has room for one, and takes them away again.
func TestThousandFiles(t *testing.T) {
	t.Parallel()
	r := newTraced(t)
	many := r.path("many")
	r.check(os.Mkdir(many, 0o755))
	for i := range 1000 {
		name := fmt.Sprintf("many%03d", i)
		r.check(os.WriteFile(filepath.Join(many, name+".yaml"), []byte(plain(name, "enabled: false")), 0o644))
	}
	r.signal(syscall.SIGTERM)
	r.withShortQueue(func() { r.up() })
	before := r.proxyLoads()
	count := func(what string, want int) {
		t.Helper()
		r.eventually(fmt.Sprintf("%s: %d objects", what, want), func() error {
			items, err := r.api().List(t.Context())
			if err != nil || len(items) != want {
				return fmt.Errorf("%d, %v", len(items), err)
			}
			return nil
		})
	}
	// The daemon sleeps while it happens: all events but one are lost.
	stopped := func(args ...string) {
		t.Helper()
		r.check(r.daemon.Process.Signal(syscall.SIGSTOP))
		err := call(args...)
		r.check(errors.Join(r.daemon.Process.Signal(syscall.SIGCONT), err))
	}
	stopped("cp", "-r", many+"/.", r.specs())
	count("copied", 1004)
	r.settled()
	stopped("sh", "-c", "cd "+r.specs()+" && rm many*.yaml")
	r.eventually("so many at once are held", func() error {
		if text := r.held(); !strings.Contains(text, "many000") {
			return fmt.Errorf("%.200s", text)
		}
		return nil
	})
	count("held", 1004)
	r.signal(syscall.SIGKILL)
	r.up()
	count("held over a restart", 1004)
	r.must("release-deletes", "local")
	count("released", 4)
	r.settled()
	r.unharmed("a thousand files")
	if n := r.proxyLoads() - before; n != 0 {
		t.Errorf("the proxy was loaded %d times for objects without routes", n)
	}
	r.finish()
}

// withShortQueue starts a daemon whose inotify queue has room for one event:
// the setting is the host's, and read when a queue is made.
func (r *traced) withShortQueue(up func()) {
	r.t.Helper()
	// Inside of a container /proc/sys is read-only; a proc of our own is not.
	proc := r.path("proc")
	r.check(errors.Join(os.Mkdir(proc, 0o755), unix.Mount("proc", proc, "proc", 0, "")))
	defer unix.Unmount(proc, unix.MNT_DETACH)
	sysctl := filepath.Join(proc, "sys/fs/inotify/max_queued_events")
	usual, err := os.ReadFile(sysctl)
	r.check(err)
	defer os.WriteFile(sysctl, usual, 0)
	r.check(os.WriteFile(sysctl, []byte("1"), 0))
	up()
	var st unix.Stat_t
	r.check(unix.Stat(r.specs(), &st))
	r.eventually("the daemon watches the directory", func() error {
		infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", r.daemon.Process.Pid))
		for _, info := range infos {
			if text, _ := os.ReadFile(info); strings.Contains(string(text), fmt.Sprintf(" ino:%x ", st.Ino)) {
				return nil
			}
		}
		return fmt.Errorf("%v: no inotify of inode %x", err, st.Ino)
	})
}
