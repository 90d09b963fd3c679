package e2e_test

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// The neighbourhood of the host: a network behind a link of its own, with
// something in it, a metadata service, and a public address.
const (
	hostLAN  = "192.168.77.1"
	lanPeer  = "192.168.77.2"
	metadata = "169.254.169.254"
	public   = "203.0.113.7"
)

// neighbourhood is a namespace where a guest listens on all of these addresses.
func (k *tekton) neighbourhood() {
	k.t.Helper()
	cmd := exec.Command(filepath.Join(k.programs, "guest"), "stubborn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	k.check(cmd.Start())
	k.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	link := "lan" + k.instance
	k.t.Cleanup(func() { exec.Command("ip", "link", "del", link).Run() })
	pid := strconv.Itoa(cmd.Process.Pid)
	in := "nsenter -n -t " + pid + " "
	for _, line := range []string{
		"ip link add " + link + " type veth peer name eth0 netns " + pid,
		"ip address add " + hostLAN + "/24 dev " + link, "ip link set " + link + " up",
		in + "ip link set lo up", in + "ip link set eth0 up", in + "ip address add " + lanPeer + "/24 dev eth0",
		in + "ip address add " + metadata + "/32 dev lo", in + "ip address add " + public + "/32 dev lo",
		in + "ip route add " + k.subnet + " via " + hostLAN,
		"ip route add " + metadata + " via " + lanPeer, "ip route add " + public + " via " + lanPeer,
	} {
		mustRun(k.t, strings.Fields(line)...)
	}
	for _, addr := range []string{lanPeer, metadata, public} {
		k.eventually("the host itself reaches "+addr, func() error { _, _, err := fetch("http://"+addr+":8080/ready", ""); return err })
	}
}

// TestReach asks from inside machines what can be reached.
func TestReach(t *testing.T) {
	k := start(t)
	k.neighbourhood()
	// A service of the host on all its addresses.
	listener, err := net.Listen("tcp", ":7777")
	k.check(err)
	t.Cleanup(func() { listener.Close() })
	k.write("all.yaml",
		k.guest("a", "databases: [{name: main, deletionPolicy: Delete}]", "network: {links: [{to: b, port: 8080}]}"),
		k.guest("b"), k.guest("c"),
		k.guest("closed", "network: {egress: {mode: none}}"))
	k.ready("a", "b", "c", "closed")
	addr := map[string]string{}
	for _, name := range []string{"a", "b", "c", "closed"} {
		addr[name] = k.get(name).Status.Address
	}
	tests := []struct {
		from, to string
		open     bool
	}{
		{"a", addr["b"] + ":8080", true},  // the declared link
		{"a", addr["b"] + ":8081", false}, // not its other port
		{"b", addr["a"] + ":8080", false}, // not back
		{"a", addr["c"] + ":8080", false},
		{"a", k.service() + ":5432", true}, // its database
		{"b", k.service() + ":5432", false},
		{"a", k.service() + ":7777", false},
		{"a", hostLAN + ":7777", false},
		{"a", lanPeer + ":8080", false},
		{"a", metadata + ":8080", false},
		{"a", "127.0.0.1:7777", false},
		{"a", public + ":8080", true},
		{"closed", public + ":8080", false},
		{"closed", lanPeer + ":8080", false},
	}
	for _, tt := range tests {
		if got := k.mustAsk(tt.from, "/dial", "addr", tt.to); (got == "open") != tt.open {
			t.Errorf("from %s to %s: %s", tt.from, tt.to, got)
		}
	}
	if got := k.mustAsk("a", "/lookup", "name", "b.tekton.internal"); got != addr["b"] {
		t.Errorf("the name of the linked object: %q", got)
	}
	for from, name := range map[string]string{"b": "a", "a": "c"} {
		if got := k.mustAsk(from, "/lookup", "name", name+".tekton.internal"); strings.HasPrefix(got, "10.") {
			t.Errorf("%s resolves %s, which it has no link to: %s", from, name, got)
		}
	}
	// From the neighbourhood nobody gets in who was not asked.
	for name, a := range addr {
		if code, _, err := fetch("http://"+lanPeer+":8080/dial?addr="+a+":8080", ""); err != nil || code != 200 {
			t.Errorf("ask the neighbour: %d %v", code, err)
		}
		_, body, _ := fetch("http://"+lanPeer+":8080/dial?addr="+a+":8080", "")
		if body == "open" {
			t.Errorf("the neighbour reaches %s", name)
		}
	}
	// A link that is taken away closes, without a restart.
	pid := k.leader("a")
	k.write("all.yaml", k.guest("a", "databases: [{name: main, deletionPolicy: Delete}]"), k.guest("b"), k.guest("c"),
		k.guest("closed", "network: {egress: {mode: internet}, ports: [{hostPort: "+strconv.Itoa(k.publishedPort())+", port: 8080, hostIP: "+hostLAN+"}]}"))
	k.eventually("the link is closed", func() error {
		if got, err := k.ask("a", "/dial", "addr", addr["b"]+":8080"); err != nil || got == "open" {
			return fmt.Errorf("%s %v", got, err)
		}
		return nil
	})
	k.eventually("the published port answers the neighbour", func() error {
		_, body, err := fetch("http://"+lanPeer+":8080/dial?addr="+hostLAN+":"+strconv.Itoa(k.publishedPort()), "")
		if err == nil && body != "open" {
			err = fmt.Errorf("it is %s", body)
		}
		return err
	})
	k.ready("a", "b", "c", "closed")
	if k.leader("a") != pid {
		t.Error("taking a link away has restarted the machine")
	}
}

func (k *tekton) publishedPort() int { return 19000 + k.n }

const canary = "canary-7f3a1c5be2-of-the-secret"

// TestSecrets delivers a secret, rotates it, and looks for it everywhere else.
func TestSecrets(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("app.yaml", k.guest("app", "credentials: [{name: token}, {name: key, path: /run/keys/key}, {name: third, env: THIRD}]", "user: app"))
	k.condition("app", v1alpha1.ConditionSecretsReady, "SecretMissing")
	if machines := k.machines(); len(machines) > 0 {
		t.Errorf("started without its secrets: %q", machines)
	}
	for _, name := range []string{"token", "key", "third"} {
		_, err := k.runWith(canary+name, "secret", "set", name)
		k.check(err)
	}
	k.ready("app")
	for path, name := range map[string]string{"/run/credentials/token": "token", "/run/keys/key": "key"} {
		if got := k.mustAsk("app", "/read", "path", path); got != canary+name {
			t.Errorf("%s holds %q", path, got)
		}
		const tmpfs = "1021994"
		if got, want := k.mustAsk("app", "/stat", "path", path), "0400 uid=1000 fs="+tmpfs; got != want {
			t.Errorf("%s is %s, expected %s", path, got, want)
		}
	}
	if got := k.aboutOf("app").env("THIRD"); got != canary+"third" {
		t.Errorf("the variable holds %q", got)
	}
	machine := k.get("app").Status.Machine
	_, err := k.runWith(canary+"rotated", "secret", "set", "token")
	k.check(err)
	k.eventually("a new machine has the rotated secret", func() error {
		got, err := k.ask("app", "/read", "path", "/run/credentials/token")
		if err == nil && got != canary+"rotated" {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
	k.ready("app")
	if k.get("app").Status.Machine == machine {
		t.Error("the rotated secret came to the old machine")
	}
	k.signal(syscall.SIGTERM) // so that all logs are written
	k.up()
	k.ready("app")
	k.leaks()
}

// leaks looks for the canary where no secret may be.
func (k *tekton) leaks() {
	k.t.Helper()
	said := map[string]string{}
	for _, args := range [][]string{{"get", "-o", "yaml"}, {"get", "-o", "json"}, {"describe", "app"}, {"plan"}, {"plan", "-f", k.specs("app.yaml")}, {"logs", "app"}, {"secret", "list"}} {
		out, err := k.run(args...)
		said["tekton "+strings.Join(args, " ")] = out + fmt.Sprint(err)
	}
	for _, line := range k.processes(func(process) bool { return true }) {
		said["command lines"] += line + "\n"
	}
	// What the daemon and the supervisors were started with; the guest's own
	// environment is where the secret belongs.
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	k.check(err)
	for _, path := range environments {
		cmdline, _ := os.ReadFile(filepath.Dir(path) + "/cmdline")
		if b, err := os.ReadFile(path); err == nil && !strings.HasPrefix(string(cmdline), "guest\x00") {
			said[path+" of "+string(cmdline)] = string(b)
		}
	}
	k.check(filepath.WalkDir(k.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what goes while we look
		}
		if path == k.state("secrets") || path == k.rootfs || d.Type()&fs.ModeSocket != 0 {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			if b, err := os.ReadFile(path); err == nil {
				said[path] = string(b)
			}
		}
		return nil
	}))
	for where, text := range said {
		if strings.Contains(text, canary) {
			k.t.Errorf("the secret is in %s", where)
		}
	}
}
