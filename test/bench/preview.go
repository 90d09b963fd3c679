package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/preview"
)

// previewConfig is of an application whose page is that of the commit that its
// setup and its service have last seen: neither a checkout alone nor a setup
// alone changes it. script.sh has the same two commands.
const previewConfig = `setup: {command: [cp, page, ../built]}
services:
- {name: web, command: [sh, -c, "mkdir -p /tmp/www && cp ../built /tmp/www/index.html && exec busybox httpd -f -p 8080 -h /tmp/www"]}
probe: {tcp: {port: 8080}}
`

// forge is a repository behind git's own smart HTTP.
type forge struct {
	dir, url string
	server   *http.Server
}

func newForge(dir string) (*forge, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &forge{dir: filepath.Join(dir, "clone"), url: "http://" + l.Addr().String() + "/app.git"}
	f.server = &http.Server{Handler: &cgi.Handler{
		Path: "/usr/lib/git-core/git-http-backend", Dir: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(dir, "srv"), "GIT_HTTP_EXPORT_ALL=1"},
	}}
	go f.server.Serve(l)
	bare := filepath.Join(dir, "srv", "app.git")
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", bare},
		{"-C", bare, "config", "uploadpack.allowAnySHA1InWant", "true"},
		{"init", "--quiet", "--initial-branch=main", f.dir},
		{"-C", f.dir, "remote", "add", "origin", bare},
	} {
		if _, err := f.git(args...); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *forge) git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// push makes a commit with that page, on a branch, and returns its id.
func (f *forge) push(branch, page string) (string, error) {
	for name, content := range map[string]string{"preview.yaml": previewConfig, "page": page} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o644); err != nil {
			return "", err
		}
	}
	for _, args := range [][]string{{"add", "--all"}, {"commit", "--quiet", "-m", page}, {"push", "--quiet", "--force", "origin", "HEAD:refs/heads/" + branch}} {
		if _, err := f.git(append([]string{"-C", f.dir}, args...)...); err != nil {
			return "", err
		}
	}
	return f.git("-C", f.dir, "rev-parse", "HEAD")
}

// previews compares Previews with the script's machines, which boot the same
// systemd out of the same userland, the host's: twenty at once, and a commit
// that changes nothing but code.
func (b *bench) previews() error {
	root := filepath.Join(b.s.dir, "preview")
	if err := makePreviewRoot(root); err != nil {
		return err
	}
	f, err := newForge(filepath.Join(b.s.dir, "forge"))
	if err != nil {
		return err
	}
	defer f.server.Close()
	commit, err := f.push("main", "first")
	if err != nil {
		return err
	}
	p := payload{
		name: "preview", answer: "HTTP 200", rootfs: root, port: 8080, repository: f.url, commit: commit,
		answered: func(at netip.AddrPort) bool { return answers(at, "bench") },
	}
	if err := b.compare(min(b.s.many, 20), p, 1.5); err != nil {
		return err
	}
	return b.codeOnly(p, f)
}

// codeOnly changes the commit of one preview of each side, in turn.
func (b *bench) codeOnly(p payload, f *forge) error {
	o, at, err := b.keepOne(p)
	if err != nil {
		return err
	}
	slot := b.slot
	b.slot++
	if err := b.runScript("up", p, slot, slot); err != nil {
		return err
	}
	script := netip.AddrPortFrom(b.script.Addr(slot), p.port)
	if _, err := await(script, func() bool { return page(script) == "first" }); err != nil {
		return err
	}
	var wall [2]sample // tekton, script
	for i := range max(3, b.s.runs) * 2 {
		text := "change-" + strconv.Itoa(i)
		if p.commit, err = f.push("main", text); err != nil {
			return err
		}
		side, where, began := i%2, at, time.Now()
		failed := make(chan error, 1)
		if side == 0 {
			o.commit = p.commit
			began, err = b.daemon.drop(b.rootfs, o)
			failed <- err
		} else {
			where = script
			go func() { failed <- b.runScript("update", p, slot, slot) }()
		}
		ready, err := await(where, func() bool { return page(where) == text })
		if e := <-failed; e != nil {
			return e
		}
		if err != nil {
			return fmt.Errorf("commit %s: %w", p.commit, err)
		}
		wall[side] = append(wall[side], ready.Sub(began))
		time.Sleep(300 * time.Millisecond)
	}
	ratio := float64(wall[0].median()) / float64(wall[1].median())
	line("preview: code only changed → served", fmt.Sprintf("tekton %s, script %s: %.2f ×", wall[0], wall[1], ratio), ratio <= 1.5, "≤ 1.50 ×", "passes between fetch, setup and probe")
	if err := b.runScript("down", p, slot, slot); err != nil {
		return err
	}
	return b.daemon.remove(context.Background(), o)
}

// keepOne makes one object and says where its machine answers.
func (b *bench) keepOne(p payload) (object, netip.AddrPort, error) {
	o, old := b.objects(1, p)[0], slotsOf(b.naming.LinkPrefix())
	if _, err := b.daemon.drop(b.rootfs, o); err != nil {
		return o, netip.AddrPort{}, err
	}
	if err := b.daemon.awaitReady(context.Background(), o); err != nil {
		return o, netip.AddrPort{}, err
	}
	for slot := range slotsOf(b.naming.LinkPrefix()) {
		if !old[slot] {
			return o, netip.AddrPortFrom(b.naming.Addr(slot), p.port), nil
		}
	}
	return o, netip.AddrPort{}, fmt.Errorf("%s has no link", o.name)
}

// page is the text that is served; empty: none.
func page(at netip.AddrPort) string {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + at.String() + "/")
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	return string(text)
}

// makePreviewRoot makes a system that boots systemd and starts one service of
// an application in the checkout, which the script brings.
func makePreviewRoot(dir string) error {
	if err := makeAgentRoot(dir); err != nil {
		return err
	}
	const wants = "etc/systemd/system/multi-user.target.wants"
	for _, d := range []string{wants, preview.Checkout, "var/lib", "var/log", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	const setpriv = "setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all -- "
	unit := "[Service]\nWorkingDirectory=" + preview.Checkout + "\nExecStartPre=/usr/bin/env -- " + setpriv + "cp page ../built\n" +
		"ExecStart=/usr/bin/env -- " + setpriv + "sh -c \"mkdir -p /tmp/www && cp ../built /tmp/www/index.html && exec busybox httpd -f -p 8080 -h /tmp/www\"\n"
	for name, content := range map[string]string{
		"etc/machine-id": strings.Repeat("7", 32) + "\n", "etc/os-release": "ID=bench\n", "etc/systemd/system/app.service": unit,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		wants + "/app.service": "../app.service", "etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
