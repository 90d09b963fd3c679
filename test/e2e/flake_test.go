package e2e_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/nix/nixtest"
)

// site is an object that runs an attribute of a flake, on a host name of its own.
func site(name, flake string) string {
	return fmt.Sprintf(`apiVersion: tekton.host/v1alpha1
kind: Container
metadata: {name: %s}
spec:
  system: {flake: '%s'}
  stopTimeout: 1s
  routes: [{host: %s.test, port: 80}]
`, name, flake, name)
}

// shows expects a page.
func (k *tekton) shows(host, want string) {
	k.t.Helper()
	k.eventually(host+" shows "+want, func() error {
		code, got, err := k.through(host, "/")
		if err == nil && (code != http.StatusOK || got != want) {
			err = fmt.Errorf("it shows %d %q", code, got)
		}
		return err
	})
}

// builtIs expects the condition Built with a reason, and returns its message.
func (k *tekton) builtIs(name, reason string) (message string) {
	k.t.Helper()
	k.eventually(name+": Built has reason "+reason, func() error {
		i, err := k.item(name)
		if err != nil {
			return err
		}
		for _, c := range i.Status.Conditions {
			if c.Type == v1alpha1.ConditionBuilt && c.Reason == reason {
				message = c.Message
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", i.Status.Conditions)
	})
	return message
}

// building expects that a derivation is being built.
func (k *tekton) building(name, derivation string) v1alpha1.BuildStatus {
	k.t.Helper()
	var b v1alpha1.BuildStatus
	k.eventually(name+" builds "+derivation, func() error {
		i, err := k.item(name)
		if err != nil {
			return err
		}
		if i.Status.Build == nil || !strings.Contains(strings.Join(i.Status.Build.Building, " "), derivation) {
			return fmt.Errorf("build %+v", i.Status.Build)
		}
		b = *i.Status.Build
		return nil
	})
	return b
}

// TestFlake is the life of objects whose system is built here, with real Nix:
// shared builds, updates, failures, deaths of the daemon, garbage collections.
func TestFlake(t *testing.T) {
	if form() == "systemd" {
		return // the booted host has no Nix
	}
	conf := nixtest.Store(t)
	first, second, third := nixtest.Flake(t, "site", "one"), nixtest.Flake(t, "site", "two"), nixtest.Flake(t, "site", "three")
	k := prepare(t)
	env := "NIX_CONF_DIR=" + conf
	k.up(env)

	// Two objects of one flake: one build.
	k.write("a.yaml", site("a", "path:"+first+"#web"))
	k.write("b.yaml", site("b", "path:"+first+"#web"))
	k.shows("a.test", "one")
	k.shows("b.test", "one")
	log, err := k.run("logs", "b", "--build")
	if strings.Count(log, "web> making web one") != 1 || err != nil {
		t.Errorf("log of the build: %v\n%s", err, log)
	}
	if text, err := k.run("describe", "a"); err != nil || !strings.Contains(text, "/nix/store/") || !strings.Contains(text, "narHash") {
		t.Errorf("describe: %v\n%s", err, text)
	}
	nixtest.Collect(t)
	_, err = k.run("restart", "a")
	k.check(err) // from a store that was collected
	k.shows("a.test", "one")

	// A changed flake: the old one serves while the new one is built, also when
	// the daemon dies meanwhile and the collector runs.
	k.write("a.yaml", site("a", "path:"+second+"#late"))
	before := k.building("a", "step-")
	if before.Expected < 4 {
		t.Errorf("building %+v, want 4 derivations", before)
	}
	k.shows("a.test", "one")
	k.signal(syscall.SIGKILL)
	nixtest.Collect(t)
	k.up(env)
	k.shows("a.test", "two")
	if i, err := k.item("a"); err != nil || !i.Status.Build.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the build began again: %+v, before %+v %v", i.Status.Build, before, err)
	}
	k.shows("b.test", "one")

	// A build that fails: the former one serves, and status says why.
	k.write("a.yaml", site("a", "path:"+third+"#broken"))
	if message := k.builtIs("a", "BuildFailed"); !strings.Contains(message, "broken for good") {
		t.Errorf("message %q", message)
	}
	nixtest.Collect(t)
	k.shows("a.test", "two")
	_, err = k.run("restart", "a")
	k.check(err)
	k.shows("a.test", "two")
	if log, err := k.run("logs", "a", "--build"); err != nil || !strings.Contains(log, "about to break") {
		t.Errorf("log: %v\n%s", err, log)
	}

	// A build that nobody asks for any more ends.
	k.write("a.yaml", site("a", "path:"+third+"#slow"))
	k.building("a", "slow")
	k.write("a.yaml", site("a", "path:"+third+"#web"))
	k.shows("a.test", "three")
	k.noBuilds(1 + 1) // closures of a and b

	// Gone: nothing of it is left.
	k.write("c.yaml", site("c", "path:"+third+"#slow"))
	k.building("c", "slow")
	for _, name := range []string{"a", "b", "c"} {
		k.check(os.Remove(k.specs(name + ".yaml")))
	}
	k.eventually("nothing is left", func() error {
		if left, _ := filepath.Glob("/nix/var/nix/gcroots/tekton-*"); len(left) > 0 {
			return fmt.Errorf("GC roots %v", left)
		}
		if items := k.items(); len(items) > 0 {
			return fmt.Errorf("%d objects", len(items))
		}
		return nil
	})
	k.noBuilds(0)
	nixtest.Collect(t)
	if left, _ := filepath.Glob("/nix/store/*-web"); len(left) > 0 {
		t.Errorf("closures left: %v", left)
	}
}

// noBuilds expects so many directories of builds, and no program of one.
func (k *tekton) noBuilds(directories int) {
	k.t.Helper()
	k.eventually(fmt.Sprintf("%d closures and no build", directories), func() error {
		entries, err := os.ReadDir(k.state("builds"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) || len(entries) != directories {
			return fmt.Errorf("%d directories, %w", len(entries), err)
		}
		comms, _ := filepath.Glob("/proc/[0-9]*/comm")
		for _, file := range comms {
			raw, _ := os.ReadFile(file)
			if name := strings.TrimSpace(string(raw)); strings.HasPrefix(name, "nix") || name == "sleep" {
				return fmt.Errorf("%s runs", name)
			}
		}
		return nil
	})
}
