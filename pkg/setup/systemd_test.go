package setup_test

import (
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/resource"
	"tekton.host/test/systemdhost"
)

// booted is a rig whose machine boots a systemd.
func booted(t *testing.T) *rig {
	t.Helper()
	return newRig(t, func(i *resource.Instance) {
		i.System, i.Command = resource.System{RootFS: systemdhost.Tree(t)}, nil
	})
}

func unitFile(name, text string) resource.SetupFile {
	return resource.SetupFile{Path: "/run/systemd/system/" + name, Mode: 0o644, Content: text}
}

// units are a setup that ends as told and a service that says what it was
// started with.
func units(setup string) []resource.SetupFile {
	return []resource.SetupFile{
		unitFile("app-setup.service", "[Service]\nType=oneshot\nEnvironmentFile=/etc/app.env\nExecStart=/bin/sh -c '"+setup+"'\n"),
		unitFile("app.service", "[Service]\nEnvironmentFile=/etc/app.env\nType=exec\nExecStart=/bin/sh -c 'echo $REVISION >>/var/starts; exec sleep infinity'\n"),
	}
}

func unitSetup(revision, script string) resource.Setup {
	env := resource.SetupFile{Path: "/etc/app.env", Mode: 0o400, Environment: []string{"REVISION=" + revision}}
	return resource.Setup{
		Revision: revision, Unit: "app-setup.service", Services: []string{"app.service"}, Files: append(units(script), env),
	}
}

// wantStarts waits until the service has been started with these revisions.
func (r *rig) wantStarts(want string) {
	r.t.Helper()
	r.eventually("starts with "+want, func() bool {
		got, _ := r.tryInside("cat", "/var/starts")
		return got == want
	})
}

// TestUnits: the setup unit first, then the services; a failed one leaves those
// that run; a new start of the machine starts them without a setup.
func TestUnits(t *testing.T) {
	r := booted(t)
	r.mustRun(unitSetup("r1", "echo migrating $REVISION; echo $REVISION >>/var/setups"))
	r.wantStarts("r1")
	r.wantInside("active", "systemctl", "is-active", "app.service")
	if !strings.Contains(r.log(), "migrating r1") {
		t.Errorf("the journal of the setup is not in the log:\n%s", r.log())
	}
	pid := r.inside("systemctl", "show", "--property=MainPID", "app.service")

	run := r.run(unitSetup("bad", "echo broken; exit 7"))
	if run.Reason != "SetupFailed" || !strings.Contains(run.Message, "ExecMainStatus=7") || run.Done != "r1" || run.Boot != r.unit.Boot {
		t.Errorf("%+v", run)
	}
	if log := strings.Join(run.Log, "\n"); !strings.Contains(log, "broken") {
		t.Errorf("the end of the log is %q", log)
	}
	r.wantInside(pid, "systemctl", "show", "--property=MainPID", "app.service")

	r.mustRun(unitSetup("r2", "echo $REVISION >>/var/setups"))
	r.wantStarts("r1\nr2")

	r.stop()
	r.start()
	r.mustRun(unitSetup("r2", "echo $REVISION >>/var/setups"))
	r.wantInside("r1\nr2", "cat", "/var/setups")
	r.wantStarts("r1\nr2\nr2")

	// Other variables alone restart the services, a hot file nothing. Units that
	// are as before stay untouched: systemd need not read all of its own anew.
	v := unitSetup("r2", "echo $REVISION >>/var/setups")
	read := r.inside("systemctl", "show", "--property=UnitsLoadTimestampMonotonic")
	unit := r.inside("stat", "--format=%i %z", "/run/systemd/system/app.service")
	v.Files[2].Environment = append(v.Files[2].Environment, "MORE=1")
	r.mustRun(v)
	r.wantStarts("r1\nr2\nr2\nr2")
	r.wantInside(unit, "stat", "--format=%i %z", "/run/systemd/system/app.service")
	r.wantInside(read, "systemctl", "show", "--property=UnitsLoadTimestampMonotonic")
	v.Files = append(v.Files, resource.SetupFile{Path: "/etc/token", Mode: 0o400, Content: "t1", Hot: true})
	r.mustRun(v)
	v.Files[3].Content = "t2"
	r.mustRun(v)
	r.wantInside("t2", "cat", "/etc/token")
	r.wantInside("r1\nr2", "cat", "/var/setups")
	if starts := r.inside("cat", "/var/starts"); starts != "r1\nr2\nr2\nr2" {
		t.Errorf("a hot file restarted the services: %q", starts)
	}
}

