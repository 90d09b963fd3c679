package e2e_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
)

// room is what a file system has for a state directory: pages and inodes.
type room struct{ pages, inodes uint64 }

// plenty of both, also for PostgreSQL; it is taken only when it is used.
var plenty = room{pages: 512 << 20 / 4096, inodes: 20000}

// inMemory puts the state directory on a file system of which the room can be
// changed, and the specs on another: to write them is somebody else's matter.
func (k *tekton) inMemory() {
	k.t.Helper()
	k.check(os.MkdirAll(k.state(), 0o711))
	mustRun(k.t, "mount", "-t", "tmpfs", "-o", "mode=711,"+plenty.options(), "state", k.state())
	k.check(os.WriteFile(k.state("page"), []byte("in use: a size of none at all would mean no limit"), 0o600))
	k.check(os.MkdirAll(k.specs(), 0o755))
	mustRun(k.t, "mount", "-t", "tmpfs", "-o", "size=1M", "specs", k.specs())
}

func (r room) options() string {
	return fmt.Sprintf("size=%d,nr_inodes=%d", r.pages*uint64(os.Getpagesize()), r.inodes)
}

// leave gives the state directory a room of some pages and inodes more than it uses.
func (k *tekton) leave(free room) {
	k.t.Helper()
	k.eventually("the state directory has its room", func() error { // it may grow meanwhile
		used := k.used()
		options := room{used.pages + free.pages, used.inodes + free.inodes}.options()
		out, err := exec.Command("mount", "-o", "remount,"+options, k.state()).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", options, err, out)
		}
		return nil
	})
}

// used is what the state directory takes now.
func (k *tekton) used() room {
	k.t.Helper()
	var s unix.Statfs_t
	k.check(unix.Statfs(k.state(), &s))
	return room{s.Blocks - s.Bfree, s.Files - s.Ffree}
}

// creation is one whose every step has to find a full disk once.
type creation struct {
	lines []string // of the object's spec, beside what all have
	// kinds of the steps that write to the state directory.
	kinds []string
	// most pages or inodes that it may need.
	most uint64
	// next room to try: none of the small ones is left out.
	next func(n uint64) uint64
}

var creations = map[string]creation{
	"machine": {
		kinds: []string{"claim", "volume", "instance", "unit", "answer", "record", "route"},
		most:  100, next: func(n uint64) uint64 { return n + 1 },
	},
	// PostgreSQL takes thousands of pages for a database, as it pleases.
	"database": {
		lines: []string{"databases: [{name: main, deletionPolicy: Delete}]", "credentials: [{name: token, env: TOKEN}]"},
		// Not access: its file may fit into what the step before it has allocated.
		kinds: []string{"claim", "password"},
		most:  20000, next: func(n uint64) uint64 { return max(n+1, n*3/2) },
	},
}

var fullStep = regexp.MustCompile(`failed\t\{"action": "put", "resource": "([a-z]+)/.*no space left on device`)

// TestFullDisk makes an object with room for no page more, for one, for two …
// until there is enough of them; the same with inodes. What is allocated first
// beyond the room fails, so no allocation of the whole creation is left out.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, c := range creations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			stopped := map[string]bool{}
			t.Run("sweep", func(t *testing.T) {
				for what, free := range map[string]func(n uint64) room{
					"pages":  func(n uint64) room { return room{n, plenty.inodes} },
					"inodes": func(n uint64) room { return room{plenty.pages, n} },
				} {
					t.Run(what, func(t *testing.T) {
						t.Parallel()
						kinds := fillUp(t, c, free)
						mu.Lock()
						defer mu.Unlock()
						maps.Copy(stopped, kinds)
					})
				}
			})
			for _, kind := range c.kinds {
				if !stopped[kind] {
					t.Errorf("no full disk has stopped a step of kind %s: %v", kind, stopped)
				}
			}
		})
	}
}

