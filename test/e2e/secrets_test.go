package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/test/systemdhost"
)

// secretTest follows values that nobody but one machine may see.
type secretTest struct {
	*tekton
	canary string   // begins every secret
	values []string // what is looked for: the canary, passwords of databases
	since  time.Time
	traces string // directory of what strace wrote, where the machine's own command has its variables
}

// TestSecrets leads secrets through the life of an object, its failures too,
// and looks for them in all other places, also in the arguments and environment
// of every program that starts meanwhile.
func TestSecrets(t *testing.T) {
	k := start(t, "readSocketGroup: nogroup")
	s := &secretTest{tekton: k, canary: "canary-" + k.instance + "-of-the-secret-", since: time.Now(), traces: t.TempDir()}
	s.values = []string{s.canary}
	programs := s.traced()
	const credentials = "credentials: [{name: token}, {name: key, path: /run/keys/key}, {name: third, env: THIRD}]"
	app := []string{credentials, "user: app", "databases: [{name: main, deletionPolicy: Delete}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"}
	k.write("app.yaml", k.guest("app", app...))
	k.write("other.yaml", k.guest("other"))
	k.condition("app", v1alpha1.ConditionSecretsReady, "SecretMissing")
	for _, name := range []string{"token", "key", "third"} {
		s.set(name, name)
	}
	k.ready("app", "other")
	s.delivered()
	s.stored()
	s.leaks("created", "app")

	bare := "system: {rootfs: " + k.rootfs + "}"
	k.write("failing.yaml", container("missing", bare, credentials, "command: [no-such-command]"), container("crash", bare, credentials, "command: [guest, crash]"))
	for _, name := range []string{"missing", "crash"} {
		k.condition(name, v1alpha1.ConditionStarted, "CrashLoopBackOff")
	}
	s.leaks("failing", "app", "missing", "crash")
	k.remove("failing.yaml")
	k.gone("missing", "crash")

	k.write("app.yaml", k.guest("app", append(app, `environment: {GENERATION: "2"}`)...))
	k.generation("app", "2")
	s.rotated()
	k.signal(syscall.SIGKILL)
	s.leaks("the daemon is dead")
	k.up()
	more := s.traced()
	k.ready("app")
	s.leaks("after a kill of the daemon", "app")
	k.must("delete", "app")
	k.gone("app")
	s.leaks("deleted")
	s.executed(programs(), more())
	s.undumped()
}

func (s *secretTest) set(name, value string) {
	s.t.Helper()
	_, err := s.runWith(s.canary+value, "secret", "set", name)
	s.check(err)
}

// delivered: the machine has what is for it, and the other one has not.
func (s *secretTest) delivered() {
	s.t.Helper()
	for path, name := range map[string]string{"/run/credentials/token": "token", "/run/keys/key": "key"} {
		if got := s.mustAsk("app", "/read", "path", path); got != s.canary+name {
			s.t.Errorf("%s holds %q", path, got)
		}
		const tmpfs = "1021994"
		if got, want := s.mustAsk("app", "/stat", "path", path), "0400 uid=1000 fs="+tmpfs; got != want {
			s.t.Errorf("%s is %s, expected %s", path, got, want)
		}
		if _, err := s.ask("other", "/read", "path", path); err == nil || !strings.Contains(err.Error(), "no such file") {
			s.t.Errorf("%s of another machine: %v", path, err)
		}
	}
	if got := s.aboutOf("app").env("THIRD"); got != s.canary+"third" {
		s.t.Errorf("the variable holds %q", got)
	}
	if got := strings.Join(s.aboutOf("other").Env, " "); strings.Contains(got, s.canary) || strings.Contains(got, "DATABASE_URL") {
		s.t.Errorf("another machine has %s", got)
	}
}

