package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/test/systemdhost"
)

// end deletes all objects of a test that has passed and demands that nothing
// is left. After a failure it takes away what it finds.
func (k *tekton) end() {
	if !k.t.Failed() && k.running() && !k.keep {
		k.deleteAll()
	}
	if k.t.Failed() {
		k.t.Logf("log of the daemon:\n%s", k.log())
	}
	if k.running() {
		k.daemon.Process.Signal(syscall.SIGTERM)
		select {
		case <-k.ended:
		case <-time.After(30 * time.Second):
			k.t.Error("the daemon does not end on SIGTERM")
			k.daemon.Process.Kill()
			<-k.ended
		}
	}
	if k.t.Failed() {
		k.sweep()
	}
	unix.Unmount(k.state(), unix.MNT_DETACH) // when it is a file system of its own
	if err := os.RemoveAll(k.dir); err != nil {
		k.t.Errorf("remove %s: %v", k.dir, err)
	}
}

// deleteAll deletes all objects and waits until the host is free of them.
func (k *tekton) deleteAll() {
	for _, line := range strings.Fields(k.must("get", "-o", "name")) {
		k.run("delete", line) // rejected ones are only files
	}
	entries, err := os.ReadDir(k.specs())
	k.check(err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			k.check(os.RemoveAll(k.specs(e.Name())))
		}
	}
	k.eventually("nothing is left on the host", k.nothingLeft)
}

func (k *tekton) nothingLeft() error {
	if left := k.left(); len(left) > 0 {
		return fmt.Errorf("left: %s", strings.Join(left, "\n"))
	}
	return nil
}

// sweep takes away what a failed test left, for the sake of the others.
func (k *tekton) sweep() {
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) && k.nothingLeft() != nil {
		if systemdhost.Inside() {
			exec.Command("systemctl", "kill", "--signal=KILL", "tekton-"+k.instance+".*").Run()
			exec.Command("systemctl", "reset-failed", "tekton-"+k.instance+".*").Run()
		}
		for _, group := range k.cgroups() {
			os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
			exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
		}
		mounts := strings.Split(k.mounts(), "\n")
		slices.Reverse(mounts)
		for _, line := range mounts {
			if target, _, _ := strings.Cut(line, " "); strings.HasPrefix(target, k.dir) {
				unix.Unmount(target, unix.MNT_DETACH)
			}
		}
		// Not /sys/class/net: that is of the network namespace which mounted it.
		for line := range strings.Lines(output("ip", "-o", "link", "show")) {
			if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], "tk"+k.instance) {
				name, _, _ := strings.Cut(strings.TrimSuffix(fields[1], ":"), "@")
				exec.Command("ip", "link", "del", name).Run()
			}
		}
		exec.Command("nft", "delete", "table", "ip", "tekton_"+k.instance).Run()
		exec.Command("nft", "delete", "table", "inet", "tekton_"+k.instance).Run()
		exec.Command("ip", "address", "del", k.service()+"/32", "dev", "lo").Run()
		k.sweepRules()
		time.Sleep(100 * time.Millisecond)
	}
}

// sweepRules deletes our rules and routes.
func (k *tekton) sweepRules() {
	rules, table := output("ip", "rule", "show"), ""
	for line := range strings.Lines(rules) {
		if priority, rest, _ := strings.Cut(line, ":"); strings.Contains(rest, strings.TrimSuffix(k.subnet, "0.0/16")) {
			exec.Command("ip", "rule", "del", "priority", priority).Run()
			if _, after, found := strings.Cut(rest, " lookup "); found && !strings.HasPrefix(after, "main") {
				table = strings.Fields(after)[0]
			}
		}
	}
	if table == "" {
		return
	}
	exec.Command("ip", "route", "flush", "table", table).Run()
	for line := range strings.Lines(rules) { // those of marks know no subnet
		if priority, rest, _ := strings.Cut(line, ":"); strings.Contains(rest, " lookup "+table+" ") {
			exec.Command("ip", "rule", "del", "priority", priority).Run()
		}
	}
}
