package nix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
	"tekton.host/pkg/job"
	"tekton.host/pkg/resource"
)

const (
	// hostSocket is where a host's own Nix daemon listens.
	hostSocket = "/nix/var/nix/daemon-socket/socket"
	// daemonPatience for our own daemon to listen.
	daemonPatience = 10 * time.Second
	// killDelay between the end of a build's context and the kill of its programs.
	killDelay = 2 * time.Second
	// maxLine and maxOutput bound what is kept of a program's output.
	maxLine   = 64 << 10
	maxOutput = 1 << 20
)

// client talks to a Nix daemon as somebody without privileges: nobody's code is
// evaluated as root.
type client struct {
	build *build
	env   []string
	// daemon of our own, on a host without one.
	daemon *exec.Cmd
}

// connect finds the host's Nix daemon, or starts one for this build: it ends
// with it, and the limits of this process's cgroup are its too.
func (b *build) connect(ctx context.Context) (*client, error) {
	c := &client{build: b}
	home := c.home()
	if err := os.RemoveAll(home); err != nil {
		return nil, err
	}
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	if err := os.Lchown(home, int(b.UID), int(b.GID)); err != nil {
		return nil, err
	}
	socket := hostSocket
	if !listens(ctx, socket) {
		socket = filepath.Join(home, "nix.socket")
		if err := c.startDaemon(ctx, socket); err != nil {
			return nil, err
		}
	}
	c.env = append(nixEnv(), "HOME="+home, "XDG_CACHE_HOME="+home, "TMPDIR="+home, "NIX_REMOTE=unix://"+socket,
		// Git refuses repositories of others; which ones are fetched is the operator's choice.
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_TERMINAL_PROMPT=0")
	if b.Memory > 0 {
		c.env = append(c.env, heapLimit(b.heap(math.MaxUint64)))
	}
	return c, nil
}

// heap is what an evaluation may have: so much less than the limit of the build
// that it fails, and says so, before it is killed; also where no limit can be enforced.
func (d *description) heap(most uint64) uint64 {
	if d.Memory > 0 {
		return min(most, uint64(d.Memory)/4*3)
	}
	return most
}

// heapLimit is a variable of Nix's garbage collector.
func heapLimit(bytes uint64) string { return fmt.Sprintf("GC_MAXIMUM_HEAP_SIZE=%d", bytes) }

// home is the evaluator's.
func (c *client) home() string { return filepath.Join(c.build.Dir, homeDir) }

// nixEnv is what every program of Nix gets. Settings of the host hold, but
// nobody is asked, and no flake changes them.
func nixEnv() []string {
	env := []string{"LC_ALL=C", "NIX_CONFIG=extra-experimental-features = nix-command flakes\naccept-flake-config = false\nwarn-dirty = false"}
	for _, name := range append([]string{"PATH"}, passedOn...) {
		if v, set := os.LookupEnv(name); set {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// passedOn is the environment of the daemon that builds get, beside PATH.
var passedOn = []string{"NIX_CONF_DIR", "NIX_SSL_CERT_FILE", "SSL_CERT_FILE"}

func listens(ctx context.Context, socket string) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (c *client) startDaemon(ctx context.Context, socket string) error {
	env := append(nixEnv(), "HOME="+c.home(), "NIX_DAEMON_SOCKET_PATH="+socket,
		// Never "auto": a daemon that takes its own socket for another daemon's calls itself without end.
		"NIX_REMOTE=local")
	if !hasBuildUsers() {
		// Debian's package makes no build users. The sandbox holds all the same.
		for i, e := range env {
			if strings.HasPrefix(e, "NIX_CONFIG=") {
				env[i] += "\nbuild-users-group ="
			}
		}
	}
	if err := c.initStore(ctx, env); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "nix-daemon")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	said := host.Beginning{Max: maxOutput}
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return job.Failed(reasonNixMissing, "start Nix: %w; install it (Debian: nix-bin)", err)
	}
	c.daemon = cmd
	ctx, cancel := context.WithTimeout(ctx, daemonPatience)
	defer cancel()
	for !listens(ctx, socket) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			c.close()
			return fmt.Errorf("the Nix daemon does not listen: %w: %s", ctx.Err(), said.String())
		}
	}
	return nil
}

// initStore makes the store's database where there is none yet.
func (c *client) initStore(ctx context.Context, env []string) error {
	if exists("/nix/var/nix/db/db.sqlite") {
		return nil
	}
	_, err := c.run(ctx, command{argv: []string{"nix-store", "--init"}, env: env, reason: reasonNixMissing})
	return err
}

func hasBuildUsers() bool {
	raw, err := os.ReadFile("/etc/group")
	return err != nil || strings.Contains("\n"+string(raw), "\nnixbld:")
}

func (c *client) close() {
	if c.daemon != nil {
		_ = c.daemon.Cancel()
		_ = c.daemon.Wait()
	}
}

// lock resolves a reference to what it is now.
func (c *client) lock(ctx context.Context, ref string) (resource.Built, error) {
	at := time.Now()
	out, err := c.nix(ctx, reasonLock, "flake", "metadata", "--json", "--no-write-lock-file", ref)
	if err != nil {
		return resource.Built{}, err
	}
	var m struct {
		URL    string `json:"url"`
		Locked struct {
			Rev string `json:"rev"`
		} `json:"locked"`
	}
	if err := json.Unmarshal(out, &m); err != nil || m.URL == "" {
		return resource.Built{}, job.Failed(reasonLock, "nix does not say what %s is: %w", ref, errors.Join(err, errors.New("no url in its metadata")))
	}
	return resource.Built{Locked: m.URL, Revision: m.Locked.Rev, LockedAt: at}, nil
}