// stored: each secret and password is a file of root alone. From here on the
// passwords are looked for too.
func (s *secretTest) stored() {
	s.t.Helper()
	for _, dir := range []string{s.state("secrets"), s.state("passwords")} {
		found := 0
		s.check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if st := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != want || st.Uid != 0 || st.Gid != 0 {
				s.t.Errorf("%s: mode %o, owner %d:%d", path, info.Mode().Perm(), st.Uid, st.Gid)
			}
			if info.Mode().IsRegular() && filepath.Dir(path) == dir {
				found++
				b, err := os.ReadFile(path)
				if s.check(err); dir == s.state("passwords") {
					s.values = append(s.values, string(b))
				}
			}
			return nil
		}))
		if found == 0 {
			s.t.Errorf("nothing is in %s", dir)
		}
	}
	url := s.aboutOf("app").env("DATABASE_URL")
	if !strings.Contains(url, s.values[len(s.values)-1]) {
		s.t.Errorf("DATABASE_URL %q has another password than the one that is stored", url)
	}
}

// rotated: a new value comes with a new machine.
func (s *secretTest) rotated() {
	s.t.Helper()
	s.ready("app")
	machine := s.get("app").Status.Machine
	s.set("token", "rotated")
	s.eventually("a new machine has the rotated secret", func() error {
		got, err := s.ask("app", "/read", "path", "/run/credentials/token")
		if err == nil && got != s.canary+"rotated" {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
	s.ready("app")
	if s.get("app").Status.Machine == machine {
		s.t.Error("the rotated secret came to the old machine")
	}
}

// leaks looks for the values where none may be.
func (s *secretTest) leaks(when string, objects ...string) {
	s.t.Helper()
	said := map[string]string{}
	asks := [][]string{{"get", "-o", "yaml"}, {"get", "-o", "json"}, {"plan"}, {"plan", "-f", s.specs("app.yaml")}, {"secret", "list"}, {"data", "list"}, {"events"}}
	readers := []string{"--socket", s.path("run/read.sock")}
	for _, args := range asks[:3] {
		asks = append(asks, slices.Concat(readers, args))
	}
	for _, o := range objects {
		asks = append(asks, []string{"describe", o}, []string{"logs", o}, slices.Concat(readers, []string{"describe", o}))
	}
	for _, args := range asks {
		out, err := s.run(args...)
		said["tekton "+strings.Join(args, " ")] = out + fmt.Sprint(err)
	}
	said["the kernel's log"] = output("dmesg")
	if systemdhost.Inside() {
		said["the journal"] = output("journalctl", "--no-pager", "-o", "export")
		said["the units"] = output("systemctl", "show", "*")
	}
	s.running(said)
	s.files(said, s.dir, s.state("secrets"), s.state("passwords"), s.rootfs, s.path("run", "containers"))
	for _, dir := range []string{"/run", "/dev/shm", "/tmp", "/var/log", "/var/lib/systemd/coredump"} {
		s.files(said, dir, s.dir, s.traces)
	}
	for where, text := range said {
		for _, v := range s.values {
			if strings.Contains(text, v) {
				s.t.Errorf("%s: a secret is in %s", when, where)
			}
		}
	}
}

// running are command lines and environments of all processes. Those of the
// machine's own command have the variables that are for it.
func (s *secretTest) running(said map[string]string) {
	s.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	s.check(err)
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		said["the command line "+string(cmdline)] = string(cmdline)
		if env, err := os.ReadFile(dir + "/environ"); err == nil && !strings.HasPrefix(string(cmdline), "guest\x00") {
			said["the environment of "+string(cmdline)] = string(env)
		}
	}
}

// files are those below dir that changed since the test began, which no other test runs beside.
func (s *secretTest) files(said map[string]string, dir string, but ...string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what goes while we look
		}
		for _, b := range but {
			if path == b {
				return fs.SkipDir
			}
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() < 64<<20 && info.ModTime().After(s.since) {
			if b, err := os.ReadFile(path); err == nil {
				said[path] = string(b)
			}
		}
		return nil
	})
}

