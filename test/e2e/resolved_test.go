package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// TestHostNames has the host itself resolve names of machines.
func TestHostNames(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return // it boots hosts
	}
	t.Parallel()
	s := newServer(t, "systemd", serverConfig+"  dns: {resolved: true}\n")
	// As on a host that uses it: with a file of others' systemd-resolved takes the servers there for its own.
	s.inside("ln", "-sfn", "/run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
	s.inside("systemctl", "unmask", "systemd-resolved.service")
	s.inside("systemctl", "start", "systemd-resolved.service")
	dropIns := func() string {
		return s.inside("sh", "-c", "ls -d /run/systemd/resolved.conf.d/* /etc/systemd/resolved.conf.d/* 2>/dev/null || true")
	}
	s.check(os.WriteFile(s.specs("app.yaml"), []byte(s.guest("app")), 0o644))
	s.eventually("app is Ready", func() error {
		items, err := s.items()
		if err == nil && items["app"].Status.Phase != v1alpha1.PhaseReady {
			err = fmt.Errorf("%+v", items["app"].Status)
		}
		return err
	})
	s.eventually("it is said that no link has a server", func() error {
		if log := s.inside("journalctl", "--no-pager", "--unit=tektond.service"); !strings.Contains(log, "names of machines are not resolved on the host") {
			return fmt.Errorf("the log says nothing")
		}
		return nil
	})
	if got := dropIns(); got != "" {
		t.Errorf("a drop-in is there: %s", got)
	}
	for _, c := range []string{"ip link add wan type veth peer name net", "ip address add 192.0.2.1/24 dev wan", "ip link set net up", "ip link set wan up", "resolvectl dns wan 192.0.2.53", "systemctl reload tektond.service"} {
		s.inside(strings.Fields(c)...)
	}
	app := s.all("app")["app"]
	s.eventually("the host resolves the machine's name", func() error {
		out, err := s.host.Run(s.t.Context(), "resolvectl", "--no-pager", "query", "--legend=no", "app.tekton.internal")
		if err == nil && !strings.Contains(out, app.Status.Address) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	if got := dropIns(); got != "/run/systemd/resolved.conf.d/tekton.conf" {
		t.Errorf("drop-ins: %s", got)
	}
	if out, err := s.host.Run(t.Context(), "resolvectl", "--no-pager", "query", "none.tekton.internal"); err == nil {
		t.Errorf("a name that nobody has: %s", out)
	}
	s.all("app") // nothing is to be done
	s.inside(systemdhost.ProgramsDir+"/tekton", "delete", "app")
	s.all()
	s.eventually("the drop-in is gone", func() error {
		if got := dropIns(); got != "" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	if out := s.inside("resolvectl", "--no-pager", "dns"); strings.Contains(out, "10.100.0.1") {
		t.Errorf("systemd-resolved still asks us: %s", out)
	}
	if out, err := s.host.Run(t.Context(), "test", "-e", "/run/systemd/resolved.conf.d"); err == nil {
		t.Errorf("the directory is left %s", out)
	}
}
