package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// server is a booted host with tektond as a service, on a disk of its own.
type server struct {
	*tekton // only its specs and patience
	host    *systemdhost.Host
}

const (
	serverDisk   = "/disk"
	serverConfig = `apiVersion: tekton.host/v1alpha1
kind: Host
spec:
  stateDir: ` + serverDisk + `/state
  runtime: {supervisor: %s, seccomp: false}
  ingress: {tls: "off"}
`
)

// serverUnit is the unit that is installed. Supervised machines are the daemon's
// children, so there it is without what confines the daemon.
func serverUnit(t *testing.T, supervisor string) string {
	t.Helper()
	text, err := os.ReadFile("../../packaging/tektond.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.ReplaceAll(string(text), "@libexec@", systemdhost.ProgramsDir)
	if supervisor == "systemd" {
		return unit
	}
	before, confined, _ := strings.Cut(unit, "ProtectSystem=")
	_, after, _ := strings.Cut(confined, "[Install]")
	return before + "[Install]" + after
}

// newServer boots a host and starts tektond in it for the first time, with a
// Host file.
func newServer(t *testing.T, supervisor, config string) *server {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	disk := newDisk(t, filepath.Join(temp, "disk"))
	t.Cleanup(func() { unmount(t, disk.dir) })
	h := systemdhost.Boot(t, systemdhost.Options{Binds: []systemdhost.Bind{{Source: disk.dir, Target: serverDisk}}})
	s := &server{&tekton{t: t, dir: disk.dir, disk: disk, rootfs: systemdhost.DataDir + "/image"}, h}
	files := map[string]string{"unit": serverUnit(t, supervisor), "config": fmt.Sprintf(config, supervisor), "passwd": "root:x:0:0::/:/bin/sh\n"}
	for name, content := range files {
		s.check(os.WriteFile(filepath.Join(temp, name), []byte(content), 0o644))
	}
	copies := map[string]string{
		"/etc/systemd/system/tektond.service": filepath.Join(temp, "unit"), "/etc/tekton/host.yaml": filepath.Join(temp, "config"),
		s.rootfs + "/etc/passwd": filepath.Join(temp, "passwd"), s.rootfs + "/usr/bin/guest": filepath.Join(dir, "guest"),
	}
	built, err := systemdhost.ProgramFiles(dir)
	s.check(err)
	for target, path := range built {
		if filepath.Dir(path) == dir { // not those of an earlier commit
			copies[target] = path
		}
	}
	for target, source := range copies {
		s.check(h.Copy(source, target))
	}
	s.check(os.MkdirAll(s.specs(), 0o755))
	s.inside("systemctl", "daemon-reload")
	s.inside("systemctl", "enable", "--now", "tektond.service")
	return s
}

func (s *server) inside(argv ...string) string {
	s.t.Helper()
	out, err := s.host.Run(s.t.Context(), argv...)
	s.check(err)
	return strings.TrimSpace(out)
}

func (s *server) items() (map[string]v1alpha1.Item, error) {
	out, err := s.host.Run(s.t.Context(), systemdhost.ProgramsDir+"/tekton", "get", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []v1alpha1.Item }
	err = json.Unmarshal([]byte(out), &list)
	byName := map[string]v1alpha1.Item{}
	for _, i := range list.Items {
		byName[i.Metadata.Name] = i
	}
	return byName, err
}

// all waits until exactly these objects are there, Ready, and nothing is to be done.
func (s *server) all(names ...string) map[string]v1alpha1.Item {
	s.t.Helper()
	slices.Sort(names)
	var items map[string]v1alpha1.Item
	s.eventually(fmt.Sprintf("%q are Ready", names), func() (err error) {
		if items, err = s.items(); err != nil {
			return err
		}
		var have []string
		for name, i := range items {
			if completed(i) {
				continue
			}
			have = append(have, name)
			if i.Status.Phase != v1alpha1.PhaseReady {
				return fmt.Errorf("%s: %+v", name, i.Status)
			}
		}
		if slices.Sort(have); !slices.Equal(have, names) {
			return fmt.Errorf("there are %q", have)
		}
		_, err = s.host.Run(s.t.Context(), systemdhost.ProgramsDir+"/tekton", "plan")
		return err
	})
	return items
}

// completed reports whether an object's machine has ended for good.
func completed(i v1alpha1.Item) bool {
	return slices.ContainsFunc(i.Status.Conditions, func(c v1alpha1.Condition) bool {
		return c.Type == v1alpha1.ConditionStarted && c.Reason == "Completed"
	})
}

// guestOf calls the guest of an object.
func (s *server) guestOf(i v1alpha1.Item, path string, args ...string) string {
	s.t.Helper()
	q := url.Values{}
	for n := 0; n+1 < len(args); n += 2 {
		q.Set(args[n], args[n+1])
	}
	return s.inside("curl", "-sSf", "http://"+i.Status.Address+":8080"+path+"?"+q.Encode())
}

// statusOf is what the supervisor of a machine that has ended for good wrote.
func (s *server) statusOf(i v1alpha1.Item) string {
	s.t.Helper()
	if !completed(i) {
		s.t.Fatalf("done has not ended: %+v", i.Status)
	}
	status, err := os.ReadFile(s.state("machines", i.Status.Machine, "status.json"))
	s.check(err)
	return string(status)
}

// starts counts how often an object's machine has begun to serve.
func (s *server) starts(i v1alpha1.Item) int {
	log, err := os.ReadFile(s.state("machines", i.Status.Machine, "log"))
	s.check(err)
	return strings.Count(string(log), "serving generation")
}

// unmount takes a disk away. Another test's machine may hold it a little longer.
func unmount(t testing.TB, dir string) {
	t.Helper()
	mustRun(t, "umount", "--lazy", dir)
}

// TestReboot changes specs while the host is off: after an orderly power off,
// and after its power and all that was not synced were lost.
func TestReboot(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return // it boots hosts
	}
	for _, supervisor := range []string{"systemd", "supervised"} {
		t.Run(supervisor, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, supervisor, serverConfig)
			s.reboot("orderly", func(ctx context.Context) error { return s.host.PowerOff(ctx) })
			s.reboot("power cut", func(ctx context.Context) error {
				s.disk.cut()
				err := s.host.PowerCut(ctx)
				s.disk.power()
				return err
			})
			// Nothing but the host's own is left when the last object has gone.
			for _, name := range []string{"kept", "left", "changed", "new", "task", "done"} {
				s.inside(systemdhost.ProgramsDir+"/tekton", "delete", name)
			}
			s.all()
			s.eventually("nothing is left", func() error {
				return errors.Join(s.none("links", "ip", "-o", "link", "show", "type", "veth"), s.none("rules", "nft", "list", "tables"))
			})
		})
	}
}