// traced follows every program that the daemon starts, and under systemd what
// systemd starts, until the returned function is called, which tells of them.
func (s *secretTest) traced() func() string {
	s.t.Helper()
	name := filepath.Join(s.traces, fmt.Sprint(s.daemon.Process.Pid))
	pids := []string{fmt.Sprint(s.daemon.Process.Pid)}
	if systemdhost.Inside() {
		pids = append(pids, "1")
	}
	cmd := exec.Command("strace", "-f", "-qq", "-e", "trace=execve,execveat", "-s", "100000", "-v", "-o", name, "-p", strings.Join(pids, ","))
	s.check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	end := func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		ended <- nil
	}
	s.t.Cleanup(end)
	for _, pid := range pids {
		s.eventually("strace follows "+pid, func() error {
			threads, _ := filepath.Glob("/proc/" + pid + "/task/*/status")
			for _, path := range threads {
				if b, err := os.ReadFile(path); err == nil && regexp.MustCompile(`TracerPid:\s+0\n`).Match(b) {
					return fmt.Errorf("%s has no tracer", path)
				}
			}
			return nil
		})
	}
	return func() string {
		end()
		b, err := os.ReadFile(name)
		s.check(err)
		return string(b)
	}
}

// executed: no program was given a secret as argument; as a variable only the
// machine's command had those that are for it.
func (s *secretTest) executed(traces ...string) {
	s.t.Helper()
	own := 0
	for line := range strings.Lines(strings.Join(traces, "")) {
		argv, env, whole := strings.Cut(line, "], [")
		if !whole {
			continue // its end, or the end of a process
		}
		isGuest := strings.Contains(argv, `["guest", "serve"`) || strings.Contains(argv, `["guest", "crash"`)
		for _, v := range s.values {
			if strings.Contains(argv, v) {
				s.t.Errorf("a secret is in the arguments %s", argv)
			}
			if strings.Contains(env, v) && !isGuest {
				s.t.Errorf("a secret is in the environment of %s", argv)
			}
			if strings.Contains(env, v) && isGuest {
				own++
			}
		}
	}
	for _, want := range []string{"tekton-launch", "systemd-nspawn", `"guest", "serve"`, `"guest", "crash"`} {
		if !strings.Contains(traces[0], want) {
			s.t.Errorf("control: the start of %s was not seen in:\n%.2000s", want, traces[0])
		}
	}
	if own == 0 {
		s.t.Error("control: the machine's own command was not seen with its variables")
	}
}

// undumped: the memory of the daemon, which has read the secrets, is not
// written to a disk when it crashes, and metrics do not tell of them.
func (s *secretTest) undumped() {
	s.t.Helper()
	for _, socket := range []string{"tekton.sock", "read.sock"} {
		metrics, err := overSocket(s.path("run", socket), "/metrics")
		s.check(err)
		if !strings.Contains(metrics, "tekton_host_read 1") || strings.Contains(metrics, s.canary) {
			s.t.Errorf("metrics on %s tell:\n%s", socket, metrics)
		}
	}
	s.signal(syscall.SIGTERM)
	crash := func(cmd *exec.Cmd, ready func() error) bool {
		cmd.Dir = s.t.TempDir()
		s.check(cmd.Start())
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		s.check(unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &unlimited, nil))
		s.eventually("the program runs", ready)
		s.check(cmd.Process.Signal(syscall.SIGABRT))
		cmd.Wait()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() {
			s.t.Errorf("%s has not crashed: %v", cmd.Path, cmd.ProcessState)
		}
		return status.CoreDump()
	}
	if !crash(exec.Command("sleep", "1000"), func() error { return nil }) {
		s.t.Log("this host writes no core dumps at all")
	}
	daemon := s.command()
	daemon.Env = append(daemon.Env, "GOTRACEBACK=crash")
	if crash(daemon, func() error { _, err := s.run("get"); return err }) {
		s.t.Error("the daemon's memory is dumped when it crashes")
	}
	s.up()
}
