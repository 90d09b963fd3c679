package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// repository in a host, read-only.
const repository = "/srv/tekton"

// TestInstalled follows the README on a Debian host that runs systemd-networkd:
// install, start, the quickstart, an upgrade, the way out.
func TestInstalled(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return // it boots a host
	}
	t.Parallel()
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir() // a real file system, as machines need it
	if err := os.Chmod(state, 0o711); err != nil {
		t.Fatal(err)
	}
	h := systemdhost.Boot(t, systemdhost.Options{Binds: []systemdhost.Bind{
		{Source: source, Target: repository, ReadOnly: true}, {Source: state, Target: "/var/lib/tekton"},
	}})
	s := &server{&tekton{t: t}, h}
	dir, err := programs()
	s.check(err)
	for _, name := range []string{"tekton", "tekton-init", "tekton-launch", "tekton-status", "tekton-supervise", "tekton-webhook", "tektond"} {
		s.check(h.Copy(filepath.Join(dir, name), "/data/bin/"+name))
	}

	foreignRule := func() bool { return strings.Contains(s.inside("ip", "rule"), "from 203.0.113.7") }
	addRule := func() { s.inside("ip", "rule", "add", "from", "203.0.113.7", "table", "77") }
	// It looks at rules when it configures a link.
	network := filepath.Join(t.TempDir(), "uplink.network")
	s.check(os.WriteFile(network, []byte("[Match]\nName=uplink0\n[Network]\nAddress=192.0.2.1/24\n"), 0o644))
	s.check(h.Copy(network, "/etc/systemd/network/uplink.network"))
	s.inside("chmod", "0644", "/etc/systemd/network/uplink.network")
	s.inside("ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "uplink1")
	s.inside("ip", "link", "set", "uplink1", "up")
	restartNetworkd := func() {
		t.Helper()
		s.inside("systemctl", "restart", "systemd-networkd")
		s.eventually("systemd-networkd has configured its link", func() error {
			if state := s.inside("networkctl", "--no-legend", "list", "uplink0"); !strings.Contains(state, " configured") {
				return errors.New(state)
			}
			return nil
		})
	}
	addRule()
	restartNetworkd()
	if foreignRule() {
		t.Error("control: systemd-networkd leaves rules that are not its own alone, by itself")
	} else {
		addRule()
	}

	install := func() string { return s.inside("env", "BIN=/data/bin", repository+"/hack/install.sh") }
	said := install()
	for _, command := range []string{"systemctl enable --now tektond", "systemctl restart systemd-networkd"} {
		if !strings.Contains(said, command) {
			t.Errorf("install.sh does not name the command %q:\n%s", command, said)
		}
	}
	for _, name := range []string{"man/man1/tekton-logs.1", "bash-completion/completions/tekton", "zsh/site-functions/_tekton", "fish/vendor_completions.d/tekton.fish"} {
		s.inside("test", "-s", "/usr/local/share/"+name)
	}
	restartNetworkd()
	s.inside("systemctl", "enable", "--now", "tektond")
	s.inside("tekton", "validate", "/etc/tekton/host.yaml")
	s.inside("getent", "group", "tekton")

	s.inside("sh", "-c", "cp "+repository+"/examples/quickstart/*.yaml /var/lib/tekton/specs/")
	names := []string{"guestbook", "hello", "shop", "shop-api"}
	s.inside(append([]string{"tekton", "wait", "--for=condition=Ready", "--timeout=60s"}, names...)...)
	fetch := func(url string, more ...string) string {
		t.Helper()
		return s.inside(append([]string{"curl", "-sSf", "--max-time", "10", url}, more...)...)
	}
	for url, want := range map[string]string{
		"http://hello.localhost/": "Hello from hello", "http://shop.localhost/": "Shop", "http://shop.localhost/api/prices.json": "hammer",
	} {
		if got := fetch(url); !strings.Contains(got, want) {
			t.Errorf("%s: %s", url, got)
		}
	}
	fetch("http://guestbook.localhost/", "--data-urlencode", "text=I was here")
	if got := fetch("http://guestbook.localhost/"); !strings.Contains(got, "I was here") {
		t.Errorf("the guestbook has no entry: %s", got)
	}

	// The check of docs/webhook.md, without a secret; with it further below.
	page, err := os.ReadFile(filepath.Join(source, "docs/webhook.md"))
	s.check(err)
	_, check, _ := strings.Cut(string(page), "```sh\nsystemd-run ")
	check, _, _ = strings.Cut(check, "\n```")
	const secrets = "cd /etc/tekton/webhook-secrets && umask 077 && "
	s.inside("sh", "-c", secrets+"echo x >github")
	if out, err := h.Run(t.Context(), "sh", "-c", "systemd-run "+check+" 2>&1"); err == nil || !strings.Contains(out, "secret_github-token: no such file") {
		t.Errorf("%v: %s", err, out)
	}

	// An upgrade: nobody notices.
	units := func(pattern string) string {
		return s.inside("systemctl", "list-units", "--plain", "--no-legend", "--state=running", pattern)
	}
	const machines = "tekton-*-1.service"
	before, daemon := s.mainPIDs(units(machines)), s.property("tektond.service", "MainPID")
	install()
	s.inside("systemctl", "restart", "tektond")
	restartNetworkd()
	s.inside(append([]string{"tekton", "wait", "--for=condition=Ready", "--timeout=60s"}, names...)...)
	if now := s.mainPIDs(units(machines)); now != before || s.property("tektond.service", "MainPID") == daemon {
		t.Errorf("an upgrade of the daemon, which was %s:\n%s\nbecame\n%s", daemon, before, now)
	}
	if !foreignRule() || !strings.Contains(s.inside("ip", "rule"), "10.100.0.0/16") {
		t.Errorf("systemd-networkd has removed rules:\n%s", s.inside("ip", "rule"))
	}

	s.serveGit()
	s.webhook(check)
	s.followsGit()
	s.page(source)

	// As the README says it.
	s.inside("sh", "-c", "tekton delete $(tekton get -o name) --wait")
	s.eventually("nothing is left", func() error {
		left, rules := units("tekton-*.service"), s.inside("ip", "rule")
		if left != "" || strings.Contains(rules, "10.100.0.0/16") {
			return fmt.Errorf("left behind: %s\n%s", left, rules)
		}
		return nil
	})
}

