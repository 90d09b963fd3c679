package setup_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/resource"
)

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

// TestCommand: files are delivered, the command runs with them and with the
// machine's environment, and the outcome is known to a driver that comes later.
func TestCommand(t *testing.T) {
	r := newRig(t, nil)
	token := r.secret("token", "canary-5e1f")
	token.Env = "TOKEN"
	r.mustRun(resource.Setup{
		Revision: "r1",
		Files: []resource.SetupFile{
			{Path: "/etc/app/env", Mode: 0o440, User: "nobody", Environment: []string{`QUOTED=a "b" $c`}, Secrets: []resource.Secret{token}},
			{Path: "/run/app/plain", Mode: 0o644, Content: "plain\n"},
		},
		Command: sh(`echo "$GREETING $QUOTED $TOKEN" >/var/tmp/out; id -un >>/var/tmp/out; pwd >>/var/tmp/out; echo said >/dev/stderr`), User: "nobody", WorkDir: "/run",
	})
	r.wantInside("hello a \"b\" $c canary-5e1f\nnobody\n/run", "cat", "/var/tmp/out")
	r.wantInside("440 nobody", "stat", "-c", "%a %U", "/etc/app/env")
	r.wantInside(`a "b" $c canary-5e1f`, "sh", "-c", `. /etc/app/env; echo "$QUOTED $TOKEN"`)
	r.wantInside("plain", "cat", "/run/app/plain")
	if !strings.Contains(r.log(), "said") {
		t.Errorf("what it said is not in the log: %s", r.log())
	}
	r.Driver = r.another()
	if have, _ := r.have(); have.Owner != owner || have.Value.(resource.Setup).Run.Done != "r1" {
		t.Errorf("a later driver sees %+v", have)
	}
	r.noCanary("canary-5e1f")
}

// noCanary looks for a secret in all that the host keeps, but the secret itself.
func (r *rig) noCanary(canary string) {
	r.t.Helper()
	err := filepath.WalkDir(r.layout.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, r.layout.Secrets) || strings.Contains(path, "/upper/") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(canary)) {
			r.t.Errorf("the secret is in %s", path)
		}
		return err
	})
	r.check(err)
}

// TestFailedCommand says why, and leaves what was done before as done.
func TestFailedCommand(t *testing.T) {
	r := newRig(t, nil)
	r.mustRun(resource.Setup{Revision: "r1", Command: []string{"true"}})
	started := r.started()
	run := r.run(resource.Setup{Revision: "r2", Command: sh("echo trouble; exit 3")})
	if run.Reason != "SetupFailed" || !strings.Contains(run.Message, "exit status 3: trouble") || run.Failures != 1 || run.Done != "r1" || run.Boot != r.unit.Boot {
		t.Errorf("%+v", run)
	}
	run = r.run(resource.Setup{Revision: "r2", Attempt: 2, Command: sh("echo trouble; exit 3")})
	if run.Failures != 2 {
		t.Errorf("%d failures, want 2", run.Failures)
	}
	run = r.run(resource.Setup{Revision: "r3", Command: []string{"no-such-program"}})
	if run.Failures != 1 || !strings.Contains(run.Message, "not found") {
		t.Errorf("%+v", run)
	}
	if got := r.started(); got != started {
		t.Errorf("start %d of the services, want %d still", got, started)
	}
	r.mustRun(resource.Setup{Revision: "r4", Command: []string{"true"}})
	if got := r.started(); got == started {
		t.Errorf("services started anew are not told from those of start %d", got)
	}
}

// TestHangingCommand ends at its deadline, with all that it started.
func TestHangingCommand(t *testing.T) {
	r := newRig(t, nil)
	const script = "setsid sleep 4242 & sleep 4242"
	run := r.run(resource.Setup{Revision: "r1", Command: sh(script), Deadline: resource.Duration(time.Second)})
	if run.Reason != resource.ReasonSetupTimeout || !strings.Contains(run.Message, "setting up took longer than 1s") {
		t.Errorf("%+v", run)
	}
	r.noneRuns("4242")
	// One that goes into the background does not keep the setup from its end.
	r.mustRun(resource.Setup{Revision: "r2", Command: sh("setsid sleep 4343 & true")})
	r.noneRuns("4343")
}

