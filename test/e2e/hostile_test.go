package e2e_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// hostTree makes files of the host that no machine may see or touch. It is not
// below /tmp, which is fresh in every machine.
func hostTree(t *testing.T) (dir, secret string, look func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "tekton-canary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	secret = "canary-" + filepath.Base(dir)
	for _, name := range []string{"file", "resolv.conf", "passwd", "hosts", "notes", "sub/notes", "token", "tekton/init", "host/file"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(secret), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir, secret, func() string { return treeOf(t, dir) }
}

// treeOf tells all that a change of a tree shows in, but when it was read.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		content := ""
		if info.Mode().IsRegular() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(raw)
		}
		fmt.Fprintf(&b, "%s %v %d:%d links=%d mtime=%v ctime=%v %s\n", path, info.Mode(), st.Uid, st.Gid, st.Nlink, st.Mtim, st.Ctim, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHostileMachine runs a machine whose root exchanges directories for links
// to the host, without a break, while everything is done to it that we do to
// machines.
func TestHostileMachine(t *testing.T) {
	t.Parallel()
	k := start(t)
	canary, secret, look := hostTree(t)
	before, etc := look(), listing("/etc")
	k.check(os.MkdirAll(k.state("secrets"), 0o700))
	if _, err := k.runWith("a secret", "secret", "set", "token"); err != nil {
		t.Fatal(err)
	}
	swaps := []string{
		"/etc>" + canary, "/root>/", "/home/app>../../../../../.." + canary, "/opt/a>/proc/self/root" + canary, "/var/lib>/proc/1/root",
		"/mnt/a>" + canary, "/data/sub>" + canary, "/data/var/empty>/etc", "/run/credentials>" + canary, "/srv>" + k.state(),
	}
	spec := func(generation int, more ...string) string {
		return k.guest("evil", append([]string{
			fmt.Sprintf(`environment: {GENERATION: "%d", SWAP: "%s"}`, generation, strings.Join(swaps, ",")),
			"volumes: [{name: data, path: /data, deletionPolicy: Delete}, {name: inner, path: /mnt/a/inner, deletionPolicy: Delete}]",
			"credentials: [{name: token, path: /run/credentials/token}]", "routes: [{host: evil.test, port: 8080}]", "stopTimeout: 1s",
		}, more...)...)
	}
	k.write("evil.yaml", spec(1))
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("evil", "web")
	swapping := func() {
		t.Helper()
		k.eventually("it swaps", func() error {
			if log := k.must("logs", "evil"); !strings.Contains(log, "swapping") {
				return fmt.Errorf("log: %s", log)
			}
			return nil
		})
	}
	same := func(after string) {
		t.Helper()
		if now := look(); now != before {
			t.Fatalf("after %s the host's files were\n%sand are\n%s", after, before, now)
		}
		status, err := json.Marshal(k.get("evil"))
		k.check(err)
		for what, text := range map[string]string{"status": string(status), "describe": k.must("describe", "evil"), "logs": k.must("logs", "evil"), "the daemon's log": k.log()} {
			if strings.Contains(text, secret) {
				t.Errorf("after %s, %s tells what is in a file of the host", after, what)
			}
		}
	}
	swapping()
	same("the start")
	// Hot: routes, limits, published ports.
	for i := range 3 {
		k.write("evil.yaml", spec(1, fmt.Sprintf("routes: [{host: evil%d.test, port: 8080}]", i), fmt.Sprintf("resources: {diskMax: %dMi, memoryMax: %dMi}", 500+i, 300+i)))
		k.eventually("the route moves", func() error { _, err := k.served(fmt.Sprintf("evil%d.test", i), "/"); return err })
		for _, dir := range []string{"/mnt/a/inner", "/root", "/srv"} {
			if out, err := k.run("exec", "-w", dir, "evil", "--", "/usr/bin/guest", "done"); err == nil && !strings.Contains(out, "all done") {
				t.Errorf("exec in %s: %q", dir, out)
			}
		}
	}
	same("hot updates")
	for range 2 {
		pid := k.leader("evil")
		k.must("restart", "evil")
		k.eventually("it was restarted", func() error {
			if now := k.leader("evil"); now == pid {
				return fmt.Errorf("%d runs", now)
			}
			_, err := k.ask("evil", "/")
			return err
		})
		k.ready("evil")
		swapping()
	}
	same("restarts")
	for generation := 2; generation <= 3; generation++ {
		k.write("evil.yaml", spec(generation))
		k.generation("evil", fmt.Sprint(generation))
		swapping()
	}
	same("replacements")
	// Killed in the middle of it, so that the one or the other is in place.
	k.mustAsk("evil", "/exit", "code", "1")
	k.ready("evil")
	k.must("delete", "evil")
	k.gone("evil")
	list := k.must("data", "list")
	for line := range strings.Lines(list) {
		if id, _, _ := strings.Cut(line, " "); strings.HasPrefix(id, "volume:") && strings.Contains(id, "-data") {
			k.must("data", "restore", id)
		}
	}
	k.write("evil.yaml", spec(4)) // adopts what it had planted
	k.generation("evil", "4")
	same("a restore")
	k.must("delete", "evil")
	k.gone("evil")
	for line := range strings.Lines(k.must("data", "list")) {
		if id, _, _ := strings.Cut(line, " "); strings.HasPrefix(id, "volume:") {
			k.must("data", "delete", id)
		}
	}
	if now := look(); now != before || listing("/etc") != etc {
		t.Errorf("at the end the host's files were\n%sand are\n%s", before, now)
	}
	filepath.WalkDir(k.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), secret) {
				t.Errorf("%s holds what is in a file of the host", path)
			}
		}
		return nil
	})
	k.mustServe("web.test")
}
