package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
	"tekton.host/test/systemdhost"
)

// disk is a file system of its own, which can lose its power. Nothing gets to
// it by itself: only what is synced.
type disk struct {
	t          testing.TB
	image, dir string
	n          int
}

// newDisk makes a disk, with its image beside its directory.
func newDisk(t testing.TB, dir string) *disk {
	t.Helper()
	if systemdhost.Inside() {
		loopDevices(t)
	}
	d := &disk{t: t, dir: dir, image: dir + ".disk0"}
	mustRun(t, "truncate", "--size=512M", d.image)
	mustRun(t, "mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", d.image)
	d.mount()
	return d
}

// loopDevices makes those that a container's /dev does not have.
func loopDevices(t testing.TB) {
	t.Helper()
	nodes := map[string]uint64{"/dev/loop-control": unix.Mkdev(10, 237)}
	for i := range uint32(64) {
		nodes[fmt.Sprintf("/dev/loop%d", i)] = unix.Mkdev(7, i)
	}
	for path, dev := range nodes {
		kind := uint32(unix.S_IFBLK)
		if path == "/dev/loop-control" {
			kind = unix.S_IFCHR
		}
		if err := unix.Mknod(path, kind|0o600, int(dev)); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatalf("make %s: %v", path, err)
		}
	}
}

// mount options: no commit by time, and none of ext4's help for those who
// replace files without a sync. Other file systems do not help either.
func (d *disk) mount() {
	d.t.Helper()
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		d.t.Fatal(err)
	}
	mustRun(d.t, "mount", "-o", "loop,commit=600,noauto_da_alloc", d.image, d.dir)
}

// cut has the file system write nothing more, not even its journal.
func (d *disk) cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const (
		goingDown  = 0x8004587d // EXT4_IOC_SHUTDOWN
		noLogFlush = 2
	)
	if err := unix.IoctlSetPointerInt(int(f.Fd()), goingDown, noLogFlush); err != nil {
		d.t.Fatal("shut the file system down: ", err)
	}
}

// power mounts what was on the disk when it was cut.
func (d *disk) power() {
	d.t.Helper()
	unix.Unmount(d.dir, unix.MNT_DETACH)
	// A copy: mount namespaces of other tests' machines may still have the disk as it was.
	d.n++
	next := fmt.Sprintf("%s.disk%d", d.dir, d.n)
	mustRun(d.t, "cp", "--sparse=always", d.image, next)
	if err := os.Remove(d.image); err != nil {
		d.t.Fatal(err)
	}
	d.image = next
	d.mount()
}

// onDisk puts the state directory on a disk of its own.
func (k *tekton) onDisk() {
	k.t.Helper()
	k.disk = newDisk(k.t, k.state())
	k.check(os.MkdirAll(k.specs(), 0o755))
}

// powerCut takes all power from the installation and its disk, at one moment.
// Afterwards the disk holds what was synced, and the host nothing.
func (k *tekton) powerCut() {
	k.t.Helper()
	k.daemon.Process.Signal(syscall.SIGSTOP) // when it has not ended already
	k.disk.cut()
	k.signal(syscall.SIGKILL)
	k.sweep()
	k.check(k.nothingLeft())
	k.check(os.RemoveAll(k.path("run")))
	k.disk.power()
}

// empty counts the files of tekton's own that a power cut left empty.
func (k *tekton) empty() (n int) {
	for _, pattern := range []string{"*", "machines/*/*", "volumes/*/*/.*", "passwords/*", "services/*/*", "services/caddy/generations/*/*", "services/caddy/generations/*/sites/*"} {
		files, err := filepath.Glob(k.state(pattern))
		k.check(err)
		for _, f := range files {
			// Of locks, logs and sockets no content is expected.
			info, err := os.Stat(f)
			if name := filepath.Base(f); err == nil && info.Mode().IsRegular() && info.Size() == 0 && name != "lock" && !strings.HasPrefix(name, "log") {
				n++
			}
		}
	}
	return n
}

// writer writes rows and lines without a break, and knows which were acknowledged.
type writer struct {
	stop        chan struct{}
	done        sync.WaitGroup
	off         atomic.Bool // the power is about to go
	rows, lines int
}