func (r *rig) noneRuns(word string) {
	r.t.Helper()
	r.eventually("the end of "+word, func() bool {
		out, err := exec.CommandContext(r.ctx, "pgrep", "-f", "sleep "+word).Output()
		return err != nil && len(out) == 0
	})
}

// TestKilledSetup: of one that is killed nothing is left, and it is seen as
// interrupted; the next attempt succeeds.
func TestKilledSetup(t *testing.T) {
	r := newRig(t, nil)
	v := resource.Setup{Revision: "r1", Command: sh("echo begun; sleep 4444")}
	r.check(r.put(v))
	r.eventually("its begin", func() bool { return strings.Contains(r.log(), "begun") })
	r.Driver = r.another() // the daemon was killed
	if have, _ := r.have(); !have.Value.(resource.Setup).Run.Running {
		t.Error("a later driver does not see that it runs")
	}
	s, _, err := r.supervisor.Status(r.Dir(app))
	r.check(err)
	r.check(syscall.Kill(s.PID, syscall.SIGKILL))
	if run := r.ended(); run.Reason != "Interrupted" || run.Done != "" {
		t.Errorf("%+v", run)
	}
	r.noneRuns("4444")
	v.Command, v.Attempt = []string{"true"}, 2
	r.mustRun(v)
}

// TestSuperseded: another revision ends the attempt for the one before, with all
// that this started, and is not held against the next.
func TestSuperseded(t *testing.T) {
	r := newRig(t, nil)
	r.check(r.put(resource.Setup{Revision: "r1", Command: sh("echo begun; setsid sleep 4545 & sleep 4545")}))
	r.eventually("its begin", func() bool { return strings.Contains(r.log(), "begun") })
	r.mustRun(resource.Setup{Revision: "r2", Command: []string{"true"}})
	r.noneRuns("4545")
}

// TestMachineEnds while it is set up; its next start is set up anew.
func TestMachineEnds(t *testing.T) {
	r := newRig(t, nil)
	v := resource.Setup{Revision: "r1", Command: sh("echo begun; sleep 4545")}
	r.check(r.put(v))
	r.eventually("its begin", func() bool { return strings.Contains(r.log(), "begun") })
	r.stop()
	if run := r.ended(); run.Reason != "MachineEnded" && run.Reason != "Interrupted" {
		t.Errorf("%+v", run)
	}
	if err := r.put(resource.Setup{Revision: "r2"}); !errors.Is(err, resource.ErrStale) {
		t.Errorf("a setup of a machine that does not run: %v", err)
	}
	r.start()
	v.Command = sh("echo once >>/var/tmp/count")
	r.mustRun(v)
	r.stop()
	r.start()
	r.mustRun(v)
	r.wantInside("once", "cat", "/var/tmp/count")
	v.Ephemeral = true
	r.mustRun(v)
	r.stop()
	r.start()
	r.mustRun(v)
	r.wantInside("once\nonce\nonce", "cat", "/var/tmp/count")
}

