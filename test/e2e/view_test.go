package e2e_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tekton.host/test/systemdhost"
)

// output of a tool; a failure is part of it, so that a view of a broken host differs.
func output(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s\n%s: %v\n", out, strings.Join(argv, " "), err)
	}
	return string(out)
}

// mustRun runs a tool that has to succeed.
func mustRun(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// view is the host as independent tools see it, by what they show.
type view map[string]string

// look takes a view of all that tekton may change.
func (k *tekton) look() view {
	k.t.Helper()
	v := view{
		"links":     output("ip", "-d", "-o", "link", "show"),
		"addresses": output("ip", "-d", "-o", "address", "show"),
		"rules":     output("ip", "rule", "show"),
		"rules6":    output("ip", "-6", "rule", "show"),
		"routes":    output("ip", "route", "show", "table", "all"),
		"routes6":   output("ip", "-6", "route", "show", "table", "all"),
		"neighbors": output("ip", "neigh", "show"),
		"nft":       output("nft", "list", "ruleset"),
		"mounts":    k.mounts(),
		"processes": strings.Join(k.processes(func(process) bool { return true }), "\n"),
		"cgroups":   strings.Join(k.cgroups(), "\n"),
		"sysctl":    sysctls(),
		"etc":       listing("/etc"),
		"run":       listing("/run"),
	}
	if systemdhost.Inside() {
		v["units"] = output("systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service,slice,scope", "tekton*")
	}
	return v
}

func (k *tekton) mounts() string {
	return output("findmnt", "--list", "--noheadings", "--output", "TARGET,SOURCE,FSTYPE,OPTIONS")
}

type process struct {
	pid             int
	cmdline, cgroup string
}

// processes lists those that a test is interested in. What has ended and waits
// for its parent is none.
func (k *tekton) processes(want func(process) bool) []string {
	k.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	k.check(err)
	var out []string
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		p := process{pid, strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " ")), string(cgroup)}
		if len(cmdline) > 0 && want(p) {
			out = append(out, fmt.Sprintf("%d %s", pid, p.cmdline))
		}
	}
	slices.Sort(out)
	return out
}

// ours reports whether a process belongs to this installation.
func (k *tekton) ours(p process) bool {
	return strings.Contains(p.cmdline, k.dir) || strings.Contains(p.cgroup, "tekton-"+k.instance) || strings.Contains(p.cgroup, "container@"+k.instance+"-")
}

// cgroups of this installation.
func (k *tekton) cgroups() []string {
	var out []string
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), "tekton-"+k.instance) {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// sysctls are all settings of the network, but those that count something.
func sysctls() string {
	all := map[string]string{}
	filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, "_count") && !strings.HasSuffix(path, "/flush") {
			if b, err := os.ReadFile(path); err == nil {
				all[path] = string(b)
			}
		}
		return nil
	})
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s", path, all[path])
	}
	return b.String()
}

// listing names the files below a directory with their sizes. Sockets and
// directories of systemd itself come and go.
func listing(dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(path, "/run/systemd") || strings.HasPrefix(path, "/run/udev") || strings.HasPrefix(path, "/run/log") {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			fmt.Fprintf(&b, "%s %d\n", path, info.Size())
		}
		return nil
	})
	return b.String()
}

// left names what is left of this installation on the host.
func (k *tekton) left() []string {
	var out []string
	add := func(what, text, pattern string) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, pattern) {
				out = append(out, what+": "+strings.TrimSpace(line))
			}
		}
	}
	net := strings.TrimSuffix(k.subnet, "0.0/16")
	add("link", output("ip", "-o", "link", "show"), "tk"+k.instance)
	add("address", output("ip", "-o", "address", "show"), " "+net)
	add("rule", output("ip", "rule", "show"), net)
	add("route", output("ip", "route", "show", "table", "all"), net)
	add("nft", output("nft", "list", "tables"), "tekton_"+k.instance)
	for line := range strings.Lines(k.mounts()) {
		if target, _, _ := strings.Cut(line, " "); target != k.state() && target != k.specs() { // of a test's own
			add("mount", line, k.dir)
		}
	}
	for _, p := range k.processes(func(p process) bool { return k.ours(p) && (k.daemon == nil || p.pid != k.daemon.Process.Pid) }) {
		out = append(out, "process: "+p)
	}
	for _, c := range k.cgroups() {
		out = append(out, "cgroup: "+c)
	}
	if systemdhost.Inside() {
		add("unit", output("systemctl", "list-units", "--all", "--plain", "--no-legend"), "tekton-"+k.instance)
		for _, dir := range []string{"/etc/nixos-containers", "/var/lib/nixos-containers", "/nix/var/nix/profiles/per-container", "/nix/var/nix/gcroots/per-container", "/run/systemd/system.control"} {
			add("container", output("find", dir, "-mindepth", "1", "-maxdepth", "1"), k.instance+"-")
		}
	}
	return out
}

// leader is the first process of an object's machine, as the kernel has it: the
// guest whose hostname is the object's.
func (k *tekton) leader(name string) int {
	k.t.Helper()
	i := k.get(name)
	is := func(p process) bool {
		return strings.Contains(p.cgroup, "tekton-"+k.instance) && strings.Contains(p.cgroup, i.Status.Machine) && strings.HasPrefix(p.cmdline, "guest ")
	}
	if c := k.containerOf(i.Status.Machine); c != "" {
		is = func(p process) bool {
			return strings.Contains(p.cgroup, "/container@"+c+".service/") && strings.HasPrefix(p.cmdline, "/nix/store/")
		}
	}
	var found int
	k.eventually("the guest of "+name+" is found", func() error {
		for _, line := range k.processes(is) {
			var err error
			found, err = strconv.Atoi(strings.Fields(line)[0])
			return err
		}
		return fmt.Errorf("no guest in the cgroup of %s", i.Status.Machine)
	})
	return found
}
