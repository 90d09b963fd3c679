package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/internal/testenv"
)

// TestHardLinks: where others may write, a second name of somebody's file is
// not read: as root we could, and an error would tell about it.
func TestHardLinks(t *testing.T) {
	testenv.Root(t)
	const nobody = 65534
	tests := map[string]struct {
		dirOwner, fileOwner int
		dirMode             os.FileMode
		want                []string
	}{
		"ours alone":                   {0, 0, 0o755, []string{"x"}},
		"of their own":                 {nobody, nobody, 0o755, []string{"x"}},
		"of root in their directory":   {nobody, 0, 0o755, nil},
		"others may write":             {0, 0, 0o1777, nil},
		"others may write, not root's": {0, nobody, 0o1777, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d, dec, dir := newDirectory(t)
			secret := filepath.Join(filepath.Dir(dir), "secret")
			write(t, secret, doc("x"))
			must(t, os.Chown(secret, tc.fileOwner, -1))
			must(t, os.Link(secret, filepath.Join(dir, "x.yaml")))
			must(t, os.Chown(dir, tc.dirOwner, -1))
			must(t, unix.Chmod(dir, uint32(tc.dirMode.Perm())))
			s := d.Snapshot(t.Context())
			if diff := cmp.Diff(tc.want, names(s)); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			if tc.want == nil && (len(dec.calls()) > 0 || !slices.Equal(problems(s), []string{"x.yaml HardLink"})) {
				t.Errorf("problems %v; decoded %q", problems(s), dec.calls())
			}
		})
	}
}

// TestLinkThatTurnsIntoADevice: a link that is swapped between the look and
// the opening is not opened for what it leads to then.
func TestLinkThatTurnsIntoADevice(t *testing.T) {
	testenv.Root(t)
	d, _, dir := newDirectory(t)
	link := filepath.Join(dir, "x.yaml")
	must(t, os.Symlink("/dev/null", link))
	s := &scan{d: d}
	_, err := s.list()
	must(t, err)
	defer s.dir.Close()
	_, f := s.open("x.yaml")
	if f.problem == nil || f.problem.Reason != ReasonNotRegularFile {
		t.Errorf("opened a device: %+v", f)
	}
}

// asNobody calls f on a thread that has no power over other users' files, as
// root has none on a FUSE or NFS mount.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	testenv.Root(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		// The kernel takes the file capabilities with the file system's user.
		if err := unix.Setfsuid(65534); err != nil {
			done <- err
			return
		}
		if now, _ := unix.SetfsuidRetUid(-1); now != 65534 {
			done <- fmt.Errorf("the file system's user is %d", now)
			return
		}
		f()
		done <- nil
	}()
	must(t, <-done)
}

// TestUnreadable is a directory or file that may not be read, by its mode or
// by the kernel's word: it is a hole in what is known, never an absence.
func TestUnreadable(t *testing.T) {
	tests := map[string]struct {
		nobody  bool
		deny    func(dir string) error
		err     string // of the whole source
		lost    bool   // the source is incomplete
		objects []string
		reason  []string
	}{
		"directory, chmod 000, as root": {false, func(dir string) error { return os.Chmod(dir, 0) }, "nobody may read it", true, nil, nil},
		"directory, EACCES":             {true, func(dir string) error { return os.Chmod(dir, 0o700) }, "permission denied", true, nil, nil},
		"directory without x, EACCES":   {true, func(dir string) error { return os.Chmod(dir, 0o744) }, "", true, nil, []string{"a.yaml UnreadableFile", "b.yaml UnreadableFile"}},
		"a file, chmod 000, as root":    {false, func(dir string) error { return os.Chmod(filepath.Join(dir, "a.yaml"), 0) }, "", false, []string{"b"}, []string{"a.yaml UnreadableFile"}},
		"a file, EACCES":                {true, func(dir string) error { return os.Chmod(filepath.Join(dir, "a.yaml"), 0o600) }, "", false, []string{"b"}, []string{"a.yaml UnreadableFile"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d, _, dir := newDirectory(t)
			for at := filepath.Dir(dir); at != "/"; at = filepath.Dir(at) {
				if info, err := os.Stat(at); err == nil && info.Mode()&0o001 == 0 {
					must(t, os.Chmod(at, info.Mode()|0o011)) // t.TempDir's own
				}
			}
			// Leases are for owners; without them a file is read once it is quiet.
			d.now = func() time.Time { return time.Now().Add(time.Hour) }
			for _, n := range []string{"a", "b"} {
				write(t, filepath.Join(dir, n+".yaml"), doc(n))
			}
			must(t, tc.deny(dir))
			var s Snapshot
			look := func() {
				d.Snapshot(context.Background())
				later := d.now().Add(time.Second)
				d.now = func() time.Time { return later }
				s = d.Snapshot(context.Background())
			}
			if tc.nobody {
				asNobody(t, look)
			} else {
				look()
			}
			if got := fmt.Sprint(s.Err); (tc.err == "") != (s.Err == nil) || !strings.Contains(got, tc.err) {
				t.Errorf("error %v, want %q", s.Err, tc.err)
			}
			if s.Complete == tc.lost || !slices.Equal(names(s), tc.objects) || !slices.Equal(problems(s), tc.reason) {
				t.Errorf("complete %t, objects %v, problems %v, unsettled %v", s.Complete, names(s), problems(s), s.Unsettled)
			}
		})
	}
}

// TestOverflow loses events: the kernel's queue has room for one, and nobody
// reads it while files change.
func TestOverflow(t *testing.T) {
	d, _, dir := newDirectory(t)
	d.pollEvery = time.Hour // only the overflow itself can tell
	d.newWatcher = func() (*fsnotify.Watcher, error) { return withShortQueue(t, fsnotify.NewWatcher) }
	var lost atomic.Int32
	d.log = funcr.New(func(_, args string) {
		if strings.Contains(args, "events were lost") {
			lost.Add(1)
		}
	}, funcr.Options{Verbosity: 1})
	ctx, cancel := context.WithCancel(t.Context())
	events, stall, ended := make(chan struct{}, 1), make(chan chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		d.Watch(ctx, func() {
			select {
			case release := <-stall:
				<-release
			default:
			}
			select {
			case events <- struct{}{}:
			default:
			}
		})
	}()
	defer func() { cancel(); <-ended }()
	<-events // it is watched
	f := &follower{d: d, events: events}
	release := make(chan struct{})
	stall <- release
	write(t, filepath.Join(dir, "a.yaml"), doc("a")) // who reads the events is busy with this one
	for i := range 50 {
		write(t, filepath.Join(dir, fmt.Sprintf("note%d.txt", i)), "")
	}
	write(t, filepath.Join(dir, "b.yaml"), doc("b"))
	close(release)
	f.until(t, "what no event told of", func(s Snapshot) bool { return wants("a", "b")(s) && lost.Load() > 0 })
}

// withShortQueue makes an inotify instance whose queue holds one event.
func withShortQueue[T any](t *testing.T, f func() (T, error)) (T, error) {
	t.Helper()
	testenv.Root(t)
	const sysctl = "/proc/sys/fs/inotify/max_queued_events"
	old, err := os.ReadFile(sysctl)
	if err == nil {
		err = os.WriteFile(sysctl, []byte("1"), 0)
	}
	if err != nil {
		var none T
		return none, err
	}
	out, err := f()
	return out, errors.Join(err, os.WriteFile(sysctl, old, 0))
}