func (s *server) none(what string, argv ...string) error {
	if out := s.inside(argv...); out != "" {
		return fmt.Errorf("%s are left: %s", what, out)
	}
	return nil
}

const (
	rebootVolume   = "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"
	rebootDatabase = "databases: [{name: main, deletionPolicy: Delete}]"
)

// before writes the specs of a host that is to be rebooted.
func (s *server) before(generation string) {
	s.t.Helper()
	env := "environment: {GENERATION: " + strconv.Quote(generation) + "}"
	s.writeDurably("kept.yaml", s.guest("kept", "routes: [{host: kept.test, port: 8080}]", rebootVolume, rebootDatabase))
	s.writeDurably("gone.yaml", s.guest("gone", "routes: [{host: gone.test, port: 8080}]", rebootVolume, rebootDatabase))
	// Its guest ends with 0 when it is stopped: that is no completion.
	s.writeDurably("two.yaml", s.guest("left", "restartPolicy: OnFailure"), s.guest("right"))
	// One that runs, and one that has ended.
	s.writeDurably("never.yaml", s.guest("task", "restartPolicy: Never"), s.guest("done", "restartPolicy: Never", "command: [guest, done]"))
	s.writeDurably("changed.yaml", s.guest("changed", "routes: [{host: changed.test, port: 8080}]", rebootVolume, env))
	s.check(os.RemoveAll(s.specs("new.yaml")))
}

// whileOff changes them.
func (s *server) whileOff(generation string) {
	s.t.Helper()
	s.check(os.Remove(s.specs("gone.yaml")))
	s.writeDurably("two.yaml", s.guest("left", "restartPolicy: OnFailure"))
	s.writeDurably("changed.yaml", s.guest("changed", "routes: [{host: changed.test, port: 8080}]", rebootVolume, "environment: {GENERATION: "+strconv.Quote(generation)+"}"))
	s.writeDurably("new.yaml", s.guest("new", "routes: [{host: new.test, port: 8080}]"))
}