func (k *tekton) writer(name string) *writer {
	k.t.Helper()
	address := k.get(name).Status.Address
	w := &writer{stop: make(chan struct{})}
	each := func(acknowledged *int, path string, args func(n int) url.Values) {
		w.done.Go(func() {
			for n := *acknowledged + 1; ; n++ {
				code, _, err := fetch("http://"+address+":8080"+path+"?"+args(n).Encode(), "")
				// An answer while the power goes promises nothing: a sync that races with
				// the end of the journal may still report success.
				if err != nil || code != 200 || w.off.Load() {
					return
				}
				*acknowledged = n
				select {
				case <-w.stop:
					return
				default:
				}
			}
		})
	}
	each(&w.rows, "/sql", func(int) url.Values { return url.Values{"q": {"INSERT INTO kept VALUES (DEFAULT)"}} })
	each(&w.lines, "/append", func(int) url.Values { return url.Values{"path": {"/data/kept"}, "data": {"line\n"}} })
	return w
}

func (w *writer) end() {
	close(w.stop)
	w.done.Wait()
}

// kept demands what was acknowledged, and counts anew.
func (k *tekton) kept(name string, w *writer) {
	k.t.Helper()
	rows, err := strconv.Atoi(k.mustAsk(name, "/sql", "q", "SELECT count(*) FROM kept"))
	k.check(err)
	lines := strings.Count(k.mustAsk(name, "/read", "path", "/data/kept"), "line")
	if rows < w.rows || lines < w.lines {
		k.t.Errorf("%s has %d rows and %d lines, of %d and %d that were acknowledged", name, rows, lines, w.rows, w.lines)
	}
	k.mustAsk(name, "/sql", "q", "TRUNCATE kept")
}

// claims are what the ledger on the disk says of identities: who has which name and slot.
func (k *tekton) claims() map[string]string {
	k.t.Helper()
	var ledger struct{ Claims []resource.Claim }
	b, err := os.ReadFile(k.state("ledger.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	k.check(err)
	k.check(json.Unmarshal(b, &ledger))
	out := map[string]string{}
	for _, c := range ledger.Claims {
		if strings.HasPrefix(c.Key, "object/") || strings.HasPrefix(c.Key, "slot/") {
			out[c.Key] = c.Owner
		}
	}
	return out
}

// cuts are the moments of a power cut while an application comes, changes and
// goes: a step at which the daemon dies, or any moment.
var cuts = [3][]string{
	{"after:claim.put", "after:password.put", "after:database.put", "after:volume.put", "after:instance.put", "after:unit.put", "after:answer.put", "after:route.put"},
	{"after:claim.put", "after:instance.put", "after:unit.delete", "after:unit.put", "after:answer.put", "after:route.put", "any", "any"},
	{"after:claim.put", "after:unit.delete", "after:database.delete", "after:volume.delete", "after:instance.delete", "after:claim.delete", "after:route.delete", "after:record.delete"},
}

// envInt is a number from the environment, to repeat or to lengthen a test.
func envInt(name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// TestPowerCut takes the power away while an application comes, changes and
// goes beside another, whose every acknowledged row and line is there
// afterwards. A seed chooses among the moments; TEKTON_TEST_CUTS=8 takes all.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	const lanes = 2
	seed, lives := envInt("TEKTON_TEST_SEED", time.Now().UnixNano()), envInt("TEKTON_TEST_CUTS", 4)
	t.Logf("TEKTON_TEST_SEED=%d TEKTON_TEST_CUTS=%d (of %d)", seed, lives, len(cuts[0]))
	chosen := rand.New(rand.NewPCG(uint64(seed), lanes)).Perm(len(cuts[0]))[:lives]
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			k := prepare(t)
			k.onDisk()
			k.up()
			other := k.guest("other", "routes: [{host: other.test, port: 8080}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]",
				"databases: [{name: main, deletionPolicy: Delete}]")
			k.write("other.yaml", other)
			k.ready("other")
			k.mustAsk("other", "/sql", "q", "CREATE TABLE kept (id serial)")
			if lane == 0 {
				// An editor that syncs nothing: the file is empty, what it said holds.
				k.powerCut()
				k.up()
				k.condition("other", v1alpha1.ConditionSpecValid, "EmptyFile")
				k.eventually("other is served", func() error { _, err := k.served("other.test", "/"); return err })
			}
			k.writeDurably("other.yaml", other)
			_, err := k.runWith("told", "secret", "set", "token")
			k.check(err)
			random := rand.New(rand.NewPCG(uint64(seed), uint64(lane)))
			for i := lane; i < len(chosen); i += lanes {
				k.cutLife(chosen[i], random)
			}
		})
	}
}