// fillUp returns the kinds of steps that a full disk has stopped.
func fillUp(t *testing.T, c creation, free func(n uint64) room) map[string]bool {
	k := prepare(t, "slotCooldown: 1s")
	k.inMemory()
	k.up()
	_, err := k.runWith("told", "secret", "set", "token")
	k.check(err)
	k.write("other.yaml", k.guest("other", append([]string{"routes: [{host: other.test, port: 8080}]"}, c.lines...)...))
	k.ready("other")
	k.settled()
	other, pid := k.get("other"), k.leader("other")
	k.round(c, plenty) // what the first of all objects makes stays: directories
	before := k.files()
	n := uint64(0)
	for ; !k.round(c, free(n)); n = c.next(n) {
		if n > c.most {
			t.Fatalf("%d are not enough for an object", n)
		}
	}
	t.Logf("an object needs %d", n)
	if n == 0 {
		t.Error("an object needs none: nothing was tested")
	}
	k.eventually("no file is left", func() error {
		if diff := cmp.Diff(before, k.files()); diff != "" {
			return fmt.Errorf("-before +after:\n%s", diff)
		}
		return nil
	})
	if now := k.get("other"); now.Status.Machine != other.Status.Machine || k.leader("other") != pid {
		t.Errorf("the other object was %+v, is %+v", other, now)
	}
	log, err := os.ReadFile(k.path("log"))
	k.check(err)
	stopped := map[string]bool{}
	for _, m := range fullStep.FindAllStringSubmatch(string(log), -1) {
		stopped[m[1]] = true
	}
	return stopped
}

// round makes an object with some room, gives more when that is not enough, and
// deletes it. It reports whether the room was enough.
func (k *tekton) round(c creation, free room) (enough bool) {
	k.t.Helper()
	k.leave(free)
	k.write("app.yaml", k.guest("app", append([]string{
		"routes: [{host: app.test, port: 8080}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]", "stopTimeout: 1s",
	}, c.lines...)...))
	k.eventually("app is Ready, or says that the disk is full", func() error {
		if !k.running() {
			k.t.Fatal("the daemon has ended")
		}
		i, err := k.item("app")
		if err != nil {
			return err
		}
		if enough = i.Status.Phase == v1alpha1.PhaseReady; enough {
			return nil
		}
		return saysFull(i)
	})
	k.mustServe("other.test")
	if !enough {
		k.leave(plenty)
		k.check(k.daemon.Process.Signal(syscall.SIGHUP))
		k.ready("app")
	}
	k.mustServe("app.test")
	k.leave(plenty)
	k.write("app.yaml", "# nothing\n")
	k.gone("app")
	k.check(os.RemoveAll(k.state("trash")))
	// A file that goes later would give the next round more room than it is to have.
	k.eventually("the history of app has gone", func() error {
		kept, err := filepath.Glob(k.state("history", "*"))
		if err == nil && len(kept) > 1 {
			err = fmt.Errorf("%q", kept)
		}
		return err
	})
	return enough
}

// saysFull demands a condition that says what is full, and what to do.
func saysFull(i v1alpha1.Item) error {
	for _, c := range i.Status.Conditions {
		if c.Reason == "DiskFull" && strings.Contains(c.Message, "no space left on device") && strings.Contains(c.Message, "/state/") && strings.Contains(c.Message, "next step") {
			return nil
		}
	}
	return fmt.Errorf("%+v", i.Status)
}

// files of the state directory, by name; numbers of versions and of machines
// are left out.
func (k *tekton) files() []string {
	k.t.Helper()
	var out []string
	numbers := regexp.MustCompile(`[0-9]+`)
	k.check(filepath.WalkDir(k.state(), func(path string, d fs.DirEntry, err error) error {
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if path == k.specs() || path == k.state("history") || path == k.state("machines") || path == k.state("services", "postgres", "data") {
			return fs.SkipDir
		}
		out = append(out, numbers.ReplaceAllString(strings.TrimPrefix(path, k.state()), "N"))
		return nil
	}))
	machines, err := filepath.Glob(k.state("machines", "*"))
	k.check(err)
	out = append(out, machines...)
	slices.Sort(out)
	return out
}
