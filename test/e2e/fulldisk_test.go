package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
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

// TestFullDiskOfPostgres takes all room from PostgreSQL, in its data and then in
// its log, which ends it: its object says so, its machine and others run on, no
// acknowledged row is lost, and with room all of it works again.
func TestFullDiskOfPostgres(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	k.inMemory()
	k.up()
	k.write("app.yaml", k.guest("app", "databases: [{name: main, deletionPolicy: Delete}]", "routes: [{host: app.test, port: 8080}]"))
	k.ready("app")
	k.settled()
	pid := k.leader("app")
	k.mustAsk("app", "/sql", "q", "CREATE TABLE t (x text)")
	k.leave(none)
	rows := 0
	for ; rows < 1000; rows++ { // each has no room but that of a page begun
		if _, err := k.ask("app", "/sql", "q", "INSERT INTO t SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 100)"); err != nil {
			if !strings.Contains(err.Error(), "No space left on device") && !strings.Contains(err.Error(), "53100") {
				t.Logf("row %d: %v", rows, err)
			}
			break
		}
	}
	if rows == 1000 {
		t.Fatal("PostgreSQL has room: nothing was tested")
	}
	k.mustServe("app.test")
	k.killPostgres() // as it ends itself when its log has no room
	k.condition("app", v1alpha1.ConditionDatabaseReady, "DiskFull")
	k.write("web.yaml", k.guest("web")) // says the same, and is told where
	k.eventually("web says that the disk is full", func() error {
		i, err := k.item("web")
		if err != nil {
			return err
		}
		return saysFull(i)
	})
	k.mustServe("app.test")
	k.leave(plenty)
	k.check(k.daemon.Process.Signal(syscall.SIGHUP))
	k.ready("app", "web")
	k.eventually("the rows are there", func() error {
		out, err := k.ask("app", "/sql", "q", "SELECT count(*) FROM t")
		if n, _ := strconv.Atoi(out); err == nil && n < rows {
			err = fmt.Errorf("%d rows of %d", n, rows)
		}
		return err
	})
	k.mustAsk("app", "/sql", "q", "INSERT INTO t VALUES ('more')")
	if now := k.leader("app"); now != pid {
		t.Errorf("process %d became %d", pid, now)
	}
}
