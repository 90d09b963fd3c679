package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// TestCrashLoop has machines crash at boot again and again, beside one that serves.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	pid := k.leader("web")
	crash := func(name string) string {
		return container(name, "system: {rootfs: "+k.rootfs+"}", "command: [guest, crash]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]")
	}
	const loops, crashes = 5, 4 // each
	names := make([]string, loops)
	for i := range names {
		names[i] = fmt.Sprintf("loop%d", i)
		k.write(names[i]+".yaml", crash(names[i]))
	}
	// held counts what a machine has on the host; what a start leaks adds up.
	held := func() (links int, rest string) {
		links = strings.Count(output("ip", "-o", "link", "show"), ": tk"+k.instance)
		dirs, _ := filepath.Glob(k.state("machines", "*"))
		volumes, _ := filepath.Glob(k.state("volumes", "container", "*"))
		return links, fmt.Sprintln(len(dirs), "directories", len(volumes), "volumes", strings.Count(k.mounts(), k.dir), "mounts")
	}
	for _, name := range names {
		k.condition(name, v1alpha1.ConditionStarted, "CrashLoopBackOff")
		k.told(name, v1alpha1.ConditionStarted, "exit code 7")
		k.told(name, v1alpha1.ConditionStarted, "cannot find my keys")
	}
	// A link has both of its ends on the host until the next start takes one.
	const mostLinks = 1 + 2*loops
	_, before := held()
	for _, name := range names {
		k.eventually(fmt.Sprintf("%s has crashed %d times", name, crashes), func() error {
			if n := k.get(name).Status.Restarts; n < crashes {
				return fmt.Errorf("%d times", n)
			}
			return nil
		})
	}
	k.eventually("all wait", func() error {
		if links, now := held(); links > mostLinks || now != before {
			return fmt.Errorf("before: %s now: %d links (at most %d) %s", before, links, mostLinks, now)
		}
		for _, dir := range k.cgroups() {
			if inside, _ := filepath.Glob(dir + "/main*"); strings.Contains(dir, ".loop") && len(inside) > 0 {
				return fmt.Errorf("cgroups of ended machines: %s", inside)
			}
		}
		return nil
	})
	if a, err := k.served("web.test", "/"); err != nil || k.leader("web") != pid {
		t.Errorf("the other machine: %+v %v", a, err)
	}
	for _, name := range names {
		k.backedOff(k.get(name).Status.Machine)
	}
	// Repaired, it runs at once; deleted, it is gone at once, whatever its turn.
	k.write("loop0.yaml", k.guest("loop0"))
	k.ready("loop0")
	for _, name := range names[1:] {
		k.must("delete", name)
	}
	k.gone(names[1:]...)
}

