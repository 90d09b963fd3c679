package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// TestCrash lets guests end in every way.
func TestCrash(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("all.yaml",
		container("crash", "system: {rootfs: "+k.rootfs+"}", "command: [guest, crash]"),
		container("once", "system: {rootfs: "+k.rootfs+"}", "command: [guest, done]", "restartPolicy: OnFailure"),
		container("never", "system: {rootfs: "+k.rootfs+"}", "command: [guest, crash]", "restartPolicy: Never"),
		k.guest("serving", "routes: [{host: serving.test, port: 8080}]"))
	c := k.condition("crash", v1alpha1.ConditionStarted, "CrashLoopBackOff")
	for _, want := range []string{"exit code 7", "cannot find my keys"} {
		if !strings.Contains(c.Message, want) {
			t.Errorf("of a crash it is said: %q, which lacks %q", c.Message, want)
		}
	}
	if out := k.must("describe", "crash"); !strings.Contains(out, "exit code 7") {
		t.Errorf("describe does not tell of the crash:\n%s", out)
	}
	if out := k.must("logs", "crash"); !strings.Contains(out, "cannot find my keys") {
		t.Errorf("logs:\n%s", out)
	}
	for name, want := range map[string]string{"once": "exit code 0", "never": "exit code 7"} {
		if c := k.condition(name, v1alpha1.ConditionStarted, "Completed"); !strings.Contains(c.Message, want) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	k.ready("serving")
	before := k.leader("serving")
	// It ends by itself and by force, and comes back as the same machine.
	machine := k.get("serving").Status.Machine
	for _, end := range []func(){
		func() { k.mustAsk("serving", "/exit", "code", "3") },
		func() { mustRun(t, "kill", "-KILL", fmt.Sprint(k.leader("serving"))) },
		func() { mustRun(t, "kill", "-KILL", strings.Fields(k.nspawn("serving"))[0]) },
	} {
		end()
		k.eventually("serving is back", func() error {
			if _, err := k.served("serving.test", "/"); err != nil {
				return err
			}
			if pid := k.leader("serving"); pid == before {
				return errors.New("the old process still runs")
			}
			return nil
		})
		k.ready("serving")
		before = k.leader("serving")
	}
	if got := k.get("serving").Status.Machine; got != machine {
		t.Errorf("machine %s became %s", machine, got)
	}
}

// nspawn is the process that runs an object's machine.
func (k *tekton) nspawn(name string) string {
	k.t.Helper()
	return k.nspawnOf(k.get(name).Status.Machine)
}

// TestSwitches are the fields that hold an object up or let it go.
func TestSwitches(t *testing.T) { eachRuntime(t, testSwitches) }

func testSwitches(t *testing.T, k *tekton) {
	route := "routes: [{host: app.test, port: 8080}]"
	volume := "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"
	k.write("app.yaml", k.guest("app", route, volume))
	k.ready("app")
	k.mustAsk("app", "/append", "path", "/data/x", "data", "kept")
	pid := k.leader("app")

	// Paused: nothing is changed, not even what is asked for.
	k.write("app.yaml", k.guest("app", route, volume, "paused: true", `environment: {GENERATION: "2"}`))
	k.phase("app", v1alpha1.PhasePaused)
	if a := k.aboutOf("app"); a.Generation != "1" || k.leader("app") != pid {
		t.Errorf("paused, and generation %s serves", a.Generation)
	}
	k.write("app.yaml", k.guest("app", route, volume, `environment: {GENERATION: "2"}`))
	k.generation("app", "2")

	// Disabled: the machine stops, its data stays, the route is ours still.
	k.write("app.yaml", k.guest("app", route, volume, "enabled: false", "reason: holidays", `environment: {GENERATION: "2"}`))
	k.phase("app", v1alpha1.PhaseDisabled)
	k.eventually("the machine is gone", func() error {
		if m := k.machines(); len(m) > 0 {
			return fmt.Errorf("%q", m)
		}
		return nil
	})
	if code, _, err := k.through("app.test", "/"); err == nil && code == http.StatusOK {
		t.Error("a disabled object is served")
	}
	if out := k.must("describe", "app"); !strings.Contains(out, "holidays") {
		t.Errorf("the reason is not told:\n%s", out)
	}
	k.write("app.yaml", k.guest("app", route, volume, `environment: {GENERATION: "2"}`))
	k.ready("app")
	if got := k.mustAsk("app", "/read", "path", "/data/x"); got != "kept" {
		t.Errorf("the volume holds %q", got)
	}

	// A restart that was asked for.
	pid = k.leader("app")
	k.must("restart", "app")
	k.eventually("it was restarted", func() error {
		if _, err := k.ask("app", "/"); err != nil {
			return err
		}
		if k.leader("app") == pid {
			return errors.New("the same process runs")
		}
		return nil
	})
	// Placed elsewhere, it is not ours to run; its data is not lost.
	k.write("elsewhere.yaml", k.guest("elsewhere", "placement: {host: another-host}"))
	k.eventually("an object of another host is told so", func() error {
		i, err := k.item("elsewhere")
		if err == nil && (i.Status.Phase == v1alpha1.PhaseReady || len(i.Status.Conditions) == 0 || i.Status.Conditions[0].Message == "") {
			err = fmt.Errorf("%+v", i.Status)
		}
		return err
	})
}

func (k *tekton) phase(name string, want v1alpha1.Phase) {
	k.t.Helper()
	k.eventually(fmt.Sprintf("%s is %s", name, want), func() error {
		i, err := k.item(name)
		if err == nil && i.Status.Phase != want {
			err = fmt.Errorf("%+v", i.Status)
		}
		return err
	})
}

// TestEphemeral starts with a clean root layer each time, others keep theirs.
func TestEphemeral(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("all.yaml", k.guest("fresh", "ephemeral: true"), k.guest("kept"))
	k.ready("fresh", "kept")
	for _, name := range []string{"fresh", "kept"} {
		k.mustAsk(name, "/append", "path", "/srv/file", "data", "x")
		pid := k.leader(name)
		k.must("restart", name)
		k.eventually(name+" was restarted", func() error {
			if _, err := k.ask(name, "/"); err != nil {
				return err
			}
			if k.leader(name) == pid {
				return errors.New("the same process runs")
			}
			return nil
		})
		_, err := k.ask(name, "/read", "path", "/srv/file")
		if kept := err == nil; kept != (name == "kept") {
			t.Errorf("%s: after a restart the file is there: %v", name, kept)
		}
	}
}

// TestDependencies starts in order and refuses a circle.
func TestDependencies(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("all.yaml",
		k.guest("second", "dependsOn: [first]"),
		k.guest("first", `environment: {READY: "no"}`),
		k.guest("ring", "dependsOn: [rang]"), k.guest("rang", "dependsOn: [ring]"))
	k.condition("second", v1alpha1.ConditionStarted, "WaitingForDependency")
	for _, name := range []string{"ring", "rang"} {
		if c := k.condition(name, v1alpha1.ConditionSpecValid, "DependencyCycle"); !strings.Contains(c.Message, "ring") {
			t.Errorf("%+v", c)
		}
	}
	k.eventually("the first is asked to open", func() error { _, err := k.ask("first", "/open"); return err })
	k.ready("first", "second")
	// Only the first start waits.
	k.write("all.yaml", k.guest("second", "dependsOn: [first]"))
	k.gone("first")
	if _, err := k.ask("second", "/"); err != nil {
		t.Error(err)
	}
}

// TestConflicts gives two objects the same route and the same port: the first
// keeps it, the other gets it when it is free.
func TestConflicts(t *testing.T) {
	t.Parallel()
	k := start(t)
	port := fmt.Sprintf("network: {ports: [{hostPort: %d, port: 8080, hostIP: 0.0.0.0}]}", k.publishedPort())
	route := "routes: [{host: same.test, port: 8080}]"
	k.write("b-first.yaml", k.guest("first", port, route))
	k.ready("first")
	k.write("a-second.yaml", k.guest("second", port, route))
	k.condition("second", v1alpha1.ConditionRouteReady, "RouteConflict")
	if c := k.condition("second", v1alpha1.ConditionNetworkReady, "PortConflict"); !strings.Contains(c.Message, "first") {
		t.Errorf("%+v", c)
	}
	if a, err := k.served("same.test", "/"); err != nil || a.Hostname != "first" {
		t.Errorf("%+v %v", a, err)
	}
	k.must("delete", "first")
	k.gone("first")
	k.ready("second")
	k.eventually("the second serves", func() error {
		a, err := k.served("same.test", "/")
		if err == nil && a.Hostname != "second" {
			err = fmt.Errorf("%s serves", a.Hostname)
		}
		return err
	})
}

// TestSlots takes all addresses of a tiny network.
func TestSlots(t *testing.T) {
	t.Parallel()
	k := prepare(t, "slotCooldown: 1s")
	k.subnet = strings.Replace(k.subnet, "/16", "/28", 1)
	k.writeConfig()
	k.up()
	const slots = 6 // 16 addresses: 8 pairs, the first and the last are the network's
	for i := range slots {
		name := fmt.Sprintf("m%d", i)
		k.write(name+".yaml", k.guest(name))
		k.ready(name)
	}
	for _, name := range []string{"late", "later"} {
		k.write(name+".yaml", k.guest(name))
		if c := k.condition(name, v1alpha1.ConditionNetworkReady, "NoFreeSlot"); !strings.Contains(c.Message, k.subnet) || !strings.Contains(c.Message, "delete an object") {
			t.Errorf("%s is told %q, neither where nor what to do", name, c.Message)
		}
	}
	// An update that needs a second slot beside the first has none; the machine serves on.
	k.write("m0.yaml", k.guest("m0", `environment: {GENERATION: "2"}`))
	k.condition("m0", v1alpha1.ConditionNetworkReady, "NoFreeSlot")
	if a := k.aboutOf("m0"); a.Generation != "1" {
		t.Errorf("without a slot to move to, m0 serves generation %s", a.Generation)
	}
	k.write("m0.yaml", k.guest("m0"))
	k.ready("m0")
	freed := k.get("m3").Status.Address
	k.must("delete", "m3")
	k.gone("m3")
	// One of those that wait gets it when it has cooled down, the other waits on.
	var waits string
	k.eventually("one has the slot", func() error {
		for name, other := range map[string]string{"late": "later", "later": "late"} {
			if i := k.get(name); i.Status.Phase == v1alpha1.PhaseReady {
				if i.Status.Address != freed {
					t.Errorf("%s has %s, not %s", name, i.Status.Address, freed)
				}
				waits = other
				return nil
			}
		}
		return errors.New("both wait")
	})
	k.condition(waits, v1alpha1.ConditionNetworkReady, "NoFreeSlot")
	k.must("delete", "m4")
	k.gone("m4")
	k.ready("late", "later")
	seen := map[string]string{}
	for _, name := range []string{"m0", "m1", "m2", "m5", "late", "later"} {
		address := k.get(name).Status.Address
		if other := seen[address]; other != "" {
			t.Errorf("%s and %s have %s", name, other, address)
		}
		seen[address] = name
		if a := k.aboutOf(name); a.Hostname != name {
			t.Errorf("at %s answers %s, not %s", address, a.Hostname, name)
		}
	}
}
