package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/supervise/supervisetest"
)

// patience is how long something may take that has to come about. It is far
// above what it takes on a busy machine with two cores.
const patience = 60 * time.Second

// tekton is one installation: a daemon with directories, instance and subnet of its own.
type tekton struct {
	t        testing.TB
	programs string
	dir      string // everything is below it
	instance string
	n        int // makes subnet and ports
	rootfs   string
	extra    string // further lines of Host.spec
	runtime  string // of guests, nspawn when empty
	subnet   string
	daemon   *exec.Cmd
	ended    chan error
	keep     bool  // the test looks after the end itself
	disk     *disk // that the state directory lies on, if it has one of its own
}

var count atomic.Int32

// start runs a daemon; extra are lines of Host.spec.
func start(t testing.TB, extra ...string) *tekton {
	t.Helper()
	k := prepare(t, extra...)
	k.up()
	return k
}

// prepare makes the directories of an installation and no daemon.
func prepare(t testing.TB, extra ...string) *tekton {
	t.Helper()
	supervisetest.Root(t, "systemd-nspawn", "ip", "nft", "caddy", "findmnt")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	k := &tekton{t: t, programs: dir, n: int(count.Add(1)), extra: strings.Join(extra, "\n  ")}
	k.subnet = fmt.Sprintf("10.%d.0.0/16", 20+k.n)
	const letters = "abcdefghijklmnopqrstuvwxyz"
	// Cgroups are the whole machine's: another test process must not have the same name.
	k.instance = "t"
	for range 3 {
		k.instance += letters[rand.IntN(26):][:1]
	}
	// A socket's path has room for 107 bytes, which rules t.TempDir out.
	if k.dir, err = os.MkdirTemp("", "tk"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.end)
	k.check(os.Chmod(k.dir, 0o711))
	k.check(os.MkdirAll(k.specs(), 0o755))
	k.rootfs = filepath.Join(k.dir, "image")
	k.check(os.MkdirAll(filepath.Join(k.rootfs, "usr/bin"), 0o755))
	guest, err := os.ReadFile(filepath.Join(dir, "guest"))
	k.check(err)
	k.check(os.WriteFile(filepath.Join(k.rootfs, "usr/bin/guest"), guest, 0o755))
	k.check(os.MkdirAll(filepath.Join(k.rootfs, "etc"), 0o755))
	k.check(os.WriteFile(filepath.Join(k.rootfs, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"), 0o644))
	k.writeConfig()
	return k
}

func (k *tekton) writeConfig() {
	k.t.Helper()
	lines := []string{
		"apiVersion: tekton.host/v1alpha1", "kind: Host", "spec:",
		"  instance: " + k.instance, "  stateDir: " + k.state(), "  runDir: " + k.path("run"), "  subnet: " + k.subnet,
		"  runtime: {supervisor: " + form() + ", seccomp: false}",
		fmt.Sprintf(`  ingress: {httpPort: %d, httpsPort: 0, tls: "off"}`, k.httpPort()),
	}
	if k.extra != "" {
		lines = append(lines, "  "+k.extra)
	}
	k.check(os.WriteFile(k.path("host.yaml"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

func (k *tekton) path(p ...string) string  { return filepath.Join(append([]string{k.dir}, p...)...) }
func (k *tekton) state(p ...string) string { return k.path(append([]string{"state"}, p...)...) }
func (k *tekton) specs(p ...string) string { return k.state(append([]string{"specs"}, p...)...) }
func (k *tekton) httpPort() int            { return 18000 + k.n }

// service is the address where machines find the host's services.
func (k *tekton) service() string {
	return strings.TrimSuffix(k.subnet[:strings.Index(k.subnet, "/")], "0") + "1"
}

func (k *tekton) check(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// command prepares a run of the daemon.
func (k *tekton) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(k.programs, "tektond"), append([]string{"--config", k.path("host.yaml")}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	// A group of its own, as it would have under an init: signals to it are its alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// up starts the daemon and waits until it answers; env are further variables.
func (k *tekton) up(env ...string) {
	k.t.Helper()
	k.launch(env...)
	k.eventually("the daemon answers", func() error {
		select {
		case err := <-k.ended:
			k.ended <- err
			k.t.Fatalf("the daemon ended: %v\n%s", err, k.log())
		default:
		}
		_, err := k.run("get")
		return err
	})
}

// launch starts the daemon and does not wait.
func (k *tekton) launch(env ...string) {
	k.t.Helper()
	log, err := os.OpenFile(k.path("log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	k.check(err)
	defer log.Close()
	cmd, ended := k.command("-v", "1"), make(chan error, 1)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = log, log
	k.check(cmd.Start())
	k.daemon, k.ended = cmd, ended
	go func() { ended <- cmd.Wait() }()
}

// signal sends a signal to the daemon and waits for its end.
func (k *tekton) signal(sig syscall.Signal) {
	k.t.Helper()
	k.daemon.Process.Signal(sig)
	k.awaitEnd()
}

func (k *tekton) awaitEnd() {
	k.t.Helper()
	select {
	case err := <-k.ended:
		k.ended <- err
	case <-time.After(patience):
		k.t.Fatal("the daemon does not end")
	}
}

func (k *tekton) running() bool {
	if k.daemon == nil {
		return false
	}
	select {
	case err := <-k.ended:
		k.ended <- err
		return false
	default:
		return true
	}
}

func (k *tekton) log() string {
	b, err := os.ReadFile(k.path("log"))
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return strings.Contains(l, "API request") })
	return strings.Join(lines[max(0, len(lines)-150):], "\n")
}

// run runs the command line tool; the error has what it said.
func (k *tekton) run(args ...string) (string, error) { return k.runWith("", args...) }

func (k *tekton) runWith(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(k.programs, "tekton"), append([]string{"--socket", k.path("run/tekton.sock")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("tekton %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return stdout.String(), nil
}

func (k *tekton) must(args ...string) string {
	k.t.Helper()
	out, err := k.run(args...)
	k.check(err)
	return out
}

// exitCode of a run of the command line tool.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

func (k *tekton) api() *client.Client { return client.New(k.path("run/tekton.sock")) }

var errNotThere = errors.New("there is no such object")

// item is what the API says of an object.
func (k *tekton) item(name string) (v1alpha1.Item, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	items, err := k.api().List(ctx)
	if err != nil {
		return v1alpha1.Item{}, err
	}
	for _, i := range items {
		if i.Metadata.Name == name {
			return i, nil
		}
	}
	return v1alpha1.Item{}, fmt.Errorf("%s: %w", name, errNotThere)
}

func (k *tekton) get(name string) v1alpha1.Item {
	k.t.Helper()
	i, err := k.item(name)
	k.check(err)
	return i
}

// ready waits until objects are Ready as of their newest spec.
func (k *tekton) ready(names ...string) {
	k.t.Helper()
	for _, name := range names {
		k.eventually(name+" is Ready", func() error {
			i, err := k.item(name)
			if err != nil {
				return err
			}
			if i.Status.Phase != v1alpha1.PhaseReady {
				return fmt.Errorf("%s: %+v", i.Status.Phase, i.Status.Conditions)
			}
			return nil
		})
	}
}

// condition waits until a condition of an object has a reason, and returns it.
func (k *tekton) condition(name, typ, reason string) v1alpha1.Condition {
	k.t.Helper()
	var found v1alpha1.Condition
	k.eventually(fmt.Sprintf("%s of %s says %s", typ, name, reason), func() error {
		i, err := k.item(name)
		if err != nil {
			return err
		}
		for _, c := range i.Status.Conditions {
			if c.Type == typ && c.Reason == reason {
				found = c
				return nil
			}
		}
		return fmt.Errorf("it says %+v", i.Status.Conditions)
	})
	return found
}

// gone waits until nothing is known of objects.
func (k *tekton) gone(names ...string) {
	k.t.Helper()
	for _, name := range names {
		k.eventually(name+" is gone", func() error {
			i, err := k.item(name)
			if errors.Is(err, errNotThere) {
				return nil
			}
			return fmt.Errorf("%v: %+v", err, i.Status)
		})
	}
}

// settled waits until nothing is to be done.
func (k *tekton) settled() {
	k.t.Helper()
	k.eventually("nothing is to be done", func() error {
		out, err := k.run("plan")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// eventually waits for what others bring about.
func (k *tekton) eventually(what string, try func() error) {
	k.t.Helper()
	deadline, pause := time.Now().Add(patience), 10*time.Millisecond
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("waited in vain until %s: %v", what, err)
		}
		time.Sleep(pause)
		pause = min(pause*5/4, 200*time.Millisecond)
	}
}

// write puts a spec file.
func (k *tekton) write(file string, docs ...string) {
	k.t.Helper()
	k.check(os.WriteFile(k.specs(file), []byte(strings.Join(docs, "---\n")), 0o644))
}

func (k *tekton) remove(file string) {
	k.t.Helper()
	k.check(os.Remove(k.specs(file)))
}

// guest is a container that serves; lines are further fields of its spec, or
// replace the usual ones.
func (k *tekton) guest(name string, lines ...string) string {
	return k.guestOf(k.runtime, name, lines...)
}

// guestOf is a guest of a runtime.
func (k *tekton) guestOf(runtime, name string, lines ...string) string {
	if runtime == v1alpha1.RuntimeNixOSContainer {
		installContainers(k.t)
		return k.box(name, k.system(0, ""), append([]string{`environment: {GENERATION: "1"}`}, lines...)...)
	}
	return container(name, append([]string{
		"system: {rootfs: " + k.rootfs + "}", "command: [guest, serve]", `environment: {GENERATION: "1"}`,
		"probe: {http: {path: /ready, port: 8080}}", "stopTimeout: 5s",
	}, lines...)...)
}

// container is a document; of lines with the same field the last one counts.
func container(name string, lines ...string) string {
	var fields []string
	last := map[string]string{}
	for _, l := range lines {
		field, _, _ := strings.Cut(l, ":")
		if _, again := last[field]; !again {
			fields = append(fields, field)
		}
		last[field] = l
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: %s}\nspec:\n", name)
	for _, f := range fields {
		fmt.Fprintf(&b, "  %s\n", last[f])
	}
	return b.String()
}
