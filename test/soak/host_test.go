package soak_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// patience is how long a change may take to show. It is far above what it takes.
const patience = 2 * time.Minute

const (
	subnet   = "10.87.0.0/16"
	httpPort = 18087
)

// rig is one installation with its daemon.
type rig struct {
	t        *testing.T
	dir      string
	instance string
	rootfs   string
	daemon   *exec.Cmd
	ended    chan error
	api      *client.Client

	mu      sync.Mutex
	items   map[string]v1alpha1.Item // as the watch has them
	changed chan struct{}
	watched error
}

func newRig(t *testing.T) *rig {
	t.Helper()
	supervisetest.Root(t, "systemd-nspawn", "ip", "nft", "caddy")
	programs, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, instance: "ts", items: map[string]v1alpha1.Item{}, changed: make(chan struct{})}
	for range 2 { // cgroups are the whole machine's
		r.instance += string(rune('a' + rand.IntN(26)))
	}
	// A socket's path has room for 107 bytes, which rules t.TempDir out.
	if r.dir, err = os.MkdirTemp("", "tks"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	r.rootfs = r.path("image")
	r.check(os.Chmod(r.dir, 0o711))
	r.check(os.MkdirAll(r.path("state/specs"), 0o755))
	r.check(os.MkdirAll(filepath.Join(r.rootfs, "usr/bin"), 0o755))
	busybox, err := os.ReadFile(filepath.Join(programs, "busybox"))
	r.check(err)
	r.check(os.WriteFile(filepath.Join(r.rootfs, "usr/bin/busybox"), busybox, 0o755))
	r.check(os.MkdirAll(filepath.Join(r.rootfs, "etc"), 0o755))
	r.check(os.WriteFile(filepath.Join(r.rootfs, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644))
	if systemdhost.Inside() {
		r.installSystem(programs)
	}
	r.launch(programs)
	return r
}

// system is that of containers of NixOS; its init is the guest.
func (r *rig) system() string { return "/nix/store/" + r.instance }

// installSystem has the host run containers of NixOS.
func (r *rig) installSystem(programs string) {
	r.t.Helper()
	systemdhost.InstallContainers(r.t)
	r.check(os.MkdirAll(r.system(), 0o755))
	guest, err := os.ReadFile(filepath.Join(programs, "guest"))
	r.check(err)
	r.check(os.WriteFile(filepath.Join(r.system(), "init"), guest, 0o755))
	r.check(os.WriteFile(filepath.Join(r.system(), "system"), []byte("x86_64-linux"), 0o644))
}

const hostConfig = `apiVersion: tekton.host/v1alpha1
kind: Host
spec:
  instance: %s
  stateDir: %s/state
  runDir: %s/run
  subnet: %s
  slotCooldown: 1s
  runtime: {supervisor: %s, seccomp: false}
  ingress: {httpPort: %d, httpsPort: 0, tls: "off"}
`

func (r *rig) launch(programs string) {
	r.t.Helper()
	form := "supervised"
	if systemdhost.Inside() {
		form = "systemd"
	}
	r.check(os.WriteFile(r.path("host.yaml"), fmt.Appendf(nil, hostConfig, r.instance, r.dir, r.dir, subnet, form, httpPort), 0o644))
	log, err := os.Create(r.path("log"))
	r.check(err)
	defer log.Close()
	r.daemon = exec.Command(filepath.Join(programs, "tektond"), "--config", r.path("host.yaml"))
	r.daemon.Env = []string{"PATH=" + os.Getenv("PATH")}
	r.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.daemon.Stdout, r.daemon.Stderr = log, log
	r.check(r.daemon.Start())
	r.ended = make(chan error, 1)
	go func() { r.ended <- r.daemon.Wait() }()
	r.api = client.New(r.path("run/tekton.sock"))
	r.eventually("the daemon answers", func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		defer cancel()
		_, err := r.api.List(ctx)
		return err
	})
	go r.watch()
}

func (r *rig) path(p string) string { return filepath.Join(r.dir, p) }

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// eventually waits for what others bring about.
func (r *rig) eventually(what string, try func() error) {
	r.t.Helper()
	if err := until(what, try); err != nil {
		r.t.Fatal(err)
	}
}

func until(what string, try func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited in vain until %s: %w", what, err)
		}
	}
}

// watch keeps items up to date: one stream for the whole soak.
func (r *rig) watch() {
	for e, err := range r.api.Watch(r.t.Context()) {
		r.mu.Lock()
		switch {
		case err != nil:
			r.watched = err
		case e.Type == v1alpha1.WatchPut:
			r.items[e.Item.Metadata.Name] = *e.Item
		case e.Type == v1alpha1.WatchDelete:
			delete(r.items, e.Item.Metadata.Name)
		}
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
	}
}

// await waits until the watch shows of an object what is wanted.
func (r *rig) await(name string, wanted func(item v1alpha1.Item, there bool) bool) (v1alpha1.Item, error) {
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		item, there := r.items[name]
		err, changed := r.watched, r.changed
		r.mu.Unlock()
		if err != nil {
			return item, fmt.Errorf("the watch ended: %w", err)
		}
		if wanted(item, there) {
			return item, nil
		}
		select {
		case <-changed:
		case <-deadline:
			return item, fmt.Errorf("%s does not come to be as it was asked for: there %v, labels %v, %+v", name, there, item.Metadata.Labels, item.Status)
		}
	}
}

// write puts a spec file as a careful program does: whole or not at all.
func (r *rig) write(name, text string) error {
	if err := os.WriteFile(r.path(name+".new"), []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(r.path(name+".new"), r.path("state/specs/"+name+".yaml"))
}

func (r *rig) close() {
	if r.t.Failed() {
		if b, err := os.ReadFile(r.path("log")); err == nil {
			lines := strings.Split(string(b), "\n")
			r.t.Logf("log of the daemon ends:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
			// The whole log: go test -artifacts.
			os.WriteFile(filepath.Join(r.t.ArtifactDir(), "tektond.log"), b, 0o644)
		}
	}
	if r.daemon != nil && r.daemon.Process != nil {
		r.daemon.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-r.ended:
			if err != nil {
				r.t.Errorf("the daemon: %v", err)
			}
		case <-time.After(patience):
			r.t.Error("the daemon does not end on SIGTERM")
			r.daemon.Process.Kill()
		}
	}
	if r.t.Failed() {
		r.sweep()
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Errorf("remove %s: %v", r.dir, err)
	}
}

// sweep kills what runs after a failure. Links, rules and mounts end with the
// namespaces of this process.
func (r *rig) sweep() {
	until("nothing of the failed test runs", func() error {
		groups := r.cgroups()
		for _, group := range groups {
			os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
			exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
		}
		for _, p := range r.processes() {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		if len(groups) > 0 {
			return fmt.Errorf("cgroups %q", groups)
		}
		return nil
	})
}

func readAll(body io.ReadCloser) (string, error) {
	defer body.Close()
	b, err := io.ReadAll(body)
	return string(b), err
}