// TestRequiredSetup: services that require the setup run on while it is run
// again, also when it fails, and are started with it where it has not run yet. A
// signal is there before a setup only.
func TestRequiredSetup(t *testing.T) {
	r := booted(t)
	v := func(revision, script string) resource.Setup {
		v := unitSetup(revision, script)
		v.Files[0].Content = strings.Replace(v.Files[0].Content, "[Service]", "[Service]\nRemainAfterExit=yes", 1)
		v.Files[1].Content = "[Unit]\nRequires=app-setup.service\nAfter=app-setup.service\n" + v.Files[1].Content
		v.Files = append(v.Files, resource.SetupFile{Path: "/tmp/again", Mode: 0o644, User: "1000:1000", Signal: true})
		return v
	}
	const signalled = "ls /tmp/again >>/var/signals 2>&1 || echo none >>/var/signals; rm -f /tmp/again; "
	r.mustRun(v("r1", signalled))
	pid := r.inside("systemctl", "show", "--property=MainPID", "app.service")
	for _, revision := range []string{"bad", "worse"} { // once it is active, once failed
		if run := r.run(v(revision, "exit 1")); run.Reason != "SetupFailed" {
			t.Errorf("%+v", run)
		}
		r.wantInside(pid, "systemctl", "show", "--property=MainPID", "app.service")
	}
	r.mustRun(v("r2", signalled))
	r.wantStarts("r1\nr2")
	r.stop()
	r.start()
	r.mustRun(v("r2", signalled)) // the unit runs, as services require it
	r.wantStarts("r1\nr2\nr2")
	r.wantInside("/tmp/again\n/tmp/again\nls: cannot access '/tmp/again': No such file or directory\nnone", "cat", "/var/signals")
}

// TestRebootWithFailingSetup: what was set up before is started, whatever comes
// of the later revision.
func TestRebootWithFailingSetup(t *testing.T) {
	r := booted(t)
	r.mustRun(unitSetup("r1", "true"))
	r.run(unitSetup("bad", "exit 1"))
	r.stop()
	r.start()
	run := r.run(unitSetup("bad", "exit 1"))
	if run.Reason != "SetupFailed" || run.Boot != r.unit.Boot || run.Done != "r1" {
		t.Errorf("%+v", run)
	}
	r.wantInside("active", "systemctl", "is-active", "app.service")

	// One attempt that starts what was set up before, and then what it has set up,
	// tells the two apart: an answer of the one is none of the other.
	r.stop()
	r.start()
	r.check(r.put(unitSetup("r2", "until test -e /var/go; do sleep 0.05; done")))
	r.eventually("the services of before", func() bool {
		have, _ := r.have()
		run := have.Value.(resource.Setup).Run
		return run.Boot == r.unit.Boot || !run.Running
	})
	before := r.started()
	r.inside("touch", "/var/go")
	if run := r.ended(); run.Reason != "" || run.Done != "r2" || run.Started == before {
		t.Errorf("after start %d of the services: %+v", before, run)
	}
}

// TestHangingUnit is stopped at the deadline.
func TestHangingUnit(t *testing.T) {
	r := booted(t)
	v := unitSetup("r1", "echo waiting; sleep infinity")
	v.Deadline = resource.Duration(4 * time.Second)
	run := r.run(v)
	if run.Reason != resource.ReasonSetupTimeout || !strings.Contains(strings.Join(run.Log, "\n"), "waiting") {
		t.Errorf("%+v", run)
	}
	if state, _ := r.tryInside("systemctl", "is-active", "app-setup.service"); state == "activating" {
		t.Error("the setup goes on")
	}
	if state, _ := r.tryInside("systemctl", "is-active", "app.service"); state != "inactive" {
		t.Errorf("the service is %s before the setup has succeeded", state)
	}
}

// TestFailedService is named, with what it said; the next attempt does not touch
// the services that run.
func TestFailedService(t *testing.T) {
	r := booted(t)
	v := unitSetup("r1", "echo once >>/var/setups")
	v.Files = append(v.Files, unitFile("bad.service", "[Service]\nType=notify\nExecStart=/bin/sh -c 'echo no port; exit 4'\n"))
	v.Services = []string{"bad.service", "app.service"}
	run := r.run(v)
	if run.Reason != "ServiceFailed" || !strings.Contains(run.Message, "bad.service") || !strings.Contains(strings.Join(run.Log, "\n"), "no port") || run.Boot != "" || run.Done != "r1" {
		t.Errorf("%+v", run)
	}
	r.wantStarts("r1")
	r.inside("sh", "-c", "mkdir -p /run/systemd/system/bad.service.d && printf '[Service]\nType=exec\nExecStart=\nExecStart=/bin/sleep infinity\n' >/run/systemd/system/bad.service.d/fix.conf && systemctl daemon-reload")
	v.Attempt = 2
	r.mustRun(v)
	r.wantInside("once", "cat", "/var/setups")
	r.wantStarts("r1")
	r.wantInside("active", "systemctl", "is-active", "bad.service")
}

