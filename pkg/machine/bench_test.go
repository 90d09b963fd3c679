package machine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/machine/launch"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/cgroup"
)

// BenchmarkStart compares a machine's start to the moment its command runs with
// a bare systemd-nspawn of the same flags, in one run.
func BenchmarkStart(b *testing.B) {
	r := newRig(b)
	ready := filepath.Join(r.state, "ready")
	if err := os.Mkdir(ready, 0o777); err != nil {
		b.Fatal(err)
	}
	i := r.instance(1, "", func(i *resource.Instance) {
		i.Command, i.Addr = []string{"/usr/bin/touch", "/ready/yes"}, i.Addr.Prev().Unmap()
		i.Mounts = []resource.Bind{{Source: ready, Target: "/ready"}}
	})
	i.Addr = resource.Instance{}.Addr
	r.mustPut(i, i.Name)
	dir := filepath.Join(r.layout.Machines(), i.Name)
	wait := func() {
		for {
			if os.Remove(filepath.Join(ready, "yes")) == nil {
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	b.Run("bare", func(b *testing.B) {
		argv := bareArgs(b, r, i, ready)
		for b.Loop() {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Env = append(os.Environ(), "SYSTEMD_SECCOMP=0")
			inGroup(b, cmd)
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			wait()
			b.StopTimer()
			cmd.Wait()
			b.StartTimer()
		}
	})
	spec := supervise.Spec{
		Name: i.Name, Unit: r.naming.Unit(i.Name), Mark: "tekton/" + installation + "/" + r.uid(), Leader: true,
		Argv: []string{r.options.Launch, "--init=" + r.options.Init, "--volumes=" + r.layout.Volumes(), "--seccomp=false", dir},
		Env:  []string{"PATH=" + os.Getenv("PATH")},
	}
	b.Run("launch", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(spec.Argv[0], spec.Argv[1:]...)
			inGroup(b, cmd)
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			wait()
			b.StopTimer()
			cmd.Wait()
			b.StartTimer()
		}
	})
	b.Run("supervised", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.supervisor.Start(r.ctx, dir, spec); err != nil {
				b.Fatal(err)
			}
			wait()
			b.StopTimer()
			if err := r.supervisor.Stop(r.ctx, dir, 0); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// bareArgs is a script's nspawn with the launcher's flags, on a plain directory.
func bareArgs(b *testing.B, r *rig, i resource.Instance, ready string) []string {
	b.Helper()
	root := filepath.Join(r.state, "bare")
	for _, d := range []string{"etc", "usr", "proc", "sys", "dev", "run", "tmp", "var", "root"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			b.Fatal(err)
		}
		os.Chown(filepath.Join(root, d), int(i.UIDBase), int(i.UIDBase))
	}
	os.Chown(root, int(i.UIDBase), int(i.UIDBase))
	for _, l := range []string{"bin", "lib", "lib64", "sbin"} {
		os.Symlink("usr/"+l, filepath.Join(root, l))
	}
	argv := []string{
		"systemd-nspawn", "--keep-unit", "--register=no", "--quiet", "--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--private-network", "--machine=bare", "--directory=" + root, fmt.Sprintf("--private-users=%d:65536", i.UIDBase), "--private-users-ownership=off",
		"--kill-signal=SIGRTMIN+3", "--as-pid2", "--console=pipe", "--bind-ro=/usr:/usr:idmap", "--bind-ro=/etc/alternatives:/etc/alternatives:idmap",
		"--bind-ro=/etc/ssl/certs:/etc/ssl/certs:idmap", "--bind-ro=/etc/ca-certificates:/etc/ca-certificates:idmap", "--bind=" + ready + ":/ready:idmap",
	}
	return append(argv, "--", "/usr/bin/touch", "/ready/yes")
}

// inGroup gives a command a cgroup of its own, as each nspawn needs one.
func inGroup(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	groups, err := cgroup.Find()
	if err != nil {
		b.Fatal(err)
	}
	g := groups.Group(fmt.Sprintf("tkbench%d", os.Getpid()))
	if err := g.Create(); err != nil {
		b.Fatal(err)
	}
	f, err := g.Open()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close(); g.Remove(context.Background()) })
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(f.Fd())}
}

// BenchmarkObserve reads a thousand machines with a volume each.
func BenchmarkObserve(b *testing.B) {
	r := newRig(b)
	for n := range 1000 {
		i := r.instance(n, "serve")
		dir := filepath.Join(r.layout.Machines(), i.Name)
		writeJSON(b, filepath.Join(dir, launch.RecordFile), launch.Record{Version: launch.RecordVersion, Mark: "tekton/" + installation + "/u", Instance: i})
		writeJSON(b, filepath.Join(dir, supervise.StatusFile), supervise.Status{Version: supervise.Version, Name: i.Name, Mark: "tekton/" + installation + "/u", ExitedAt: time.Now(), StartedAt: time.Now()})
		writeJSON(b, filepath.Join(dir, "answer.json"), map[string]any{"mark": "tekton/" + installation + "/u", "answer": resource.Answer{Addr: i.Addr}})
		writeJSON(b, filepath.Join(r.layout.Volumes(), "container", i.Name, ".data.json"), map[string]any{"mark": "tekton/" + installation + "/u", "ready": true})
	}
	if got := len(r.Observe(r.ctx)[resource.KindInstance].Items); got != 1000 {
		b.Fatalf("%d instances", got)
	}
	for b.Loop() {
		r.Observe(r.ctx)
	}
}

func writeJSON(b *testing.B, path string, v any) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		b.Fatal(err)
	}
}
