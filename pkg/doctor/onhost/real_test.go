package onhost

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/doctor"
	"tekton.host/pkg/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// built are the programs, beside that of the test, which go removes.
var built = sync.OnceValues(func() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(exe), "programs")
	out, err := exec.Command("go", "build", "-o", dir+"/", "tekton.host/cmd/...").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir, err
})

// patient is a host, or what of one is in a namespace, with a configuration.
type patient struct {
	t        *testing.T
	dir      string
	programs string
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	testenv.Root(t, "systemd-nspawn", "nft", "ip", "go")
	p := &patient{t: t}
	var err error
	p.programs, err = built()
	p.check(err)
	p.dir, err = os.MkdirTemp("", "tk") // a socket's path has room for 107 bytes
	p.check(err)
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	p.check(os.WriteFile(p.path("host.yaml"), []byte("apiVersion: tekton.host/v1alpha1\nkind: Host\nspec:\n  instance: tdoc\n  stateDir: "+p.path("state")+
		"\n  runDir: "+p.path("run")+"\n  subnet: 10.77.0.0/24\n  ingress: {httpPort: 18088}\n"), 0o600))
	return p
}

// standIns take the place of what is the machine's, not this namespace's: kernel
// settings and /etc. Until they are taken away no machine starts, for the kernel
// lets nobody mount a /proc that shows more than the host's.
func (p *patient) standIns() (takeAway func()) {
	dir := p.t.TempDir()
	var covered []string
	cover := func(with, path string) {
		p.check(unix.Mount(filepath.Join(dir, with), path, "", unix.MS_BIND, ""))
		covered = append(covered, path)
	}
	for _, name := range []string{"max_user_instances", "max_user_watches"} {
		p.check(os.WriteFile(filepath.Join(dir, name), []byte("128\n"), 0o644))
		cover(name, "/proc/sys/fs/inotify/"+name)
	}
	for _, path := range []string{"/etc/sysctl.d", "/etc/systemd"} {
		p.check(os.MkdirAll(filepath.Join(dir, path), 0o755))
		cover(path, path)
	}
	return func() {
		for _, path := range covered {
			p.check(unix.Unmount(path, unix.MNT_DETACH))
		}
	}
}

func (p *patient) path(name string) string { return filepath.Join(p.dir, name) }

func (p *patient) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) run(argv ...string) string {
	p.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

func (p *patient) command(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(p.programs, "tekton"), append([]string{"doctor", "--config", p.path("host.yaml"), "-o", "json"}, args...)...)
}

// doctor returns the exit code and the findings by check; versions are this
// machine's own matter.
func (p *patient) doctor(args ...string) (int, map[string]doctor.Finding) {
	p.t.Helper()
	cmd := p.command(args...)
	out, err := cmd.Output()
	var r doctor.Report
	if errJSON := json.Unmarshal(out, &r); errJSON != nil {
		p.t.Fatalf("%v: %s (%v)", errJSON, out, err)
	}
	found := map[string]doctor.Finding{}
	errors := 0
	for _, f := range r.Findings {
		if f.Group != "Programs" && f.Check != doctor.Linux {
			found[f.Check] = f
		} else if f.Level == doctor.Error {
			errors++
		}
	}
	code := cmd.ProcessState.ExitCode()
	if r.Count(doctor.Error) > 0 != (code == 1) {
		p.t.Errorf("%d errors, and exit code %d", r.Count(doctor.Error), code)
	}
	if r.Count(doctor.Error) == errors {
		code = 0
	}
	return code, found
}

func (p *patient) want(found map[string]doctor.Finding, check string, level doctor.Level, words ...string) {
	p.t.Helper()
	f := found[check]
	if f.Level != level {
		p.t.Errorf("%s: %+v, want level %s", check, f, level)
	}
	for _, w := range words {
		if !strings.Contains(f.Says+" "+f.Where, w) {
			p.t.Errorf("%s: %+v does not say %q", check, f, w)
		}
	}
}

// TestFaultsOfAHost are made on purpose, and gone when they are.
func TestFaultsOfAHost(t *testing.T) {
	p := newPatient(t)
	code, found := p.doctor()
	if code != 0 {
		t.Errorf("a host without a fault: %+v", found)
	}
	p.want(found, "answers", doctor.Warning, "none has run here yet")
	const loose = "/proc/sys/net/ipv4/conf/all/rp_filter"
	p.check(os.WriteFile(loose, []byte("2"), 0))
	p.run("ip", "link", "add", "doc0", "type", "veth", "peer", "name", "doc1")
	p.run("ip", "address", "add", "10.77.0.9/25", "dev", "doc0")
	port, err := net.Listen("tcp4", ":18088")
	p.check(err)
	code, found = p.doctor()
	if code != 1 {
		t.Errorf("with faults: %+v", found)
	}
	p.want(found, "source addresses", doctor.Warning, "is 2")
	p.want(found, "clashes", doctor.Error, "10.77.0.9/25", "doc0")
	p.want(found, "http", doctor.Error, fmt.Sprintf("(process %d)", os.Getpid()))
	p.check(port.Close())
	p.run("ip", "link", "del", "doc0")
	p.check(os.WriteFile(loose, []byte("0"), 0))
	if code, found = p.doctor(); code != 0 {
		t.Errorf("without the faults: %+v", found)
	}
}