// cutLife is the whole life of an application, with a power cut in each stage.
func (k *tekton) cutLife(i int, random *rand.Rand) {
	k.t.Helper()
	app := func(generation int) string {
		return k.guest("app", fmt.Sprintf(`environment: {GENERATION: "%d"}`, generation), "routes: [{host: app.test, port: 8080}]", "stopTimeout: 1s",
			"credentials: [{name: token, env: TOKEN}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]", "databases: [{name: main, deletionPolicy: Delete}]")
	}
	for generation := 1; generation <= 2; generation++ {
		k.cutWhile(cuts[generation-1][i], random, func() { k.writeDurably("app.yaml", app(generation)) }, func() error { return k.serves(generation) })
		if token := k.aboutOf("app").env("TOKEN"); token != "told" {
			k.t.Errorf("life %d: the secret is %q", i, token)
		}
		k.mustAsk("app", "/append", "path", "/data/notes", "data", fmt.Sprint(generation))
		k.mustAsk("app", "/sql", "q", "CREATE TABLE t"+fmt.Sprint(generation)+" (x int)")
	}
	if notes := k.mustAsk("app", "/read", "path", "/data/notes"); notes != "12" {
		k.t.Errorf("life %d: the volume holds %q", i, notes)
	}
	k.mustAsk("app", "/sql", "q", "SELECT count(*) FROM t1, t2")
	k.cutWhile(cuts[2][i], random, func() { k.writeDurably("app.yaml", "# nothing\n") }, func() error {
		if _, err := k.item("app"); !errors.Is(err, errNotThere) {
			return fmt.Errorf("the object is there: %v", err)
		}
		return k.noFiles("app")
	})
	if n := k.mustAsk("other", "/sql", "q", "SELECT count(*) FROM pg_database WHERE datname LIKE '%app%'"); n != "0" {
		k.t.Errorf("life %d: %s databases are left", i, n)
	}
}

// noFiles demands that an object has left no file but in its source and the trash.
func (k *tekton) noFiles(name string) error {
	for _, dir := range []string{"machines", "passwords", "passwords/.owners", "volumes/container"} {
		if left, err := filepath.Glob(k.state(dir, "*"+name+"*")); err != nil || len(left) > 0 {
			return fmt.Errorf("left: %q (%v)", left, err)
		}
	}
	return nil
}

// cutWhile makes a change, cuts the power while it is carried out, and waits,
// with a new daemon, until all is as it is to be.
func (k *tekton) cutWhile(point string, random *rand.Rand, change func(), try func() error) {
	k.t.Helper()
	k.ready("other")
	other := k.get("other")
	w := k.writer("other")
	k.signal(syscall.SIGTERM)
	if point == "any" {
		k.up()
		change()
		pause := time.Duration(random.IntN(800)) * time.Millisecond // the moment is what is tested
		point = fmt.Sprintf("after %v", pause)
		time.Sleep(pause)
	} else {
		k.launch("TEKTON_FAILPOINT=" + point)
		change()
		k.awaitEnd()
	}
	w.off.Store(true)
	k.powerCut()
	w.end()
	claimed := k.claims()
	k.t.Logf("power cut %s: %d rows and %d lines acknowledged, %d files empty, %d names and slots", point, w.rows, w.lines, k.empty(), len(claimed))
	k.up()
	k.eventually(point, func() error {
		if err := try(); err != nil {
			return err
		}
		_, err := k.run("plan")
		return err
	})
	k.ready("other")
	k.mustServe("other.test")
	k.kept("other", w)
	if now := k.get("other"); now.Metadata.UID != other.Metadata.UID || now.Status.Slot != other.Status.Slot || now.Status.Address != other.Status.Address {
		k.t.Errorf("%s: other was %+v, is %+v", point, other, now)
	}
	now := k.claims()
	for key, owner := range claimed {
		if now[key] != owner && now[key] != "" {
			k.t.Errorf("%s: %s was claimed by %s, and is by %q", point, key, owner, now[key])
		}
	}
	if want := 1 + strings.Count(k.must("get", "-o", "name"), "app"); len(k.machines()) != want {
		k.t.Errorf("%s: %d machines for %d objects", point, len(k.machines()), want)
	}
}

// writeDurably puts a spec file so that a power cut leaves it there.
func (k *tekton) writeDurably(file string, docs ...string) {
	k.t.Helper()
	k.write(file, docs...)
	fd, err := unix.Open(k.specs(file), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	k.check(err)
	defer unix.Close(fd)
	k.check(unix.Fsync(fd))
}
