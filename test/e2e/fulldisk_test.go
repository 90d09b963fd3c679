package e2e_test

import (
	"strings"
	"syscall"
	"testing"
)

// none is a full disk.
var none = room{}

// TestFullDiskOfDaemon starts daemons on a full disk: the first of all says what
// is full, a later one serves, touches no machine, and goes on when there is room.
func TestFullDiskOfDaemon(t *testing.T) {
	t.Parallel()
	k := prepare(t, "slotCooldown: 1s")
	k.inMemory()
	k.leave(none)
	if code, out := k.once(); code != 1 || !strings.Contains(out, "no space left on device") || !strings.Contains(out, k.state()) {
		t.Errorf("the first start on a full disk: %d %s", code, out)
	}
	k.leave(plenty)
	k.up()
	k.write("other.yaml", k.guest("other", "routes: [{host: other.test, port: 8080}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"))
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("other", "web")
	k.settled()
	pids := [2]int{k.leader("other"), k.leader("web")}
	k.leave(none)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		k.signal(sig)
		k.mustServe("other.test")
		k.up()
		k.mustServe("other.test")
	}
	k.write("app.yaml", k.guest("app"))
	k.eventually("app says that the disk is full", func() error {
		i, err := k.item("app")
		if err != nil {
			return err
		}
		return saysFull(i)
	})
	// A deletion is asked for: it is done, or says what it waits for.
	if out, err := k.run("delete", "other"); err != nil {
		for _, want := range []string{"no space left on device", k.state(), "free space", "goes on by itself"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("delete on a full disk says %q %v, which lacks %q", out, err, want)
			}
		}
	}
	if now := [2]int{0, k.leader("web")}; now[1] != pids[1] {
		t.Errorf("machines %v became %v", pids, now)
	}
	k.mustServe("web.test")
	k.leave(plenty)
	k.check(k.daemon.Process.Signal(syscall.SIGHUP))
	k.gone("other")
	k.ready("app", "web")
	k.settled()
}
