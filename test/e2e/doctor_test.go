package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/doctor"
	"tekton.host/pkg/resource"
)

// findings of doctor, by group and check.
type findings map[string]doctor.Finding

// doctor runs it and returns its exit code. Versions are this machine's own matter.
func (k *tekton) doctor(args ...string) (code int, all findings) {
	k.t.Helper()
	out, err := k.run(append([]string{"doctor", "--config", k.path("host.yaml"), "-o", "json"}, args...)...)
	var r doctor.Report
	if errJSON := json.Unmarshal([]byte(out), &r); errJSON != nil {
		k.t.Fatalf("%v: %s (%v)", errJSON, out, err)
	}
	if r.Count(doctor.Error) > 0 != (exitCode(err) == 1) {
		k.t.Errorf("%d errors, and exit code %d", r.Count(doctor.Error), exitCode(err))
	}
	all = findings{}
	for _, f := range r.Findings {
		if f.Group == "Programs" || f.Check == doctor.Linux {
			continue
		}
		all[f.Group+"/"+f.Check] = f
		if f.Level == doctor.Error {
			code = 1
		}
	}
	return code, all
}

// says demands a finding with a level and words.
func (all findings) says(t *testing.T, check string, level doctor.Level, words ...string) {
	t.Helper()
	f, there := all[check]
	if !there || f.Level != level {
		t.Errorf("%s: %+v, want level %s", check, f, level)
	}
	for _, w := range words {
		if !strings.Contains(f.Says+" "+f.Where, w) {
			t.Errorf("%s: %+v does not say %q", check, f, w)
		}
	}
}

// standIn puts a file or directory of the test in the place of the host's.
func (k *tekton) standIn(name, path string) {
	k.t.Helper()
	k.check(unix.Mount(k.path(name), path, "", unix.MS_BIND, ""))
	k.t.Cleanup(func() { k.check(unix.Unmount(path, unix.MNT_DETACH)) })
}

// TestDoctor makes faults on purpose. It has the host for itself: some are everybody's.
func TestDoctor(t *testing.T) {
	k := prepare(t)
	// Kernel settings are the machine's, not this test's: files take their place.
	k.check(os.WriteFile(k.path("instances"), []byte("128\n"), 0o644))
	k.check(os.Mkdir(k.path("sysctl.d"), 0o755))
	k.standIn("instances", "/proc/sys/fs/inotify/max_user_instances")
	k.standIn("sysctl.d", "/etc/sysctl.d")

	code, all := k.doctor()
	if code != 0 {
		t.Errorf("a host without a fault, before the first start: %+v", all)
	}
	all.says(t, "Daemon/answers", doctor.Warning, "none has run here yet")
	all.says(t, "Kernel/inotify", doctor.Warning, "max_user_instances is 128")

	k.up()
	k.write("web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	before := k.machines()
	if code, all = k.doctor(); code != 0 {
		t.Errorf("a host without a fault: %+v", all)
	}
	all.says(t, "Daemon/answers", doctor.OK)
	all.says(t, "Daemon/objects", doctor.OK, "1")
	all.says(t, "Ports/http", doctor.OK) // our own proxy has it
	all.says(t, "Ports/dns", doctor.OK)
	k.doctorFaults()
	k.doctorFixes()
	k.doctorDeep()
	if now := k.machines(); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("machines %v, before %v", now, before)
	}
	k.settled()
	k.mustServe("web.test")
}

// doctorFaults are found, and gone when they are.
func (k *tekton) doctorFaults() {
	t := k.t.(*testing.T)
	const loose = "/proc/sys/net/ipv4/conf/all/rp_filter"
	k.check(os.WriteFile(loose, []byte("2"), 0))
	mustRun(t, "ip", "link", "add", "doc0", "type", "veth", "peer", "name", "doc1")
	in := strings.Replace(k.subnet, "0.0/16", "9.1/24", 1)
	mustRun(t, "ip", "address", "add", in, "dev", "doc0")
	port, err := net.Listen("tcp4", k.service()+":5432")
	k.check(err)
	code, all := k.doctor()
	if code != 1 {
		t.Errorf("with faults: %+v", all)
	}
	all.says(t, "Kernel/source addresses", doctor.Warning, "is 2")
	all.says(t, "Network/clashes", doctor.Error, in, "doc0")
	all.says(t, "Ports/postgres", doctor.Error, fmt.Sprintf("(process %d)", os.Getpid()))
	k.check(port.Close())
	mustRun(t, "ip", "link", "del", "doc0")
	k.check(os.WriteFile(loose, []byte("0"), 0))
	if code, all = k.doctor(); code != 0 {
		t.Errorf("without the faults: %+v", all)
	}
}