// backedOff: as the daemon's log has recorded them, each start of a machine that
// crashes comes after a longer pause than the one before: 1 s, doubling (±20 %
// where the start itself has failed).
func (k *tekton) backedOff(machine string) {
	k.t.Helper()
	log, err := os.ReadFile(k.path("log"))
	k.check(err)
	var starts []time.Time
	for line := range strings.Lines(string(log)) {
		ended := strings.Contains(line, "\tdone\t") || strings.Contains(line, "\tfailed\t")
		if !ended || !strings.Contains(line, `"action": "put", "resource": "unit/`+machine+`"`) {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04:05.000Z0700", line[:strings.IndexByte(line, '\t')])
		k.check(err)
		starts = append(starts, at)
	}
	if len(starts) < 4 {
		k.t.Errorf("of %s only %d starts are recorded", machine, len(starts))
	}
	for i := range starts[:max(len(starts)-1, 0)] {
		least := time.Second << i * 4 / 5
		if pause := starts[i+1].Sub(starts[i]); pause < least {
			k.t.Errorf("%s: start %d came %s after the one before, want at least %s", machine, i+2, pause, least)
		}
	}
}

// TestStaleLink finds a link in its place: of a predecessor that was killed,
// and of somebody else.
func TestStaleLink(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", "routes: [{host: app.test, port: 8080}]"))
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("app", "web")
	link := "tk" + k.instance + strconv.Itoa(k.get("app").Status.Slot)
	_, alias, _ := strings.Cut(mustRun(t, "ip", "link", "show", "dev", link), "alias ")
	mark, _, _ := strings.Cut(alias, " ")
	replace := func(alias string) {
		k.signal(syscall.SIGKILL)
		mustRun(t, "kill", "-KILL", strings.Fields(k.nspawnOf("app-1"))[0])
		exec.Command("ip", "link", "del", link).Run()
		mustRun(t, "ip", "link", "add", link, "type", "veth", "peer", "name", link+"x")
		mustRun(t, "ip", "address", "add", "192.0.2.9/32", "dev", link)
		if alias != "" {
			mustRun(t, "ip", "link", "set", link, "alias", alias)
		}
		k.up()
	}
	served := func() {
		t.Helper()
		k.eventually("app is served", func() error { _, err := k.served("app.test", "/"); return err })
		k.ready("app", "web")
	}
	replace(mark + " app-1 attached")
	served()
	if a := output("ip", "-o", "address", "show", "dev", link); strings.Contains(a, "192.0.2.9") {
		t.Errorf("the stale link's address is there: %s", a)
	}
	replace("")
	k.told("app", v1alpha1.ConditionNetworkReady, link)
	k.mustServe("web.test")
	if a := output("ip", "-o", "address", "show", "dev", link); !strings.Contains(a, "192.0.2.9") {
		t.Errorf("somebody else's link was changed: %s", a)
	}
	mustRun(t, "ip", "link", "del", link)
	served()
}

// nspawnOf is the process that runs a machine, found without the daemon.
func (k *tekton) nspawnOf(machine string) string {
	k.t.Helper()
	for _, line := range k.machines() {
		if strings.Contains(line, "--machine="+machine+" ") {
			return line
		}
	}
	k.t.Fatalf("%s does not run", machine)
	return ""
}

// TestLeftovers deletes a machine with mounts and immutable files in its directories.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"))
	k.ready("app")
	k.mustAsk("app", "/append", "path", "/data/var/empty/file", "data", "x")
	k.mustAsk("app", "/append", "path", "/var/empty/deep/file", "data", "x")
	machine := k.state("machines", k.get("app").Status.Machine)
	precious := k.path("precious")
	k.check(os.MkdirAll(precious, 0o755))
	k.check(os.WriteFile(precious+"/file", []byte("precious"), 0o644))
	for _, dir := range []string{"upper/srv/bind", "upper/srv/tmpfs", "looked at"} {
		k.check(os.MkdirAll(filepath.Join(machine, dir), 0o755))
	}
	mustRun(t, "mount", "--bind", precious, machine+"/upper/srv/bind")
	mustRun(t, "mount", "-t", "tmpfs", "tmpfs", machine+"/upper/srv/tmpfs")
	mustRun(t, "mount", "-t", "overlay", "overlay", "-o", "lowerdir="+precious+":"+k.rootfs, machine+"/looked at")
	volume := k.state("volumes", "container", "app", "data")
	for _, path := range []string{machine + "/upper/var/empty/deep/file", machine + "/upper/var/empty", volume + "/var/empty/file", volume + "/var/empty", volume} {
		mustRun(t, "chattr", "+i", path)
	}
	k.must("delete", "app")
	k.gone("app")
	k.eventually("nothing is left", k.nothingLeft)
	if _, err := os.Lstat(machine); err == nil {
		t.Errorf("%s is there", machine)
	}
	if b, err := os.ReadFile(precious + "/file"); err != nil || string(b) != "precious" {
		t.Errorf("the file behind a mount: %q %v", b, err)
	}
	list := k.must("data", "list")
	id, _, _ := strings.Cut(list[strings.Index(list, "volume:"):], " ")
	k.must("data", "delete", id)
	if left, _ := filepath.Glob(k.state("trash", "*volume*")); len(left) > 0 {
		t.Errorf("in the trash: %s", left)
	}
}
