package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// exposureMax is what systemd-analyze may say at most of the daemon's unit, in
// tenths; without what confines it, it says 96.
const exposureMax = "85"

// TestDaemonUnit runs the daemon from the unit that is installed: confined, its
// machines not, and restarted by the watchdog when its planner hangs.
func TestDaemonUnit(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return // it boots hosts
	}
	t.Parallel()
	s := newServer(t, "systemd", serverConfig)
	s.check(os.WriteFile(s.specs("app.yaml"), []byte(s.guest("app", "routes: [{host: app.test, port: 8080}]")), 0o644))
	app := s.all("app")["app"]

	if out, err := s.host.Run(t.Context(), "systemd-analyze", "security", "--no-pager", "--threshold="+exposureMax, "tektond.service"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	daemon := s.property("tektond.service", "MainPID")
	machine := s.property("tekton-"+app.Status.Machine+".service", "MainPID")
	of := func(pid, what string) string { return s.inside("sh", "-c", what, "", "/proc/"+pid) }
	const mounts, bounds = `readlink $1/ns/mnt`, `grep CapBnd $1/status`
	if of(machine, mounts) != of("1", mounts) || of(machine, bounds) != of("1", bounds) {
		t.Error("what confines the daemon confines its machines")
	}
	if of(daemon, mounts) == of("1", mounts) || of(daemon, bounds) == of("1", bounds) {
		t.Error("the daemon is not confined")
	}
	for _, path := range []string{"/etc", "/usr", "/home"} {
		if out, err := s.host.Run(t.Context(), "nsenter", "--target="+daemon, "--mount", "touch", path+"/x"); err == nil {
			t.Errorf("the daemon may write to %s%s", path, out)
		}
	}
	s.hang()
	if now := s.all("app")["app"]; now.Status.Machine != app.Status.Machine || s.starts(now) != 1 {
		t.Errorf("the machine was started anew: %+v", now.Status)
	}
	if now := s.property("tekton-"+app.Status.Machine+".service", "MainPID"); now != machine {
		t.Errorf("the machine's supervisor was %s, is %s", machine, now)
	}
}

func (s *server) property(unit, name string) string {
	s.t.Helper()
	return s.inside("systemctl", "show", "--value", "--property="+name, unit)
}

// hang has the planner stop for good, and waits until the daemon was started again.
func (s *server) hang() {
	s.t.Helper()
	dropIn := filepath.Join(s.t.TempDir(), "hang.conf")
	s.check(os.WriteFile(dropIn, []byte("[Service]\nWatchdogSec=2s\nEnvironment=TEKTON_FAILPOINT=hang:route.put\n"), 0o644))
	s.check(s.host.Copy(dropIn, "/etc/systemd/system/tektond.service.d/hang.conf"))
	s.inside("systemctl", "daemon-reload")
	s.inside("systemctl", "restart", "tektond.service")
	before := s.property("tektond.service", "NRestarts")
	s.check(os.WriteFile(s.specs("app.yaml"), []byte(s.guest("app", "routes: [{host: app.test, port: 8080}, {host: also.test, port: 8080}]")), 0o644))
	s.eventually("the watchdog has the daemon started again", func() error {
		restarts, err := strconv.Atoi(s.property("tektond.service", "NRestarts"))
		if first, _ := strconv.Atoi(before); err != nil || restarts <= first {
			return errors.Join(err, fmt.Errorf("%d restarts", restarts))
		}
		return nil
	})
	if log := s.inside("journalctl", "--no-pager", "--unit=tektond.service", "--grep=[Ww]atchdog timeout"); !strings.Contains(log, "atchdog") {
		s.t.Errorf("it was not the watchdog: %s", log)
	}
	if body := s.inside("curl", "-sSf", "-H", "Host: also.test", "http://127.0.0.1/"); !strings.Contains(body, "app") {
		s.t.Errorf("also.test: %s", body)
	}
}