// webhook sets up what takes pull requests, as its page says: under its unit,
// confined as that is, it reads its secrets, hears the daemon and answers.
func (s *server) webhook(check string) {
	s.t.Helper()
	const host = "apiVersion: tekton.host/v1alpha1\nkind: Host\nmetadata: {name: host}\nspec:\n  readSocketGroup: tekton-webhook\n  previews: {domain: preview.test}\n" +
		"  sources:\n  - {name: local, path: /var/lib/tekton/specs}\n" +
		"  - {name: pull-requests, path: /var/lib/tekton-webhook/specs, allow: {kinds: [Preview], repositories: [shop], domains: ['*.preview.test']}}\n" + gitSource
	put := func(file, text string) {
		s.inside("sh", "-c", "umask 077 && cat >"+file+" <<'END'\n"+text+"END\n")
	}
	put("/etc/tekton/webhook-secrets/github", "a secret\n")
	put("/etc/tekton/webhook-secrets/github-token", "a-token\n")
	if out, err := s.host.Run(s.t.Context(), "sh", "-c", "systemd-run "+check+" 2>&1"); err == nil || !strings.Contains(out, "there is no socket /run/tekton/read.sock") {
		s.t.Errorf("the check before the daemon lets it ask: %v: %s", err, out)
	}
	put("/etc/tekton/host.yaml", host)
	s.inside("systemctl", "restart", "tektond")
	s.inside("sh", "-c", "systemd-run "+check)
	s.inside("systemctl", "start", "tekton-webhook")
	answer := func(args ...string) string {
		return s.inside(append([]string{"curl", "-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}"}, args...)...)
	}
	s.eventually("the webhook hears the daemon", func() error {
		if code := answer("http://127.0.0.1:9180/healthz"); code != "200" {
			return fmt.Errorf("it is healthy: %s\n%s", code, s.inside("journalctl", "--no-pager", "-u", "tekton-webhook", "-n", "20"))
		}
		return nil
	})
	if code := answer("-d", "{}", "http://127.0.0.1:9180/webhook/github"); code != "401" {
		s.t.Errorf("a delivery without a signature was answered with %s", code)
	}
	s.confined("tekton-webhook")
}