func (s *server) reboot(how string, off func(context.Context) error) {
	s.t.Helper()
	s.before("before " + how)
	old := s.all("kept", "gone", "left", "right", "changed", "task")
	done := s.statusOf(old["done"])
	for _, name := range []string{"kept", "gone"} {
		s.guestOf(old[name], "/append", "path", "/data/x", "data", how)
		s.guestOf(old[name], "/sql", "q", "CREATE TABLE IF NOT EXISTS t (x text)")
		s.guestOf(old[name], "/sql", "q", "INSERT INTO t VALUES ('"+how+"')")
	}
	data, rows := s.guestOf(old["kept"], "/read", "path", "/data/x"), s.guestOf(old["kept"], "/sql", "q", "SELECT count(*) FROM t")
	starts := s.starts(old["kept"])
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := off(ctx); err != nil {
		s.t.Fatalf("%s: %v", how, err)
	}
	s.whileOff("after " + how)
	s.check(s.host.PowerOn())
	now := s.all("kept", "left", "changed", "new", "task")
	if again := s.statusOf(now["done"]); again != done {
		s.t.Errorf("%s: what had ended was started again: its status was %s, is %s", how, done, again)
	}
	delete(now, "done")
	for _, name := range []string{"kept", "left", "changed", "task"} {
		if a, b := old[name], now[name]; a.Metadata.UID != b.Metadata.UID || name != "changed" && (a.Status.Address != b.Status.Address || a.Status.Slot != b.Status.Slot || a.Status.Machine != b.Status.Machine) {
			s.t.Errorf("%s: %s was %+v, is %+v", how, name, a, b)
		}
	}
	if got := s.guestOf(now["kept"], "/read", "path", "/data/x"); got != data {
		s.t.Errorf("%s: the volume holds %q, held %q", how, got, data)
	}
	if got := s.guestOf(now["kept"], "/sql", "q", "SELECT count(*) FROM t"); got != rows {
		s.t.Errorf("%s: %s rows, there were %s", how, got, rows)
	}
	for host, want := range map[string]string{"kept.test": "kept", "changed.test": "after " + how, "new.test": "new"} {
		if body := s.inside("curl", "-sSf", "-H", "Host: "+host, "http://127.0.0.1/"); !strings.Contains(body, strconv.Quote(want)) {
			s.t.Errorf("%s: %s is served by %s", how, host, body)
		}
	}
	if body, err := s.host.Run(ctx, "curl", "-sf", "-H", "Host: gone.test", "http://127.0.0.1/"); err == nil {
		s.t.Errorf("%s: gone.test is served: %s", how, body)
	}
	s.once(how, now, starts)
	s.cleaned(how, now)
}

// once: each machine runs, and was started by one of those who could have.
func (s *server) once(how string, now map[string]v1alpha1.Item, starts int) {
	s.t.Helper()
	if n := s.inside("sh", "-c", "pgrep -c '^systemd-nspawn$' || true"); n != strconv.Itoa(len(now)) {
		s.t.Errorf("%s: %s machines run for %d objects", how, n, len(now))
	}
	// What was written last may have gone with the power.
	if got := s.starts(now["kept"]); got > starts+1 || how == "orderly" && got != starts+1 {
		s.t.Errorf("%s: kept was started %d times before and %d times now", how, starts, got)
	}
	if n := s.starts(now["new"]); n != 1 {
		s.t.Errorf("%s: new was started %d times", how, n)
	}
}

// cleaned: nothing is left of what was removed while the host was off.
func (s *server) cleaned(how string, now map[string]v1alpha1.Item) {
	s.t.Helper()
	for _, name := range []string{"gone", "right"} {
		if err := s.noFiles(name); err != nil {
			s.t.Errorf("%s: of %s: %v", how, name, err)
		}
	}
	if n := s.guestOf(now["kept"], "/sql", "q", "SELECT count(*) FROM pg_database WHERE datname LIKE '%gone%'"); n != "0" {
		s.t.Errorf("%s: %s databases of gone are left", how, n)
	}
	// Of a machine that has ended for good both ends of the link are on the host.
	if n := strings.Count(s.inside("ip", "-o", "link", "show", "type", "veth"), "\n") + 1; n != len(now)+2 {
		s.t.Errorf("%s: %d links for %d objects", how, n, len(now))
	}
	if n := s.inside("sh", "-c", "nft list table inet tekton | grep -c 'gone\\|right' || true"); n != "0" {
		s.t.Errorf("%s: %s rules of what is gone", how, n)
	}
}