// doctorFixes mends, once, and only when it is asked to.
func (k *tekton) doctorFixes() {
	t := k.t.(*testing.T)
	_, err := k.runWith("value", "secret", "set", "token")
	k.check(err)
	secrets := k.state("secrets")
	k.check(os.Chmod(secrets, 0o755))
	k.check(os.Chmod(filepath.Join(secrets, "token"), 0o644))
	mode := func(path string) string {
		info, err := os.Stat(path)
		k.check(err)
		return info.Mode().Perm().String()
	}
	for _, args := range [][]string{nil, {"--fix", "--dry-run"}} {
		code, all := k.doctor(args...)
		if code != 1 || mode(secrets) != "-rwxr-xr-x" {
			t.Errorf("%v: %d, secretsDir %s", args, code, mode(secrets))
		}
		all.says(t, "Files/secretsDir", doctor.Error, "0755")
		all.says(t, "Files/secret token", doctor.Error, "open to others")
	}
	for range 2 {
		code, all := k.doctor("--fix")
		if code != 0 || mode(secrets) != "-rwx------" || mode(filepath.Join(secrets, "token")) != "-rw-------" {
			t.Errorf("after --fix: %+v, secretsDir %s", all, mode(secrets))
		}
		all.says(t, "Kernel/inotify", doctor.OK, "8192")
	}
	written, err := os.ReadFile("/etc/sysctl.d/90-tekton.conf")
	if err != nil || !strings.Contains(string(written), "fs.inotify.max_user_instances = 8192") {
		t.Errorf("for the next boot: %q %v", written, err)
	}
	if out := k.must("doctor", "--config", k.path("host.yaml")); !strings.Contains(out, "\n0 errors, ") && !strings.Contains(out, "Programs") {
		t.Errorf("the report for people: %s", out)
	}
}

// doctorDeep finds the rule that drops, and leaves nothing, also killed.
func (k *tekton) doctorDeep() {
	t := k.t.(*testing.T)
	trial := resource.Naming{Instance: k.instance[:3] + "d"}
	if trial.Instance == k.instance {
		trial.Instance = k.instance[:3] + "e"
	}
	gone := func() error {
		for _, look := range [][]string{{"ip", "-o", "link"}, {"nft", "list", "tables"}, {"ip", "rule"}, {"ip", "address"}, {"ls", k.state(), k.path("run")}} {
			for _, trace := range []string{trial.LinkPrefix() + "1", trial.Table() + "\n", "tekton_doctor", "from 10.255.255.", "doctor\n", "doctor.lock"} {
				if out := output(look...); strings.Contains(out, trace) {
					return fmt.Errorf("%q is left: %s", trace, out)
				}
			}
		}
		return nil
	}
	mustRun(t, "nft", "add table inet others; add chain inet others incoming { type filter hook input priority 0; }; add rule inet others incoming udp dport 53 drop")
	code, all := k.doctor("--deep")
	mustRun(t, "nft", "delete table inet others")
	if code != 1 {
		t.Errorf("with a rule that drops: %+v", all)
	}
	all.says(t, "Firewall/a machine reaches DNS (udp 53)", doctor.Error, "inet others incoming", "udp dport 53 drop")
	all.says(t, "Firewall/a machine reaches DNS (tcp 53)", doctor.OK)
	k.check(gone())

	cmd := exec.Command(filepath.Join(k.programs, "tekton"), "doctor", "--config", k.path("host.yaml"), "--deep")
	k.check(cmd.Start())
	k.eventually("the throw-away machine has its link", func() error { return exec.Command("ip", "link", "show", trial.Link(1)).Run() })
	k.check(cmd.Process.Kill())
	cmd.Wait()
	_, all = k.doctor()
	all.says(t, "Firewall/throw-away machine", doctor.Warning, k.state("doctor"))
	if code, all = k.doctor("--fix"); code != 0 {
		t.Errorf("after --fix: %+v", all)
	}
	if _, there := all["Firewall/throw-away machine"]; there {
		t.Errorf("--fix left %+v", all)
	}
	k.check(gone())
	code, all = k.doctor("--deep")
	if code != 0 {
		t.Errorf("at last: %+v", all)
	}
	for check, f := range all {
		if f.Group == "Firewall" && f.Level != doctor.OK && f.Level != doctor.Unknown {
			t.Errorf("%s: %+v", check, f)
		}
	}
	k.check(gone())
}