// confined checks the process of a unit, and stops it.
func (s *server) confined(unit string) {
	s.t.Helper()
	status := s.inside("cat", "/proc/"+s.property(unit+".service", "MainPID")+"/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			s.t.Errorf("the process of %s is not confined, no %q in\n%s", unit, want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0") {
		s.t.Errorf("%s runs as root:\n%s", unit, status)
	}
	s.inside("systemctl", "stop", unit)
	if result := s.property(unit+".service", "Result"); result != "success" {
		s.t.Errorf("%s ended with %s", unit, result)
	}
}

// page sets up the status page beside the webhook, as its page says: it reads on the
// socket that they share, and who has the token has an object restarted.
func (s *server) page(source string) {
	s.t.Helper()
	s.inside("usermod", "-aG", "tekton-webhook", "tekton-status")
	s.inside("sed", "-i", "s/^spec:/spec:\\n  operateSocketGroup: tekton-status/", "/etc/tekton/host.yaml")
	s.inside("sh", "-c", "umask 077; openssl rand -hex 32 >/etc/tekton/status-secrets/token")
	s.inside("sh", "-c", "printf 'operateSocket: /run/tekton/operate.sock\\ntokenFile: secret_token\\n' >>/etc/tekton/status.yaml")
	s.inside("systemctl", "restart", "tektond")
	text, err := os.ReadFile(filepath.Join(source, "docs/status-page.md"))
	s.check(err)
	_, check, _ := strings.Cut(string(text), "```sh\nsystemd-run ")
	check, _, _ = strings.Cut(check, "\n```")
	s.eventually("the check of docs/status-page.md is content", func() error {
		out, err := s.host.Run(s.t.Context(), "sh", "-c", "systemd-run "+check+" 2>&1")
		if err != nil || out != "" {
			return fmt.Errorf("%s, %v", out, err)
		}
		return nil
	})
	s.inside("systemctl", "start", "tekton-status")
	const url = "http://127.0.0.1:9190"
	curl := func(args string) string {
		return s.inside("sh", "-c", "curl -sS --max-time 20 -b /tmp/jar -c /tmp/jar "+args)
	}
	s.eventually("the page hears the daemon", func() error {
		if got := curl(url + "/healthz"); got != "ok" && got != "ok\n" {
			return fmt.Errorf("%s\n%s", got, s.inside("journalctl", "--no-pager", "-u", "tekton-status", "-n", "20"))
		}
		return nil
	})
	if got := curl(url + "/"); !strings.Contains(got, `href="/objects/Container/hello"`) || !strings.Contains(got, "http://hello.localhost") {
		s.t.Errorf("the page shows %s", got)
	}
	const restart = url + "/objects/Container/hello/restart"
	if got := curl("-o /dev/null -w '%{http_code}' -d csrf= " + restart); got != "403" {
		s.t.Errorf("a restart without a token is answered with %s", got)
	}
	curl("-d token=$(cat /etc/tekton/status-secrets/token) " + url + "/login")
	word := `$(curl -sS -b /tmp/jar ` + url + `/objects/Container/hello | sed -n 's/.*name="csrf" value="\([^"]*\)".*/\1/p')`
	if got := curl(`-L -d "csrf=` + word + `" ` + restart); !strings.Contains(got, "asked for another start") {
		s.t.Errorf("a restart with the token is answered with %s", got)
	}
	s.confined("tekton-status")
}

// mainPIDs of listed units.
func (s *server) mainPIDs(list string) string {
	s.t.Helper()
	var b strings.Builder
	for line := range strings.Lines(list) {
		unit := strings.Fields(line)[0]
		b.WriteString(unit + " " + s.property(unit, "MainPID") + "\n")
	}
	return b.String()
}
