package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source/git/gittest"
)

// agentTest comes into agents with a key of its own.
type agentTest struct {
	*tekton
	key string // file of the private one
}

func startAgents(t *testing.T) *agentTest {
	k := &agentTest{tekton: start(t), key: filepath.Join(t.TempDir(), "key")}
	k.newKey(k.key)
	return k
}

func (k *agentTest) newKey(file string) {
	k.t.Helper()
	mustRun(k.t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", file)
}

// ssh runs a command in an agent by ssh.
func (k *agentTest) ssh(name string, command ...string) (string, error) {
	out, err := k.run(append([]string{"agent", "ssh", "-i", k.key, name, "--"}, command...)...)
	return strings.TrimSpace(out), err
}

func (k *agentTest) mustSSH(name string, command ...string) string {
	k.t.Helper()
	out, err := k.ssh(name, command...)
	if err != nil {
		said, _ := k.run("logs", name)
		k.t.Fatalf("%v\nits machine says:\n%s", err, said)
	}
	return out
}

// TestAgent: ssh comes in as the agent's user with the host key that the daemon
// says, and no other; its home and that key outlive it.
func TestAgent(t *testing.T) {
	t.Parallel()
	k := startAgents(t)
	_, err := k.runWith("the-token", "secret", "set", "token")
	k.check(err)
	const greeting = `it's "quoted" \ and $HOME`
	k.must("agent", "create", "fix", "--ssh-key", k.key+".pub", "--credential", "token", "--ttl", "8h", "--wait")
	if _, err := k.run("agent", "create", "fix", "--ssh-key", k.key+".pub"); err == nil {
		t.Error("an agent is created twice")
	}
	k.mustSSH("fix", "true")
	for command, want := range map[string]string{
		"id -un": "agent", "id -u": "1000", "pwd": "/home/agent", "hostname": "fix", "echo $SHELL": "/bin/bash",
		"cat /run/credentials/token": "the-token", "stat -c %a:%U /run/credentials/token": "400:agent",
		"env | grep -c the-token": "0", "cat /run/tekton-ssh/host_key 2>&1 | grep -c denied": "1",
	} {
		if out, _ := k.ssh("fix", command); out != want { // grep -c of nothing fails
			t.Errorf("%s says %q, want %q", command, out, want)
		}
	}
	k.mustSSH("fix", "echo kept >note")
	if _, err := k.ssh("fix", "exit 7"); exitCode(err) != 7 {
		t.Errorf("a command that exits with 7: %v", err)
	}
	k.onlyTheRightKeys()

	first := k.get("fix").Status
	k.must("agent", "destroy", "fix", "--wait")
	k.must("agent", "create", "fix", "--ssh-key", k.key+".pub", "--wait")
	if again := k.get("fix").Status.SSH; again.HostKey != first.SSH.HostKey {
		t.Errorf("made again it has another host key: %s, then %s", first.SSH.HostKey, again.HostKey)
	}
	if out := k.mustSSH("fix", "cat note; [ -e /run/credentials/token ] || echo none"); out != "kept\nnone" {
		t.Errorf("made again its home and credentials are %q", out)
	}
	// Variables, of whatever they consist, are those of sessions.
	k.write("vars.yaml", agent("vars", "user: me", "sshKeys: ["+k.publicKey(k.key)+"]", "environment: {GREETING: '"+strings.ReplaceAll(greeting, "'", "''")+"'}",
		"credentials: [{name: token, env: TOKEN}]", "home: {deletionPolicy: Delete}"))
	k.ready("vars")
	if out := k.mustSSH("vars", `printf %s "$GREETING|$TOKEN|$USER|$HOME"`); out != greeting+"|the-token|me|/home/me" {
		t.Errorf("its variables are %q", out)
	}
	if one, other := k.get("vars").Status.SSH.HostKey, k.get("fix").Status.SSH.HostKey; one == other {
		t.Error("two agents have one host key")
	}
	k.rotates("vars")
}

// agent is a document of an agent.
func agent(name string, lines ...string) string {
	return strings.Replace(container(name, append([]string{"system: {host: true}"}, lines...)...), "kind: Container", "kind: Agent", 1)
}

func (k *agentTest) publicKey(file string) string {
	k.t.Helper()
	b, err := os.ReadFile(file + ".pub")
	k.check(err)
	return strings.TrimSpace(string(b))
}

// onlyTheRightKeys: a machine that shows another host key is not entered, and
// nobody enters with another key, a password, or as another user.
func (k *agentTest) onlyTheRightKeys() {
	k.t.Helper()
	s := k.get("fix").Status
	known := filepath.Join(k.t.TempDir(), "known")
	ssh := func(hostKey, identity, user string) string {
		k.check(os.WriteFile(known, []byte("it "+hostKey+"\n"), 0o600))
		return output("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=/dev/null",
			"-o", "HostKeyAlias=it", "-o", "IdentitiesOnly=yes", "-i", identity, "-l", user, "--", s.Address, "echo in")
	}
	other := filepath.Join(k.t.TempDir(), "other")
	k.newKey(other)
	wrong := strings.Join(strings.Fields(k.publicKey(other))[:2], " ")
	for what, c := range map[string]struct{ got, want string }{
		"all is right":          {ssh(s.SSH.HostKey, k.key, "agent"), "in\n"},
		"another host key":      {ssh(wrong, k.key, "agent"), "Host key verification failed"},
		"another key":           {ssh(s.SSH.HostKey, other, "agent"), "Permission denied (publickey)"},
		"another user":          {ssh(s.SSH.HostKey, k.key, "root"), "Permission denied (publickey)"},
		"user without password": {ssh(s.SSH.HostKey, k.key, "daemon"), "Permission denied (publickey)"},
	} {
		if !strings.Contains(c.got, c.want) {
			k.t.Errorf("%s: %q, want %q", what, c.got, c.want)
		}
	}
	// All come from the host's address: who has no key does not lock out who has one.
	for range 4 {
		ssh(s.SSH.HostKey, other, "agent")
	}
	if said := ssh(s.SSH.HostKey, k.key, "agent"); said != "in\n" {
		k.t.Errorf("after others were refused: %q", said)
	}
	// Nothing of the derived key is on a disk: not in records, logs or the machine's root.
	if found := output("grep", "-rlF", "--exclude-dir=image", "PRIVATE KEY", k.dir); strings.Contains(found, k.dir+"/") {
		k.t.Errorf("a private key is in %s", found)
	}
}

// rotates: another key lets in without a restart, and the former does not any more.
func (k *agentTest) rotates(name string) {
	k.t.Helper()
	before, old := k.get(name).Status, k.key
	k.key = filepath.Join(k.t.TempDir(), "next")
	k.newKey(k.key)
	if _, err := k.ssh(name, "true"); err == nil {
		k.t.Error("any key lets in")
	}
	doc, err := os.ReadFile(k.specs(name + ".yaml"))
	k.check(err)
	k.write(name+".yaml", strings.Replace(string(doc), k.publicKey(old), k.publicKey(k.key), 1))
	k.eventually("the new key lets in", func() error {
		_, err := k.ssh(name, "true")
		return err
	})
	former := k.key
	k.key = old
	if _, err := k.ssh(name, "true"); err == nil {
		k.t.Error("the former key lets in")
	}
	k.key = former
	if now := k.get(name).Status; now.Machine != before.Machine || !now.StartedAt.Equal(before.StartedAt) {
		k.t.Errorf("a change of keys restarted the machine: %s since %s, then %s since %s", before.Machine, before.StartedAt, now.Machine, now.StartedAt)
	}
}

// TestTTL: an agent is warned of and removed, its document too, without its
// neighbour in the file; more time and an end of the limit count.
func TestTTL(t *testing.T) {
	t.Parallel()
	k := startAgents(t)
	k.write("all.yaml", agent("short", "ttl: 12s", "home: {deletionPolicy: Delete}"), agent("kept", "ttl: 14s   # a while"), agent("more", `ttl: "14s"`))
	k.ready("short", "kept", "more")
	k.must("agent", "keep", "kept")
	k.must("agent", "extend", "more", "1h")
	k.condition("short", v1alpha1.ConditionExpiring, "ExpiresSoon")
	if out := k.must("why", "short"); !strings.Contains(out, "Its ttl is over in ") {
		t.Errorf("why does not say when: %s", out)
	}
	k.gone("short")
	text, err := os.ReadFile(k.specs("all.yaml"))
	k.check(err)
	for _, want := range []string{"name: kept", "ttl: 0s   # a while", "name: more", "ttl: 1h0m14s"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the file lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "name: short") {
		t.Errorf("its document is still there:\n%s", text)
	}
	time.Sleep(3 * time.Second) // the others would have gone by now
	for name, wants := range map[string]bool{"kept": false, "more": true} {
		i := k.get(name)
		if i.Status.Phase != v1alpha1.PhaseReady || i.Status.ExpiresAt.IsZero() == wants {
			t.Errorf("%s: %+v", name, i.Status)
		}
	}
	events := k.must("events", "agent/short")
	if at, end := strings.Index(events, "ExpiresSoon"), strings.Index(events, "Deleted"); at < 0 || end < at {
		t.Errorf("a warning, then the deletion are told:\n%s", events)
	}
	if out := k.must("data", "list", "-o", "name"); !strings.Contains(out, fmt.Sprint("agent.short.", v1alpha1.HomeVolume)) {
		t.Errorf("its home is not in the trash: %s", out)
	}
}

// TestAgentRepository: an agent finds a clone that is its user's, made with a
// secret of the host that does not come in with it.
func TestAgentRepository(t *testing.T) {
	t.Parallel()
	const token = "t0ken-of-the-forge"
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	srv.Intercept(gittest.Demand("git", token))
	commit := r.Push(map[string]string{"README": "one"})
	k := &agentTest{tekton: prepare(t), key: filepath.Join(t.TempDir(), "key")}
	k.newKey(k.key)
	k.extra = "git: {user: nobody}"
	k.writeConfig()
	k.up()
	_, err := k.runWith(token, "secret", "set", "forge")
	k.check(err)
	k.must("agent", "create", "dev", "--ssh-key", k.key+".pub", "--repository", srv.Address(), "--ref", "main", "--repository-secret", "forge", "--delete-home", "--wait")
	for command, want := range map[string]string{
		"cd /workspace && git rev-parse origin/main":                                 commit,
		"cd /workspace && git status --short && git branch --show-current":           "main",
		"cd /workspace && git remote get-url origin":                                 srv.Address(),
		"stat -c %U /workspace /workspace/.git/config | sort -u":                     "agent",
		"cd /workspace && echo two >README && git commit -qam two && echo done":      "done",
		"grep -rl " + token + " /workspace /home /run/credentials 2>/dev/null | cat": "",
	} {
		if out, err := k.ssh("dev", "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; "+command); out != want {
			t.Errorf("%s says %q (%v), want %q", command, out, err, want)
		}
	}
}
