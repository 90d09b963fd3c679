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

// evil is a machine whose root exchanges directories for links to the host.
type evil struct {
	*tekton
	canary, secret string
	look           func() string
	before         string
}

func (k *evil) spec(generation int, more ...string) string {
	swaps := []string{
		"/etc>" + k.canary, "/root>/", "/home/app>../../../../../.." + k.canary, "/opt/a>/proc/self/root" + k.canary, "/var/lib>/proc/1/root",
		"/mnt/a>" + k.canary, "/data/sub>" + k.canary, "/data/var/empty>/etc", "/run/credentials>" + k.canary, "/srv>" + k.state(),
	}
	return k.guest("evil", append([]string{
		fmt.Sprintf(`environment: {GENERATION: "%d", SWAP: "%s"}`, generation, strings.Join(swaps, ",")),
		"volumes: [{name: data, path: /data, deletionPolicy: Delete}, {name: inner, path: /mnt/a/inner, deletionPolicy: Delete}]",
		"credentials: [{name: token, path: /run/credentials/token}]", "routes: [{host: evil.test, port: 8080}]", "stopTimeout: 1s",
	}, more...)...)
}

// swaps waits until it is at work.
func (k *evil) swaps() {
	k.t.Helper()
	k.eventually("it swaps", func() error {
		if log := k.must("logs", "evil"); !strings.Contains(log, "swapping") {
			return fmt.Errorf("log: %s", log)
		}
		return nil
	})
}

// unharmed demands that the host's files are as before, and that nobody tells
// what is in them.
func (k *evil) unharmed(after string) {
	k.t.Helper()
	if now := k.look(); now != k.before {
		k.t.Fatalf("after %s the host's files were\n%sand are\n%s", after, k.before, now)
	}
	status, err := json.Marshal(k.get("evil"))
	k.check(err)
	for what, text := range map[string]string{"status": string(status), "describe": k.must("describe", "evil"), "logs": k.must("logs", "evil"), "the daemon's log": k.log()} {
		if strings.Contains(text, k.secret) {
			k.t.Errorf("after %s, %s tells what is in a file of the host", after, what)
		}
	}
}

// TestHostileMachine does to such a machine everything that we do to machines.
func TestHostileMachine(t *testing.T) {
	t.Parallel()
	canary, secret, look := hostTree(t)
	k := &evil{start(t), canary, secret, look, look()}
	etc := listing("/etc")
	if _, err := k.runWith("a secret", "secret", "set", "token"); err != nil {
		t.Fatal(err)
	}
	k.write("evil.yaml", k.spec(1))
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("evil", "web")
	k.swaps()
	k.unharmed("the start")
	k.changeHot()
	k.unharmed("hot updates")
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
		k.swaps()
	}
	k.unharmed("restarts")
	for generation := 2; generation <= 3; generation++ {
		k.write("evil.yaml", k.spec(generation))
		k.generation("evil", fmt.Sprint(generation))
		k.swaps()
	}
	k.unharmed("replacements")
	k.must("delete", "evil")
	k.gone("evil")
	k.trash("restore")
	k.write("evil.yaml", k.spec(4)) // adopts what it had planted
	k.generation("evil", "4")
	k.unharmed("a restore")
	k.must("delete", "evil")
	k.gone("evil")
	k.trash("delete")
	if now := look(); now != k.before || listing("/etc") != etc {
		t.Errorf("at the end the host's files were\n%sand are\n%s", k.before, now)
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

// changeHot changes routes and limits, and executes commands in what is swapped.
func (k *evil) changeHot() {
	k.t.Helper()
	for i := range 3 {
		host := fmt.Sprintf("evil%d.test", i)
		k.write("evil.yaml", k.spec(1, "routes: [{host: "+host+", port: 8080}]", fmt.Sprintf("resources: {diskMax: %dMi, memoryMax: %dMi}", 500+i, 300+i)))
		k.eventually("the route moves", func() error { _, err := k.served(host, "/"); return err })
		for _, dir := range []string{"/mnt/a/inner", "/root", "/srv"} {
			// Where it leads to nothing at that moment, it fails.
			if out, err := k.run("exec", "-w", dir, "evil", "--", "/usr/bin/guest", "done"); err == nil && !strings.Contains(out, "all done") {
				k.t.Errorf("exec in %s: %q", dir, out)
			}
		}
	}
}

// trash does something to all volumes in the trash.
func (k *evil) trash(verb string) {
	k.t.Helper()
	n := 0
	for line := range strings.Lines(k.must("data", "list")) {
		if id, rest, _ := strings.Cut(line, " "); strings.HasPrefix(id, "volume:") && strings.Contains(rest, "trash") {
			k.must("data", verb, id)
			n++
		}
	}
	if n != 2 {
		k.t.Errorf("%d volumes were in the trash, want 2:\n%s", n, k.must("data", "list"))
	}
}