// TestFix mends, once, and only when it is asked to.
func TestFix(t *testing.T) {
	p := newPatient(t)
	t.Cleanup(p.standIns())
	secrets, token := p.path("state/secrets"), p.path("state/secrets/token")
	p.check(os.MkdirAll(secrets, 0o755))
	p.check(os.Chmod(secrets, 0o755))
	p.check(os.WriteFile(token, []byte("value"), 0o644))
	modes := func() string {
		var b strings.Builder
		for _, path := range []string{secrets, token} {
			info, err := os.Stat(path)
			p.check(err)
			fmt.Fprintf(&b, "%04o ", info.Mode().Perm())
		}
		return b.String()
	}
	for _, args := range [][]string{nil, {"--fix", "--dry-run"}} {
		code, found := p.doctor(args...)
		if code != 1 || modes() != "0755 0644 " {
			t.Errorf("%v: %d, modes %s", args, code, modes())
		}
		p.want(found, "secretsDir", doctor.Error, "0755")
		p.want(found, "secret token", doctor.Error, "open to others")
		p.want(found, "inotify", doctor.Warning, "is 128")
	}
	for range 2 {
		code, found := p.doctor("--fix")
		if code != 0 || modes() != "0700 0600 " {
			t.Errorf("after --fix: %+v, modes %s", found, modes())
		}
		p.want(found, "inotify", doctor.OK, "8192")
	}
	written, err := os.ReadFile("/etc/sysctl.d/90-tekton.conf")
	if err != nil || !strings.Contains(string(written), "fs.inotify.max_user_instances = 8192") {
		t.Errorf("for the next boot: %q %v", written, err)
	}
}

// TestThrowAwayMachine finds the rule that drops, and leaves nothing, also killed.
func TestThrowAwayMachine(t *testing.T) {
	p := newPatient(t)
	const link = "tktdod1" // instance tdo, d, slot 1
	hostNow := func() string {
		return p.run("ip", "-o", "-br", "link") + p.run("nft", "list", "ruleset") + p.run("ip", "rule") + p.run("ip", "-o", "address") + p.run("cat", "/proc/sys/net/ipv4/ip_forward") + p.run("ls", "-A", p.dir)
	}
	before := hostNow()
	p.run("nft", "add table inet others; add chain inet others incoming { type filter hook input priority 0; }; add rule inet others incoming udp dport 53 drop")
	code, found := p.doctor("--deep")
	p.run("nft", "delete table inet others")
	if code != 1 {
		t.Errorf("with a rule that drops: %+v", found)
	}
	p.want(found, "a machine reaches DNS (udp 53)", doctor.Error, "inet others incoming", "udp dport 53 drop")
	p.want(found, "a machine reaches DNS (tcp 53)", doctor.OK)
	if now := hostNow(); now != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, now)
	}

	cmd := p.command("--deep")
	p.check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for deadline := time.After(startTimeout); exec.Command("ip", "link", "show", link).Run() != nil; {
		select {
		case err := <-ended:
			t.Fatalf("it ended before there was %s: %v", link, err)
		case <-deadline:
			t.Fatalf("no %s within %s (%v)", link, startTimeout, cmd.Process.Kill())
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.check(cmd.Process.Kill())
	<-ended
	_, found = p.doctor()
	p.want(found, "throw-away machine", doctor.Warning, p.path("state/doctor"))
	takeAway := p.standIns()
	_, found = p.doctor("--fix")
	takeAway()
	if f, there := found["throw-away machine"]; there {
		t.Errorf("--fix left it: %+v", f)
	}
	code, found = p.doctor("--deep")
	if code != 0 {
		t.Errorf("at last: %+v", found)
	}
	for _, check := range []string{"a machine reaches DNS (udp 53)", "a machine reaches the ingress (tcp 18088)", "a machine reaches PostgreSQL (tcp 5432)", "the host reaches a machine"} {
		p.want(found, check, doctor.OK)
	}
	p.check(os.RemoveAll(p.path("state"))) // made by the one that was killed
	p.check(os.RemoveAll(p.path("run")))
	if now := hostNow(); now != before {
		t.Errorf("before:\n%s\nat last:\n%s", before, now)
	}
}
