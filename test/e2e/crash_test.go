package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/test/systemdhost"
)

// failpoints are the steps at which the daemon dies while an application with
// everything comes, changes, and goes.
var failpoints = [3][]string{
	{
		"after:claim.put", "before:sysctl.put", "after:address.put", "after:policy.put", "after:table.put", "before:password.put", "after:password.put",
		"after:resolver.put", "before:cluster.put", "after:cluster.put", "after:role.put", "before:database.put", "after:database.put", "after:access.put",
		"after:volume.put", "after:instance.put", "after:endpoint.put", "before:link.put", "after:link.put", "before:unit.put", "after:unit.put",
		"before:attachment.put", "after:attachment.put", "after:answer.put", "after:proxy.put", "before:route.put", "after:route.put", "after:record.put",
	},
	{
		"after:claim.put", "after:instance.put", "after:access.put", "after:endpoint.put", "before:unit.delete", "after:unit.delete", "after:unit.put", "before:answer.put",
		"after:answer.put", "after:route.put", "after:access.delete", "before:instance.delete", "after:claim.delete",
	},
	{
		"before:claim.put", "after:claim.put", "after:record.delete", "after:route.delete", "before:unit.delete", "after:unit.delete", "before:endpoint.delete", "after:endpoint.delete",
		"after:access.delete", "before:database.delete", "after:database.delete", "before:role.delete", "after:role.delete", "after:password.delete",
		"before:volume.delete", "after:volume.delete", "before:instance.delete", "after:instance.delete", "before:claim.delete", "after:claim.delete:5",
		"after:table.delete", "after:sysctl.delete", "after:policy.delete", "after:address.delete", "after:proxy.delete", "before:cluster.delete", "after:cluster.delete", "after:resolver.delete",
	},
}

// inPlace are those of a container of NixOS, which is one incarnation for all
// its life: beside what every machine has, where its own steps differ.
var inPlace = [3][]string{
	{"after:claim.put", "before:instance.put", "after:instance.put", "before:unit.put", "after:unit.put", "after:attachment.put", "after:answer.put"},
	{"after:claim.put", "before:instance.put", "after:instance.put", "before:unit.put", "after:unit.put", "before:answer.put", "after:answer.put"},
	{"after:route.delete", "before:unit.delete", "after:unit.delete", "before:instance.delete", "after:instance.delete", "after:volume.delete", "before:claim.delete"},
}

// TestFailpoints lets an application come, change and go again and again, with
// a daemon that dies once in each stage. Each stage ends as it would have without.
func TestFailpoints(t *testing.T) {
	t.Parallel()
	lanes := func(runtime string, n int, points [3][]string) { // installations that share the failpoints
		lives := max(len(points[0]), len(points[1]), len(points[2]))
		for lane := range n {
			t.Run(fmt.Sprintf("%s/%d", runtime, lane), func(t *testing.T) {
				t.Parallel()
				k := prepare(t)
				for i := lane; i < lives; i += n {
					k.life(runtime, points, i)
				}
			})
		}
	}
	lanes(v1alpha1.RuntimeNspawn, 3, failpoints)
	if systemdhost.Inside() {
		lanes(v1alpha1.RuntimeNixOSContainer, 1, inPlace)
	}
}

// life is the whole life of an application, with the i-th failpoint of each stage.
func (k *tekton) life(runtime string, points [3][]string, i int) {
	k.t.Helper()
	app := func(generation int) string {
		return k.guestOf(runtime, "app", fmt.Sprintf(`environment: {GENERATION: "%d"}`, generation), "routes: [{host: app.test, port: 8080}]", "stopTimeout: 1s",
			"volumes: [{name: data, path: /data, deletionPolicy: Delete}]", "databases: [{name: main, deletionPolicy: Delete}]")
	}
	for generation := 1; generation <= 2; generation++ {
		k.dying(points[generation-1], i, func() { k.write("app.yaml", app(generation)) }, func() error { return k.serves(generation) })
		if machines := k.machines(); len(machines) != 1 {
			k.t.Errorf("life %d: machines %q", i, machines)
		}
		k.mustAsk("app", "/append", "path", "/data/notes", "data", fmt.Sprint(generation))
	}
	if notes := k.mustAsk("app", "/read", "path", "/data/notes"); notes != "12" {
		k.t.Errorf("life %d: the volume holds %q", i, notes)
	}
	// A document that leaves its file goes at once.
	k.dying(points[2], i, func() { k.write("app.yaml", "# nothing\n") }, func() error {
		if _, err := k.item("app"); !errors.Is(err, errNotThere) {
			return fmt.Errorf("the object is there: %v", err)
		}
		return k.nothingLeft()
	})
}

// serves tells whether app serves a generation, with its database.
func (k *tekton) serves(generation int) error {
	a, err := k.served("app.test", "/")
	i, err2 := k.item("app")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if a.Generation != fmt.Sprint(generation) || i.Status.Phase != v1alpha1.PhaseReady {
		return fmt.Errorf("generation %s: %+v", a.Generation, i.Status)
	}
	_, err = k.ask("app", "/sql", "q", "SELECT 1")
	return err
}

// dying makes a change with a daemon that dies at the i-th of some failpoints,
// and waits, with another daemon, until all is as it is to be.
func (k *tekton) dying(points []string, i int, change func(), try func() error) {
	k.t.Helper()
	if k.running() {
		k.signal(syscall.SIGTERM)
	}
	dies, point := 0, "no failpoint"
	if i < len(points) {
		dies, point = 1, points[i]
		k.launch("TEKTON_FAILPOINT=" + point)
	} else {
		k.launch()
	}
	change()
	died := 0
	k.eventually(point, func() error {
		if !k.running() {
			died++
			k.launch()
		}
		if err := try(); err != nil {
			return err
		}
		// The last step of all may show on the host before the daemon has died.
		if died != dies {
			return fmt.Errorf("the daemon died %d times", died)
		}
		_, err := k.run("plan")
		return err
	})
}

// machines are those that run, as /proc has them.
func (k *tekton) machines() []string {
	return k.processes(func(p process) bool { return k.ours(p) && strings.HasPrefix(p.cmdline, "systemd-nspawn ") })
}
