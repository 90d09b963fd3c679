package e2e_test

import (
	"strings"
)

// gitServer is a forge of its own on the host: sshd as Debian has it, and a
// repository of a user who may do nothing else.
const gitServer = `set -e
systemctl start ssh
useradd --system --create-home --home-dir /var/lib/forge --password '*' forge
install -d -o forge -m 0700 /var/lib/forge/.ssh
umask 077
for key in deploy signer stranger; do ssh-keygen -q -t ed25519 -N '' -C $key -f /etc/tekton/$key; done
install -o forge -m 0600 /etc/tekton/deploy.pub /var/lib/forge/.ssh/authorized_keys
ssh-keyscan -q -t ed25519 127.0.0.1 >/etc/tekton/known_hosts
test -s /etc/tekton/known_hosts
echo "alice@example.org $(cat /etc/tekton/signer.pub)" >/etc/tekton/allowed_signers
runuser -u forge -- git init --quiet --bare --initial-branch main /var/lib/forge/fleet.git
git clone --quiet forge@127.0.0.1:fleet.git /root/fleet 2>/dev/null
cd /root/fleet
git checkout --quiet -B main
git config user.name Alice
git config user.email alice@example.org
git config gpg.format ssh
mkdir -p hosts/a
touch hosts/a/.tekton-source
`

// gitSource is of the Host: a branch over ssh of which only signed commits count.
const gitSource = "  - name: fleet\n    git:\n      url: ssh://forge@127.0.0.1/var/lib/forge/fleet.git\n      branch: main\n      path: hosts/a\n" +
	"      auth: {sshKeyFile: /etc/tekton/deploy, knownHostsFile: /etc/tekton/known_hosts}\n      verify: {allowedSignersFile: /etc/tekton/allowed_signers}\n" +
	"    allow: {kinds: [Container], maxObjects: 5}\n"

// serveGit makes the git server, with a key of root's to come in.
func (s *server) serveGit() {
	s.t.Helper()
	const ssh = "export GIT_SSH_COMMAND='ssh -i /etc/tekton/deploy -o IdentitiesOnly=yes -o UserKnownHostsFile=/etc/tekton/known_hosts'\n"
	before, clone, _ := strings.Cut(gitServer, "git clone")
	s.inside("bash", "-c", before+ssh+"git clone"+clone+"git config core.sshCommand \"$GIT_SSH_COMMAND\"")
}

// pushed commits all of the clone with a key, and pushes it; the commit.
func (s *server) pushed(key, change string) string {
	s.t.Helper()
	return strings.TrimSpace(s.inside("bash", "-c", "set -e; cd /root/fleet; "+change+
		"; git add --all; git -c user.signingkey=/etc/tekton/"+key+" commit --quiet -S --message change; git push --quiet origin main; git rev-parse HEAD"))
}

// followsGit: under its unit, with the user of the installation, the daemon
// fetches over ssh, believes signatures and no strangers, and forgets nothing.
func (s *server) followsGit() {
	s.t.Helper()
	const spec = "printf 'apiVersion: tekton.host/v1alpha1\\nkind: Container\\nmetadata: {name: fleet}\\nspec: {system: {host: true}, user: nobody, command: [sleep, infinity]}\\n' >hosts/a/fleet.yaml"
	first := s.pushed("signer", spec)
	s.inside("tekton", "source", "sync", "fleet")
	s.inside("tekton", "wait", "--for=condition=Ready", "--timeout=60s", "fleet")
	if list := s.inside("tekton", "source", "list"); !strings.Contains(list, first[:12]) {
		s.t.Errorf("not the commit %s:\n%s", first, list)
	}
	if owners := s.inside("sh", "-c", "find /var/lib/tekton -name 'packed-refs' -o -name '*.pack' | xargs stat -c %U | sort -u"); strings.TrimSpace(owners) != "tekton-git" {
		s.t.Errorf("git has run as %q", owners)
	}
	s.pushed("stranger", "rm hosts/a/fleet.yaml")
	if out, err := s.host.Run(s.t.Context(), "sh", "-c", "tekton source sync fleet 2>&1"); err == nil || !strings.Contains(out, "sign") {
		s.t.Errorf("a commit of a stranger: %v: %s", err, out)
	}
	if list := s.inside("tekton", "source", "list"); !strings.Contains(list, first[:12]) {
		s.t.Errorf("not the last good commit %s:\n%s", first, list)
	}
	s.inside("tekton", "wait", "--for=condition=Ready", "--timeout=60s", "fleet")
	s.pushed("signer", "echo more >README")
	s.inside("tekton", "source", "sync", "fleet")
	s.inside("tekton", "wait", "--for=delete", "--timeout=60s", "fleet")
	if keys := s.inside("sh", "-c", "grep -rl 'OPENSSH PRIVATE KEY' /run/tekton /var/lib/tekton || true"); keys != "" {
		s.t.Errorf("the key is left in %s", keys)
	}
}
