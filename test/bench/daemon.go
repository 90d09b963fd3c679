package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/client"
	"tekton.host/pkg/resource"
)

// daemon is the tektond that is measured.
type daemon struct {
	s      settings
	naming resource.Naming
	cmd    *exec.Cmd
	log    string
	specs  string
	client *client.Client
}

const hostConfig = `apiVersion: tekton.host/v1alpha1
kind: Host
metadata: {name: bench}
spec:
  instance: tbn
  stateDir: %[1]s/state
  runDir: %[1]s/run
  subnet: 10.77.0.0/16
  ingress: {httpPort: %[2]d, httpsPort: 0, tls: "off"}
  runtime: {supervisor: supervised}
  git: {user: nobody}
`

const ingressPort = 8077

func startDaemon(s settings, naming resource.Naming) (*daemon, error) {
	d := &daemon{s: s, naming: naming, log: filepath.Join(s.dir, "tektond.log"), specs: filepath.Join(s.dir, "specs")}
	config := filepath.Join(s.dir, "host.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, hostConfig, s.dir, ingressPort), 0o600); err != nil {
		return nil, err
	}
	if err := os.Mkdir(d.specs, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd = exec.Command(filepath.Join(s.bin, "tektond"), "--config", config, "--spec-dir", d.specs)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	socket := filepath.Join(s.dir, "run", "tekton.sock")
	if err := until(10*time.Second, func() bool { _, err := os.Stat(socket); return err == nil }); err != nil {
		return nil, fmt.Errorf("tektond does not come up: %w:\n%s", err, d.logTail())
	}
	d.client = client.New(socket)
	return d, nil
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.cmd.Wait()
}

func (d *daemon) logTail() string {
	data, _ := os.ReadFile(d.log)
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// object is one Container, Agent or Preview of the benchmark.
type object struct {
	name     string
	routes   []string // host names
	database bool
	agent    bool
	// repository and commit of a Preview
	repository, commit string
}

func (o object) yaml(rootfs string) []byte {
	if o.agent {
		return fmt.Appendf(nil, "apiVersion: tekton.host/v1alpha1\nkind: Agent\nmetadata: {name: %s}\nspec: {system: {host: true}, home: {deletionPolicy: Delete}}\n", o.name)
	}
	if o.repository != "" {
		return fmt.Appendf(nil, "apiVersion: tekton.host/v1alpha1\nkind: Preview\nmetadata: {name: %s}\nspec: {repository: {url: %q}, branch: main, commit: %s, host: %[1]s.example.org}\n", o.name, o.repository, o.commit)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: %s}\nspec:\n  system: {rootfs: %s}\n", o.name, rootfs)
	b.WriteString("  command: [/usr/bin/busybox, httpd, -f, -p, \"8080\", -h, /www]\n")
	if o.database {
		b.WriteString("  databases: [{name: main, env: DATABASE_URL, deletionPolicy: Delete}]\n")
	}
	if len(o.routes) > 0 {
		b.WriteString("  routes:\n")
	}
	for _, h := range o.routes {
		fmt.Fprintf(&b, "  - {host: %s, path: /, port: 8080}\n", h)
	}
	return []byte(b.String())
}

// drop puts objects into the spec directory, each in a file of its own, the way
// a careful program does: written elsewhere, then renamed. It returns when the
// first file went in.
func (d *daemon) drop(rootfs string, objects ...object) (time.Time, error) {
	for _, o := range objects {
		if err := os.WriteFile(filepath.Join(d.s.dir, o.name+".new"), o.yaml(rootfs), 0o644); err != nil {
			return time.Time{}, err
		}
	}
	began := time.Now()
	for _, o := range objects {
		if err := os.Rename(filepath.Join(d.s.dir, o.name+".new"), filepath.Join(d.specs, o.name+".yaml")); err != nil {
			return began, err
		}
	}
	return began, nil
}

// remove takes objects away: documents that leave a file that stays are gone at
// once. It returns when nothing of them is left.
func (d *daemon) remove(ctx context.Context, objects ...object) error {
	for _, o := range objects {
		if err := os.WriteFile(filepath.Join(d.s.dir, o.name+".new"), []byte("# gone\n"), 0o644); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(d.s.dir, o.name+".new"), filepath.Join(d.specs, o.name+".yaml")); err != nil {
			return err
		}
	}
	err := until(2*time.Minute, func() bool {
		items, err := d.items(ctx)
		if err != nil {
			return false
		}
		for _, o := range objects {
			if _, there := items[o.name]; there {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("objects do not go away: %w", err)
	}
	for _, o := range objects {
		os.Remove(filepath.Join(d.specs, o.name+".yaml"))
	}
	return nil
}

func (d *daemon) items(ctx context.Context) (map[string]string, error) {
	list, err := d.client.List(ctx)
	if err != nil {
		return nil, err
	}
	phases := map[string]string{}
	for _, i := range list {
		phases[i.Metadata.Name] = string(i.Status.Phase)
	}
	return phases, nil
}

func (d *daemon) awaitReady(ctx context.Context, objects ...object) error {
	return until(waitLimit, func() bool {
		items, err := d.items(ctx)
		for _, o := range objects {
			if err != nil || items[o.name] != "Ready" {
				return false
			}
		}
		return true
	})
}

// leader is the PID of a machine's first process, to see that it stays.
func (d *daemon) leader(machine string) int {
	var status struct {
		Leader int `json:"leader"`
	}
	data, _ := os.ReadFile(filepath.Join(d.s.dir, "state", "machines", machine, "status.json"))
	_ = json.Unmarshal(data, &status)
	return status.Leader
}

// until polls slowly: what is waited for with it is not measured.
func until(limit time.Duration, done func() bool) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return nil
		}
	}
	return fmt.Errorf("waited for %s", limit)
}
