package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/test/systemdhost"
)

// TestNixOSContainer lives through one: made, updated in place, started anew,
// left alone by a daemon that dies, and gone without a trace.
func TestNixOSContainer(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	route := "routes: [{host: web.test, port: 8080}]"
	k.write("web.yaml", k.box("web", k.system(1, ""), route))
	k.ready("web")
	a, err := k.served("web.test", "/")
	if err != nil || a.Generation != "1" || a.PID != 1 || a.Hostname != "web" {
		t.Errorf("%+v %v", a, err)
	}
	if files := k.confs(); len(files) != 1 || nameOf(files[0]) != k.instance+"-web" {
		t.Fatalf("configuration files: %q", files)
	}
	k.asNixOSHasIt("web")
	if out := k.must("exec", "web", "--", "/nix/store/"+k.instance+"-1/bin/guest", "done"); !strings.Contains(out, "all done") {
		t.Errorf("exec: %q", out)
	}
	if out := k.must("logs", "web"); !strings.Contains(out, "serving generation") {
		t.Errorf("logs: %q", out)
	}

	// Another system: a switch, in the machine that runs.
	leader, machine, address := k.containerLeader("web"), k.get("web").Status.Machine, k.get("web").Status.Address
	k.mustAsk("web", "/append", "path", "/var/kept", "data", "kept")
	k.write("web.yaml", k.box("web", k.system(2, ""), route))
	k.generationServed("web.test", "2")
	k.ready("web")
	if now := k.containerLeader("web"); now != leader {
		t.Errorf("the first process %s became %s", leader, now)
	}
	if got, own := k.mustAsk("web", "/read", "path", "/var/switched"), k.mustAsk("web", "/read", "path", "/proc/self/uid_map"); got != own {
		t.Errorf("what switches has the user ids %q, the container %q", got, own)
	}
	// More than that: a start, of the same machine at the same address.
	k.write("web.yaml", k.box("web", k.system(2, ""), route, "environment: {GREETING: hello}", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"))
	k.eventually("it has its environment", func() error {
		a, err := k.served("web.test", "/")
		if err == nil && a.env("GREETING") != "hello" {
			err = fmt.Errorf("%q", a.Env)
		}
		return err
	})
	k.ready("web")
	k.mustAsk("web", "/append", "path", "/data/x", "data", "x")
	if i := k.get("web"); i.Status.Machine != machine || i.Status.Address != address || k.containerLeader("web") == leader {
		t.Errorf("machine %s at %s became %s at %s", machine, address, i.Status.Machine, i.Status.Address)
	}
	if got := k.mustAsk("web", "/read", "path", "/var/kept"); got != "kept" {
		t.Errorf("the root's file reads %q", got)
	}

	// The daemon dies: nothing happens to the container, and the next one knows it.
	leader = k.containerLeader("web")
	k.signal(syscall.SIGKILL)
	k.mustServe("web.test")
	k.up()
	k.ready("web")
	k.settled()
	if now := k.containerLeader("web"); now != leader {
		t.Errorf("the new daemon started it again: %s became %s", leader, now)
	}
	k.must("restart", "web")
	k.eventually("it was started anew", func() error {
		if now := k.containerLeader("web"); now == leader || now == "" {
			return fmt.Errorf("first process %q", now)
		}
		return nil
	})
	k.ready("web")
	k.mustServe("web.test")
}

// asNixOSHasIt: files, links and rights are those of a container of NixOS.
func (k *tekton) asNixOSHasIt(name string) {
	k.t.Helper()
	full := k.instance + "-" + name
	conf := "/etc/nixos-containers/" + full + ".conf"
	for _, want := range []struct{ key, first, last string }{
		{"LOCAL_ADDRESS", k.get(name).Status.Address, ""}, {"PRIVATE_NETWORK", "1", "1"}, {"AUTO_START", "0", "0"}, {"SYSTEM_PATH", "/nix/store/" + k.instance + "-1", "/nix/store/" + k.instance + "-1"},
	} {
		if first, last := readConf(k.t.(*testing.T), conf, want.key); first != want.first || last != want.last {
			k.t.Errorf("%s is %q first and %q last, want %q and %q", want.key, first, last, want.first, want.last)
		}
	}
	if target, err := filepath.EvalSymlinks("/nix/var/nix/profiles/per-container/" + full + "/system"); target != "/nix/store/"+k.instance+"-1" {
		k.t.Errorf("its profile is %q (%v)", target, err)
	}
	if target, err := os.Readlink("/var/lib/nixos-containers/" + full); !strings.HasPrefix(target, k.state("volumes")) {
		k.t.Errorf("its root is %q (%v)", target, err)
	}
	if links := output("ip", "-o", "link", "show"); strings.Contains(links, "ve-"+full) {
		k.t.Errorf("the unit made a link:\n%s", links)
	}
	if state := k.unit(name, "ActiveState"); state != "active" {
		k.t.Errorf("its unit is %s", state)
	}
}

// TestNixOSContainerEnds: by itself, by hand and by force; each time it comes back.
func TestNixOSContainerEnds(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	k.write("web.yaml", k.box("web", k.system(1, ""), "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	unit := "container@" + k.instance + "-web.service"
	nspawn := func() string { return k.unit("web", "MainPID") }
	for what, end := range map[string]func(){
		"the first process is killed": func() { mustRun(t, "kill", "-KILL", k.containerLeader("web")) },
		"systemd-nspawn is killed":    func() { mustRun(t, "kill", "-KILL", nspawn()) },
		"all of it is killed":         func() { mustRun(t, "systemctl", "kill", "--signal=KILL", unit) },
		"it fails":                    func() { k.mustAsk("web", "/exit", "code", "3") },
		"it powers off":               func() { mustRun(t, "machinectl", "poweroff", k.instance+"-web") },
		"it is terminated":            func() { mustRun(t, "machinectl", "terminate", k.instance+"-web") },
		"it is stopped by hand":       func() { mustRun(t, "systemctl", "stop", unit) },
		"it is restarted by hand":     func() { mustRun(t, "systemctl", "restart", unit) },
		"systemd reads its units again": func() {
			k.check(os.WriteFile("/etc/systemd/system/"+unit, nil, 0o644)) // nothing to start
			mustRun(t, "systemctl", "daemon-reload")
			k.check(os.Remove("/etc/systemd/system/" + unit)) // and systemd does not know yet
			mustRun(t, "kill", "-KILL", nspawn())
		},
	} {
		before := k.containerLeader("web")
		end()
		k.eventually("it is back after: "+what, func() error {
			if now := k.containerLeader("web"); now == before || now == "" {
				return fmt.Errorf("first process %q; %s", now, k.unit("web", "ActiveState"))
			}
			_, err := k.served("web.test", "/")
			return err
		})
		k.ready("web")
	}
	// Switched off it stays off; on again it is there.
	k.write("web.yaml", k.box("web", k.system(1, ""), "routes: [{host: web.test, port: 8080}]", "enabled: false"))
	k.eventually("it is off", func() error {
		if s := k.unit("web", "ActiveState"); s != "inactive" {
			return fmt.Errorf("%s", s)
		}
		return nil
	})
	k.write("web.yaml", k.box("web", k.system(1, ""), "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
}

// TestNixOSContainerRollback: what does not come up, does not switch or ends is
// taken back to the system before.
func TestNixOSContainerRollback(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	for _, mode := range []string{"noswitch", "silent", "crash"} {
		route := fmt.Sprintf("routes: [{host: %s.test, port: 8080}]", mode)
		volume := "volumes: [{name: data, path: /data, deletionPolicy: Delete}]" // asks for a start, which a switch does not do
		if mode == "noswitch" {
			volume = "volumes: []"
		}
		probe := "probe: {http: {path: /ready, port: 8080}, deadline: 5s}"
		k.write(mode+".yaml", k.box(mode, k.system(1, ""), route, probe))
		k.ready(mode)
		k.write(mode+".yaml", k.box(mode, k.system(2, mode), route, probe, volume))
		k.eventually(mode+" is taken back", func() error {
			for _, c := range k.get(mode).Status.Conditions {
				if c.Type == v1alpha1.ConditionRolledBack && c.Status == v1alpha1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("%+v", k.get(mode).Status.Conditions)
		})
		k.generationServed(mode+".test", "1")
		k.write(mode+".yaml", k.box(mode, k.system(3, ""), route, probe, volume))
		k.generationServed(mode+".test", "3")
		k.ready(mode)
	}
}

// TestNixOSContainerUntrusted: nothing of the host's Nix but the store, and no
// way to take the covers off. What NixOS shows is there for a trusted one.
func TestNixOSContainerUntrusted(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	k.write("all.yaml", k.box("bad", k.system(1, "")), k.box("good", k.system(1, ""), "trust: trusted"))
	k.ready("bad", "good")
	for path, there := range map[string]string{
		"/nix/var/nix/daemon-socket/socket": "/nix/var/nix/daemon-socket", "/nix/var/nix/db/db.sqlite": "/nix/var/nix/db",
		"/nix/var/nix/profiles/system/init": "/nix/var/nix/profiles", "/nix/var/nix/gcroots/.": "/nix/var/nix/gcroots",
	} {
		if _, err := k.ask("good", "/stat", "path", path); err != nil {
			t.Errorf("control: a trusted one does not find %s: %v", path, err)
		}
		if out, err := k.ask("bad", "/stat", "path", path); err == nil && there != "/nix/var/nix/gcroots" {
			t.Errorf("an untrusted one finds %s: %s", path, out)
		}
		if out, err := k.ask("bad", "/umount", "path", there); err == nil {
			t.Errorf("an untrusted one takes the cover off %s: %s", there, out)
		}
		if out, err := k.ask("bad", "/link", "path", there+"/planted", "target", "/etc/shadow"); err == nil {
			t.Errorf("an untrusted one writes to %s: %s", there, out)
		}
		if out, err := k.ask("bad", "/list", "path", there); err == nil && out != "0" {
			t.Errorf("an untrusted one sees %s entries in %s", out, there)
		}
	}
	// What the unit's own script goes to on the host cannot be made a way out.
	for _, path := range []string{"/etc", "/etc/machine-id", "/root", "/usr", "/usr/bin", "/var", "/var/lib", "/var/lib/private"} {
		if out, err := k.ask("bad", "/replace", "path", path, "target", "/planted"); err == nil || !strings.Contains(err.Error(), "busy") {
			t.Errorf("an untrusted one replaces its %s: %s %v", path, out, err)
		}
		if out, err := k.ask("bad", "/umount", "path", path); err == nil {
			t.Errorf("an untrusted one unmounts its %s: %s", path, out)
		}
	}
	k.mustAsk("bad", "/append", "path", "/srv/x", "data", "x")
	if out, err := k.ask("bad", "/replace", "path", "/srv", "target", "/planted"); err != nil {
		t.Errorf("control: /srv cannot be replaced: %s %v", out, err)
	}
	if _, err := k.ask("bad", "/stat", "path", "/nix/store/"+k.instance+"-1/init"); err != nil {
		t.Errorf("the store is not there: %v", err)
	}
	uids, err := os.ReadFile("/proc/" + k.containerLeader("bad") + "/uid_map")
	k.check(err)
	if f := strings.Fields(string(uids)); len(f) != 3 || f[1] == "0" || f[2] != "65536" {
		t.Errorf("its user ids: %q", uids)
	}
	// Its root is root on the disk: nothing was given to the shifted ids.
	k.mustAsk("bad", "/append", "path", "/var/mine", "data", "x")
	if out := output("stat", "-L", "-c", "%u", "/var/lib/nixos-containers/"+k.instance+"-bad/var/mine"); strings.TrimSpace(out) != "0" {
		t.Errorf("a file of its root belongs to %s", out)
	}
}

// TestNixOSContainerForeign: names, files and links of others are left alone.
func TestNixOSContainerForeign(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	conf := "/etc/nixos-containers/" + k.instance + "-mine.conf"
	const text = "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nLOCAL_ADDRESS=10.233.1.2\nAUTO_START=0\n"
	k.check(os.MkdirAll(filepath.Dir(conf), 0o755))
	k.check(os.WriteFile(conf, []byte(text), 0o644))
	t.Cleanup(func() { os.Remove(conf) })
	link := "ve-" + k.instance + "-web"
	mustRun(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "x"+k.instance)
	t.Cleanup(func() { output("ip", "link", "del", link) })
	k.write("all.yaml", k.box("mine", k.system(1, "")), k.box("web", k.system(1, "")), k.box("a-name-of-many-characters", k.system(1, "")))
	k.ready("web", "a-name-of-many-characters")
	k.told("mine", v1alpha1.ConditionStarted, conf)
	if b, err := os.ReadFile(conf); err != nil || string(b) != text {
		t.Errorf("somebody else's file reads %q (%v)", b, err)
	}
	if links := output("ip", "-o", "link", "show"); !strings.Contains(links, link+"@") {
		t.Errorf("somebody else's link is gone:\n%s", links)
	}
	for _, c := range k.confs() {
		if len(nameOf(c)) > 11 {
			t.Errorf("%s is longer than NixOS allows", c)
		}
	}
	k.must("delete", "mine")
	k.gone("mine")
	if b, err := os.ReadFile(conf); err != nil || string(b) != text {
		t.Errorf("after the deletion it reads %q (%v)", b, err)
	}
	k.check(os.Remove(conf))
}
