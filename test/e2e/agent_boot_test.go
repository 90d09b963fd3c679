package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/nix/nixtest"
	"tekton.host/pkg/source/git/gittest"
)

// TestAgentBoots: an agent whose closure, built here, boots a systemd that starts
// its own sshd has what one without an init has, a repository among it.
func TestAgentBoots(t *testing.T) {
	if form() == "systemd" {
		return // the booted host has no Nix
	}
	conf := nixtest.Store(t)
	flake := nixtest.Flake(t, "preview", "")
	nixtest.Systemd(t, flake)
	r := gittest.New(t)
	srv := gittest.Serve(t, r)
	srv.Intercept(gittest.Demand("git", "not-granted"))
	commit := r.Push(map[string]string{"README": "one"})
	k := &agentTest{tekton: prepare(t, "git: {user: nobody}"), key: filepath.Join(t.TempDir(), "key")}
	k.newKey(k.key)
	k.up("NIX_CONF_DIR=" + conf)
	for name, value := range map[string]string{"token": "the-token", "variable": "the-$variable's \"value\"", "forge": "not-granted"} {
		_, err := k.runWith(value, "secret", "set", name)
		k.check(err)
	}
	doc := agent("fix", "sshKeys: ["+k.publicKey(k.key)+"]", "environment: {GREETING: hello}",
		"credentials: [{name: token}, {name: variable, env: VARIABLE}]", "home: {deletionPolicy: Delete}",
		"repository: {url: '"+srv.Address()+"', ref: main, secret: forge}")
	k.write("fix.yaml", strings.Replace(doc, "{host: true}", "{flake: 'path:"+flake+"#agent'}", 1))
	k.ready("fix")
	if out := k.must("agent", "build", "fix"); strings.TrimSpace(out) != k.get("fix").Status.Build.StorePath || !strings.HasPrefix(out, "/nix/store/") {
		t.Errorf("it is built to %q", out)
	}

	has := func(when string) {
		t.Helper()
		for command, want := range map[string]string{
			"id -un; id -u; pwd; hostname":                                                                  "agent\n1000\n/home/agent\nfix",
			"cat /proc/1/comm":                                                                              "systemd",
			"ls /run/credentials; cat /run/credentials/token":                                               "token\nthe-token",
			"stat -c %a:%U /run/credentials/token /run/tekton-environment":                                  "400:agent\n400:agent",
			`. /run/tekton-environment; echo "$GREETING, $VARIABLE"`:                                        `hello, the-$variable's "value"`,
			"cat /run/tekton-ssh/host_key 2>&1 | grep -c denied":                                            "1",
			"stat -c %a:%U /run/tekton-ssh/host_key":                                                        "400:root",
			"stat -c %U /home/agent":                                                                        "agent",
			"cat /workspace/README; cat /workspace/.git/refs/heads/main; stat -c %U /workspace/.git/config": "one" + commit + "\nagent",
			"grep -rlE 'the-token|not-granted' /home /workspace /etc /var 2>/dev/null":                      "",
		} {
			if out, _ := k.ssh("fix", command); out != want {
				t.Errorf("%s: %s says %q, want %q", when, command, out, want)
			}
		}
		if out := k.must("exec", "fix", "--", "systemctl", "is-active", "sshd"); strings.TrimSpace(out) != "active" {
			t.Errorf("%s: its own sshd is %s", when, out)
		}
		// What runs as the machine's root, and it itself, were not given secrets either.
		environments := k.must("exec", "fix", "--", "/bin/sh", "-c", "cat /proc/[0-9]*/environ | tr '\\0' '\\n'")
		if strings.Contains(environments, "the-token") || strings.Contains(environments, "the-$variable") {
			t.Errorf("%s: a secret is in the environment of a process:\n%s", when, environments)
		}
	}
	has("at first")
	k.mustSSH("fix", "echo kept >note")
	first := k.get("fix").Status
	k.must("restart", "fix")
	k.eventually("fix is restarted", func() error {
		if now := k.get("fix").Status; now.StartedAt.Equal(first.StartedAt) || now.Phase != v1alpha1.PhaseReady {
			return fmt.Errorf("%s since %s", now.Phase, now.StartedAt)
		}
		return nil
	})
	has("after a restart")
	if out := k.mustSSH("fix", "cat note"); out != "kept" {
		t.Errorf("its home holds %q", out)
	}
	if now := k.get("fix").Status; now.SSH.HostKey != first.SSH.HostKey {
		t.Errorf("another host key: %s, then %s", first.SSH.HostKey, now.SSH.HostKey)
	}
	k.rotates("fix")
	k.must("agent", "destroy", "fix", "--wait")
}
