package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// pidOf a process of this installation whose command line begins so.
func (k *tekton) pidOf(begin string) int {
	k.t.Helper()
	lines := k.processes(func(p process) bool {
		first, _, _ := strings.Cut(p.cmdline, " ")
		return k.ours(p) && filepath.Base(first) == begin
	})
	if len(lines) == 0 {
		return 0
	}
	pid, err := strconv.Atoi(strings.Fields(lines[0])[0])
	k.check(err)
	return pid
}

// TestPostgresStops freezes and kills PostgreSQL: only who needs it waits.
func TestPostgresStops(t *testing.T) {
	t.Parallel()
	k := start(t)
	database := "databases: [{name: main, deletionPolicy: Delete}]"
	k.write("app.yaml", k.guest("app", database, "routes: [{host: app.test, port: 8080}]"))
	k.ready("app")
	k.mustAsk("app", "/sql", "q", "CREATE TABLE t (x int)")
	pid := k.leader("app")
	frozen := k.freezePostgres()
	k.write("needs.yaml", k.guest("needs", database))
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("web") // does not wait
	k.mustServe("web.test")
	k.mustServe("app.test")
	if i := k.get("needs"); i.Status.Phase == v1alpha1.PhaseReady {
		t.Errorf("without its database: %+v", i.Status)
	}
	// A machine whose database is silent is started again all the same.
	k.mustAsk("app", "/exit", "code", "1")
	k.eventually("app is back", func() error {
		if _, err := k.ask("app", "/"); err != nil {
			return err
		}
		if k.leader("app") == pid {
			return errors.New("the same process runs")
		}
		return nil
	})
	k.must("delete", "web")
	k.gone("web")
	frozen.signal(syscall.SIGCONT)
	k.ready("needs", "app")

	pid = k.leader("app")
	k.check(syscall.Kill(k.pidOf("postgres"), syscall.SIGKILL))
	k.eventually("the data is back", func() error { _, err := k.ask("app", "/sql", "q", "SELECT count(*) FROM t"); return err })
	k.ready("needs", "app")
	// With its supervisor and all its processes at once.
	k.killPostgres()
	k.eventually("the data is back", func() error { _, err := k.ask("app", "/sql", "q", "SELECT count(*) FROM t"); return err })
	k.ready("needs", "app")
	if k.leader("app") != pid {
		t.Error("the end of PostgreSQL has restarted a machine")
	}
}

// killPostgres ends the server, its supervisor and all its processes at once.
func (k *tekton) killPostgres() {
	k.t.Helper()
	groups := slices.DeleteFunc(k.cgroups(), func(path string) bool { return !strings.HasSuffix(path, "postgres.service") })
	if len(groups) == 0 {
		k.t.Fatal("PostgreSQL has no cgroup")
	}
	for _, path := range groups {
		if err := os.WriteFile(path+"/cgroup.kill", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			k.t.Fatal(err)
		}
	}
	k.eventually("PostgreSQL is dead", func() error {
		if pid := k.pidOf("postgres"); pid != 0 {
			return fmt.Errorf("process %d", pid)
		}
		return nil
	})
}

type group []int

func (g group) signal(sig syscall.Signal) {
	for _, pid := range g {
		syscall.Kill(pid, sig)
	}
}

// freezePostgres stops all processes of the server, until the test ends or they
// are continued.
func (k *tekton) freezePostgres() (g group) {
	k.t.Helper()
	for _, line := range k.processes(func(p process) bool {
		return strings.Contains(p.cgroup, "tekton-"+k.instance+".postgres") && strings.Contains(p.cmdline, "postgres") && !strings.Contains(p.cmdline, "tekton-supervise")
	}) {
		pid, err := strconv.Atoi(strings.Fields(line)[0])
		k.check(err)
		g = append(g, pid)
	}
	if len(g) == 0 {
		k.t.Fatal("PostgreSQL does not run")
	}
	g.signal(syscall.SIGSTOP)
	k.t.Cleanup(func() { g.signal(syscall.SIGCONT) })
	return g
}

// TestCaddyDies kills Caddy, once with a broken configuration before it.
func TestCaddyDies(t *testing.T) {
	t.Parallel()
	k := start(t)
	for _, name := range []string{"one", "two"} {
		k.write(name+".yaml", k.guest(name, "routes: [{host: "+name+".test, port: 8080}]"))
	}
	k.ready("one", "two")
	pids := [2]int{k.leader("one"), k.leader("two")}
	kill := func() {
		pid := k.pidOf("caddy")
		k.check(syscall.Kill(pid, syscall.SIGKILL))
		for _, host := range []string{"one.test", "two.test"} {
			k.eventually(host+" is served again", func() error { _, err := k.served(host, "/"); return err })
		}
		if k.pidOf("caddy") == pid {
			t.Error("Caddy was not killed")
		}
	}
	kill()
	// While the daemon is away nobody is there to start it; the next one does.
	k.signal(syscall.SIGKILL)
	k.check(syscall.Kill(k.pidOf("caddy"), syscall.SIGKILL))
	k.up()
	for _, host := range []string{"one.test", "two.test"} {
		k.eventually(host+" is served again", func() error { _, err := k.served(host, "/"); return err })
	}
	// Somebody's hand in the configuration that is served.
	files, err := filepath.Glob(k.state("services", "caddy", "*", "*.caddy"))
	k.check(err)
	for _, f := range files {
		k.check(os.WriteFile(f, []byte("this is { no Caddyfile"), 0o644))
	}
	kill()
	k.ready("one", "two")
	if now := [2]int{k.leader("one"), k.leader("two")}; now != pids {
		t.Errorf("machines %v became %v", pids, now)
	}
}

// TestHandsOnTheHost takes away, by hand, what tekton has put on the host.
func TestHandsOnTheHost(t *testing.T) {
	k := start(t)
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	k.settled()
	link := "tk" + k.instance + strconv.Itoa(k.get("web").Status.Slot)
	state := func() string {
		return fmt.Sprintln(output("nft", "-s", "list", "table", "inet", "tekton_"+k.instance), output("nft", "-s", "list", "table", "ip", "tekton_"+k.instance),
			output("ip", "rule", "show"), output("ip", "-o", "-4", "address", "show", "dev", "lo"))
	}
	before := state()
	service := k.service() + "/32"
	hands := map[string][]string{
		"all rules flushed":    {"nft", "flush", "ruleset"},
		"service address gone": {"ip", "address", "del", service, "dev", "lo"},
		"policy rules gone":    {"ip", "rule", "del", "from", k.subnet},
		"forwarding off":       {"sysctl", "-qw", "net.ipv4.ip_forward=0"},
		"link down":            {"ip", "link", "set", link, "down"},
		"link gone":            {"ip", "link", "del", link},
	}
	for what, argv := range hands {
		mustRun(t, argv...)
		if what == "forwarding off" {
			// The kernel tells of no change of a setting: it is found at the next
			// look at everything, which a SIGHUP asks for.
			k.check(k.daemon.Process.Signal(syscall.SIGHUP))
		}
		k.eventually(what+": all is as before", func() error {
			if now := state(); now != before {
				return fmt.Errorf("before:\n%s\nnow:\n%s", before, now)
			}
			if f, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || strings.TrimSpace(string(f)) != "1" {
				return fmt.Errorf("ip_forward: %s %v", f, err)
			}
			_, err := k.served("web.test", "/")
			return err
		})
		k.ready("web")
	}
}