// TestSeed: after the setup, before the services, once for a database; one that
// fails holds the services back and is tried again.
func TestSeed(t *testing.T) {
	r := booted(t)
	seeding := func(revision, script string, oid uint32) resource.Setup {
		v := unitSetup(revision, "echo setup $REVISION >>/var/order")
		v.Files = append(v.Files, unitFile("seed.service", "[Service]\nType=oneshot\nEnvironmentFile=/etc/app.env\nExecStart=/bin/sh -c '"+script+"'\n"))
		v.Database = &resource.SetupDatabase{Name: "db", OID: oid, Seed: "seed.service"}
		return v
	}
	run := r.run(seeding("r1", "echo no rows; exit 9", 7))
	if run.Reason != "SeedFailed" || !strings.Contains(run.Message, "ExecMainStatus=9") || !strings.Contains(strings.Join(run.Log, "\n"), "no rows") || run.Seeded != 0 || run.Done != "" {
		t.Errorf("%+v", run)
	}
	if _, err := r.tryInside("cat", "/var/starts"); err == nil {
		t.Error("services were started before the database was seeded")
	}
	good := seeding("r1", "echo seed $REVISION >>/var/order", 7)
	good.Attempt = 2
	r.mustRun(good)
	r.wantStarts("r1")
	if have, _ := r.have(); have.Value.(resource.Setup).Run.Seeded != 7 || have.Value.(resource.Setup).Run.With != 7 {
		t.Errorf("%+v", have.Value.(resource.Setup).Run)
	}
	// Asked again, as PostgreSQL has not told yet; over a start; then of another database.
	r.mustRun(seeding("r2", "echo seed $REVISION >>/var/order", 7))
	r.stop()
	r.start()
	r.mustRun(seeding("r2", "echo seed $REVISION >>/var/order", 7))
	r.mustRun(seeding("r2", "echo seed $REVISION >>/var/order", 8))
	r.wantInside("setup r1\nsetup r1\nseed r1\nsetup r2\nsetup r2\nseed r2", "cat", "/var/order")
}

// TestPutBack: of a setup that fails nothing is what the services are that start
// again, by themselves or with the machine; and whoever goes back to what was set
// up before it gets all of that.
func TestPutBack(t *testing.T) {
	r := booted(t)
	withUser(r)
	m := newMirror(r)
	at := func(commit, script string) resource.Setup {
		v := m.setup(commit, "")
		u := unitSetup(commit, script)
		v.Command, v.Unit, v.Services, v.Files = nil, u.Unit, u.Services, u.Files
		v.Files[1].Content = "[Service]\nType=exec\nRestart=always\nRestartSec=0\nEnvironmentFile=/etc/app.env\nExecStart=/bin/sh -c 'echo $REVISION `cat /var/lib/app/src/word` >>/var/starts; exec sleep infinity'\n"
		return v
	}
	good, bad := m.commit("echo good >word"), m.commit("echo bad >word; touch more")
	const setUp = "echo $REVISION >>/var/setups"
	fails := func() {
		t.Helper()
		v := at(bad, "exit 3")
		v.Files[1].Content = strings.Replace(v.Files[1].Content, "echo ", "echo other ", 1)
		if run := r.run(v); run.Reason != "SetupFailed" || run.Done != good || run.Boot != r.unit.Boot {
			t.Errorf("%+v", run)
		}
		r.wantInside("word", "ls", "/var/lib/app/src")
	}
	start := good + " good"
	r.mustRun(at(good, setUp))
	r.wantStarts(start)
	fails()
	r.inside("systemctl", "kill", "--signal=KILL", "app.service")
	r.wantStarts(strings.Join([]string{start, start}, "\n"))
	r.stop()
	r.start()
	fails()
	r.wantStarts(strings.Join([]string{start, start, start}, "\n"))
	r.mustRun(at(good, setUp))
	r.wantInside(good+"\n"+good, "cat", "/var/setups")
	r.wantStarts(strings.Join([]string{start, start, start, start}, "\n"))
}
