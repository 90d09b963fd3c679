package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

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