// derivation is what an attribute evaluates to.
type derivation struct {
	Drv    string `json:"drv"`
	Out    string `json:"out"`
	Output string `json:"output"`
}

// evaluate asks Nix for the derivation of an attribute: pure, so that it sees
// its locked inputs only.
func (c *client) evaluate(ctx context.Context, installable string, trusted bool) (derivation, error) {
	importing := "false"
	if trusted {
		importing = "true"
	}
	out, err := c.nix(ctx, reasonEvaluation, "eval", "--json", "--no-write-lock-file", "--option", "pure-eval", "true",
		"--option", "allow-import-from-derivation", importing,
		"--apply", `x: { drv = x.drvPath; out = x.outPath; output = x.outputName or "out"; }`, installable)
	if err != nil {
		return derivation{}, err
	}
	var d derivation
	if err := json.Unmarshal(out, &d); err != nil {
		return d, job.Failed(reasonEvaluation, "nix does not say what %s is: %w", installable, err)
	}
	return d, d.check(installable)
}

// check looks at what an evaluation claims to be a derivation.
func (d derivation) check(what string) error {
	if filepath.Dir(d.Drv) != storeDir || filepath.Dir(d.Out) != storeDir || !strings.HasSuffix(d.Drv, ".drv") || strings.Contains(d.Output, "!") {
		return job.Failed(reasonEvaluation, "%s is no derivation", what)
	}
	return nil
}

// realise builds a derivation.
func (c *client) realise(ctx context.Context, d derivation) error {
	_, err := c.run(ctx, command{
		argv: []string{"nix-store", "--realise", "--log-format", "internal-json", d.Drv + "!" + d.Output}, env: c.env, evaluator: true, reason: reasonBuild,
	})
	return err
}

// nix runs a subcommand as the evaluator.
func (c *client) nix(ctx context.Context, reason string, args ...string) ([]byte, error) {
	return c.run(ctx, command{argv: append([]string{"nix", "--log-format", "internal-json"}, args...), env: c.env, evaluator: true, reason: reason})
}

type command struct {
	argv      []string
	env       []string
	evaluator bool   // without privileges
	isolated  bool   // by Evaluate
	reason    string // of a failure
	// line gets what it says; absent: the build's log.
	line func([]byte)
}

// run runs a program in a process group of its own, and reads its log.
func (c *client) run(ctx context.Context, r command) ([]byte, error) {
	cmd, err := c.command(ctx, r)
	if err != nil {
		return nil, err
	}
	out := host.Beginning{Max: maxOutput}
	log := &lineWriter{line: c.build.line}
	if r.line != nil {
		log.line = r.line
	}
	cmd.Stdout, cmd.Stderr = &out, log
	err = runAs(cmd, r.evaluator)
	log.flush()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, job.Failed(reasonNixMissing, "%w; install Nix (Debian: nix-bin)", err)
	}
	if err != nil {
		if said := c.build.log.failure; said != "" {
			if strings.HasSuffix(said, "out of memory") {
				said += "; next step: evaluate less, or raise Host spec.nix.memoryMax"
			}
			return nil, job.Failed(r.reason, "%s", said)
		}
		return nil, job.Failed(r.reason, "%s: %w", r.argv[0], err)
	}
	return out.Bytes(), nil
}

// command is what runs for r, with the rights that it may have.
func (c *client) command(ctx context.Context, r command) (*exec.Cmd, error) {
	argv, attr := r.argv, &syscall.SysProcAttr{Setpgid: true}
	switch {
	case r.isolated:
		document, err := json.Marshal(evaluation{
			Argv: r.argv, Root: filepath.Join(c.build.Dir, rootDir), Home: c.home(), Config: c.config(),
			UID: c.build.UID, GID: c.build.GID, Data: c.build.heap(maxHeap) + besideHeap,
		})
		if err != nil {
			return nil, err
		}
		argv, attr.Cloneflags = []string{"/proc/self/exe", EvaluateVerb, string(document)}, namespaces
	case r.evaluator:
		attr.Credential = &syscall.Credential{Uid: c.build.UID, Gid: c.build.GID}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = r.env, "/", attr
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	return cmd, nil
}

// runAs runs a command. The evaluator's gets no privileges from any program
// either: the flag is that of the thread that starts it, which ends with it.
func runAs(cmd *exec.Cmd, evaluator bool) error {
	if !evaluator {
		return cmd.Run()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			done <- fmt.Errorf("give up privileges: %w", err)
			return
		}
		done <- cmd.Run()
	}()
	return <-done
}

// lineWriter hands on lines; what is beyond maxLine of one is dropped.
type lineWriter struct {
	line func([]byte)
	part []byte
}

var _ io.Writer = (*lineWriter)(nil)

func (w *lineWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		w.part = append(w.part, line[:min(len(line), max(maxLine-len(w.part), 0))]...)
		if ended {
			w.flush()
		}
		rest = after
	}
	return len(p), nil
}

func (w *lineWriter) flush() {
	if line := bytes.TrimRight(w.part, "\r\n"); len(line) > 0 {
		w.line(line)
	}
	w.part = w.part[:0]
}
