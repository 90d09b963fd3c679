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
		links, _ := filepath.Glob("/sys/class/net/tk" + k.instance + "*")
		for _, l := range links {
			exec.Command("ip", "link", "del", filepath.Base(l)).Run()
		}
		exec.Command("nft", "delete", "table", "ip", "tekton_"+k.instance).Run()
		exec.Command("nft", "delete", "table", "inet", "tekton_"+k.instance).Run()
		exec.Command("ip", "address", "del", k.service()+"/32", "dev", "lo").Run()
		for line := range strings.Lines(output("ip", "rule", "show")) {
			if priority, rest, _ := strings.Cut(line, ":"); strings.Contains(rest, strings.TrimSuffix(k.subnet, "0.0/16")) {
				exec.Command("ip", "rule", "del", "priority", priority).Run()
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