// TestPlantedLinks at the place of a file, and on the way to it, lead nowhere.
func TestPlantedLinks(t *testing.T) {
	r := newRig(t, nil)
	r.inside("sh", "-c", `
		mkdir -p /etc/real /var/lib/app/dir /etc/dir && chown 1234:1234 /var/lib/app /var/lib/app/dir
		echo 'app:x:1234:1234::/var/lib/app:/bin/sh' >>/etc/passwd
		echo untouched >/etc/real/target && ln -s /etc/real/target /etc/link && ln -s /etc/real /etc/way
		ln -s /etc /var/lib/app/way; ln /etc/real/target /etc/hard`)
	file := func(path, user string) resource.SetupFile {
		return resource.SetupFile{Path: path, Mode: 0o400, User: user, Content: "written"}
	}
	r.mustRun(resource.Setup{Revision: "r1", Files: []resource.SetupFile{file("/etc/link", ""), file("/etc/hard", ""), file("/var/lib/app/dir/new/file", "app")}})
	r.wantInside("untouched", "cat", "/etc/real/target")
	r.wantInside("regular file 400 root", "stat", "-c", "%F %a %U", "/etc/link")
	r.wantInside("400 app", "stat", "-c", "%a %U", "/var/lib/app/dir/new/file")
	for path, user := range map[string]string{
		"/etc/way/target": "", "/var/lib/app/way/planted": "app", "/etc/dir": "", "/usr/file": "", "/var/lib/app/../../etc/x": "app", "/var/lib/app/file": "", "/srv/x": "app", "/etc/x": "ghost",
	} {
		if path == "/var/lib/app/../../etc/x" {
			continue // is /etc/x, which root may write
		}
		run := r.run(resource.Setup{Revision: "r-" + path, Files: []resource.SetupFile{file(path, user)}})
		if run.Reason != "SetupFailed" {
			t.Errorf("%s of %q: %+v", path, user, run)
		}
	}
	r.wantInside("untouched", "cat", "/etc/real/target")
	if out, err := r.tryInside("ls", "/etc/planted"); err == nil {
		t.Errorf("a link in a home led to %s", out)
	}
}

// TestNothingLeaksIn: what runs inside has no file of the host but its streams.
func TestNothingLeaksIn(t *testing.T) {
	r := newRig(t, nil)
	r.mustRun(resource.Setup{Revision: "r1", Command: sh("ls -l /proc/self/fd; cat /proc/self/cgroup; exec 3<>/dev/null; env | sort")})
	log := r.log()
	for line := range strings.Lines(log) {
		if strings.Contains(line, " -> ") && !strings.Contains(line, "pipe:") && !strings.Contains(line, "/dev/null") && !strings.Contains(line, "/proc/") {
			t.Errorf("a file of the host is open inside: %s", line)
		}
	}
	r.mustRun(resource.Setup{Revision: "r2", Command: sh("grep -h CapBnd /proc/self/status /proc/1/status | uniq | wc -l >/var/tmp/sets")})
	r.wantInside("1", "cat", "/var/tmp/sets")
	for _, word := range []string{"TEKTON_", "memfd", "PWD=" + r.layout.State} {
		if strings.Contains(log, word) {
			t.Errorf("%s is seen inside:\n%s", word, log)
		}
	}
}

// TestForgotten: a setup that is not wanted ends, and nothing of it is left.
func TestForgotten(t *testing.T) {
	r := newRig(t, nil)
	r.check(r.put(resource.Setup{Revision: "r1", Command: sh("echo begun; sleep 4646")}))
	r.eventually("its begin", func() bool { return strings.Contains(r.log(), "begun") })
	have, _ := r.have()
	other := have
	other.Owner = "uid-other"
	if err := r.Apply(r.ctx, []resource.Step{{Verb: resource.Delete, Resource: other, Seen: &have}})[0]; err == nil {
		t.Error("another object's setup was removed")
	}
	r.check(r.Apply(r.ctx, []resource.Step{{Verb: resource.Delete, Resource: have, Seen: &have}})[0])
	r.noneRuns("4646")
	if _, found := r.have(); found {
		t.Error("it is still there")
	}
	if _, err := os.Stat(r.Dir(app)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
}

// TestWatch tells of the end of a setup.
func TestWatch(t *testing.T) {
	r := newRig(t, nil)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	told := make(chan struct{}, 100)
	go r.Driver.Watch(ctx, func() {
		select {
		case told <- struct{}{}:
		default:
		}
	})
	time.Sleep(50 * time.Millisecond)
	r.check(r.put(resource.Setup{Revision: "r1", Command: sh("sleep " + strconv.Itoa(1))}))
	for run := (resource.SetupRun{Job: resource.Job{Running: true}}); run.Running; {
		select {
		case <-told:
		case <-time.After(5 * time.Second):
			t.Fatal("nothing is told")
		}
		have, _ := r.have()
		run = have.Value.(resource.Setup).Run
	}
}
