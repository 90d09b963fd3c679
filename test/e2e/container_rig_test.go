package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/test/systemdhost"
)

// store is made once a process.
var store sync.Once

// nixos starts a daemon on a host with NixOS's containers, which are units: only
// TestUnderSystemd has one, elsewhere there is nothing to test.
func nixos(t *testing.T, extra ...string) *tekton {
	t.Helper()
	installContainers(t)
	return start(t, extra...)
}

func installContainers(t testing.TB) {
	t.Helper()
	store.Do(func() { systemdhost.InstallContainers(t) })
}

// eachRuntime runs a test, with a daemon of its own, in every runtime that the
// host has.
func eachRuntime(t *testing.T, test func(*testing.T, *tekton)) {
	t.Parallel()
	runtimes := []string{v1alpha1.RuntimeNspawn}
	if systemdhost.Inside() {
		runtimes = append(runtimes, v1alpha1.RuntimeNixOSContainer)
	}
	for _, runtime := range runtimes {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			k := start(t)
			k.runtime = runtime
			test(t, k)
		})
	}
}

// runtimeOf deals the values of spec.runtime out among the objects of a test:
// where machines are units, each fifth is a container of NixOS.
func runtimeOf(n int) string {
	if systemdhost.Inside() && n%5 == 4 {
		return v1alpha1.RuntimeNixOSContainer
	}
	return v1alpha1.RuntimeNspawn
}

// system makes a store path whose init is the guest. Generation 0 leaves it to
// the environment what generation it is.
func (k *tekton) system(generation int, mode string) string {
	k.t.Helper()
	path := fmt.Sprintf("/nix/store/%s-%d%s", k.instance, generation, mode)
	if _, err := os.Stat(path); err == nil {
		return path // it runs
	}
	guest, err := os.ReadFile(filepath.Join(k.rootfs, "usr/bin/guest"))
	k.check(err)
	k.check(os.MkdirAll(filepath.Join(path, "bin"), 0o755))
	content := map[string]string{
		"init": string(guest), "bin/switch-to-configuration": string(guest), "bin/guest": string(guest), "bin/su": string(guest),
		"mode": mode, "generation": strconv.Itoa(generation), "system": "x86_64-linux",
	}
	if generation == 0 {
		delete(content, "generation")
	}
	for name, content := range content {
		k.check(os.WriteFile(filepath.Join(path, name), []byte(content), 0o755))
	}
	k.t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

// box is an object that is a container of NixOS.
func (k *tekton) box(name, system string, lines ...string) string {
	return container(name, append([]string{
		"runtime: nixos-container", "system: {storePath: " + system + "}", "stopTimeout: 5s",
		"probe: {http: {path: /ready, port: 8080}}",
	}, lines...)...)
}

// conf is the file of an object's container, of which there is one.
func (k *tekton) confs() []string {
	files, err := filepath.Glob("/etc/nixos-containers/" + k.instance + "-*.conf")
	k.check(err)
	return files
}

func nameOf(conf string) string { return strings.TrimSuffix(filepath.Base(conf), ".conf") }

// unit asks systemd about an object's container.
func (k *tekton) unit(name, property string) string {
	return strings.TrimSpace(output("systemctl", "show", "container@"+k.instance+"-"+name, "--property="+property, "--value"))
}

// containerOf is the name of a machine's container, "" when it is none of NixOS.
func (k *tekton) containerOf(machine string) string {
	b, err := os.ReadFile(k.state("machines", machine, "container.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	k.check(err)
	var state struct{ Name string }
	k.check(json.Unmarshal(b, &state))
	return state.Name
}

// containerLeader is the first process of an object's container, as machined has it.
func (k *tekton) containerLeader(name string) string {
	return strings.TrimSpace(output("machinectl", "show", k.instance+"-"+name, "--property=Leader", "--value"))
}

// generationServed waits until a generation is served.
func (k *tekton) generationServed(host, want string) {
	k.t.Helper()
	k.eventually("generation "+want+" is served", func() error {
		a, err := k.served(host, "/")
		if err == nil && a.Generation != want {
			err = fmt.Errorf("generation %s", a.Generation)
		}
		return err
	})
}

// readConf is what another program makes of a configuration file: the first
// and the last value of a key.
func readConf(t *testing.T, path, key string) (first, last string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(found) == 0 {
		return "", ""
	}
	return found[0][1], found[len(found)-1][1]
}
