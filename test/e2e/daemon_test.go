package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// once runs the daemon with --once and returns its exit code and what it said.
func (k *tekton) once(args ...string) (int, string) {
	k.t.Helper()
	out, err := k.command(append([]string{"--once"}, args...)...).CombinedOutput()
	return exitCode(err), string(out)
}

// TestOnce converges without a daemon that stays.
func TestOnce(t *testing.T) {
	t.Parallel()
	k := prepare(t)
	if code, out := k.once(); code != 0 {
		t.Errorf("without a spec: %d %s", code, out)
	}
	k.write("web.yaml", k.guest("web"))
	if code, out := k.once(); code != 0 {
		t.Errorf("with a good spec: %d %s", code, out)
	}
	if m := k.machines(); len(m) != 1 {
		t.Errorf("machines %q", m)
	}
	k.write("bad.yaml", k.guest("bad", "image: x"))
	if code, out := k.once(); code != 1 || !strings.Contains(out, "bad") {
		t.Errorf("with a bad spec beside it: %d %s", code, out)
	}
	k.write("bad.yaml", k.guest("bad", `environment: {READY: "no"}`, "probe: {http: {path: /ready, port: 8080}, deadline: 1s}"))
	if code, out := k.once("--timeout", "5s"); code != 1 || !strings.Contains(out, "bad") {
		t.Errorf("with a machine that does not answer: %d %s", code, out)
	}
	for _, args := range [][]string{{"--no-such-flag"}, {"--config", "/nonexistent"}} {
		if code, out := k.once(args...); code != 78 || out == "" {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
	k.check(os.WriteFile(k.path("wrong.yaml"), []byte("apiVersion: tekton.host/v1alpha1\nkind: Host\nspec: {subnet: 10.0.0.0/33}\n"), 0o644))
	if code, out := k.once("--config", k.path("wrong.yaml")); code != 78 || !strings.Contains(out, "wrong.yaml:3") {
		t.Errorf("a wrong configuration: %d %s", code, out)
	}
	k.up()
}

// TestTwoDaemons: one a state directory; others beside it, with all of theirs.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	k := start(t)
	if code, out := k.once(); code != 1 || !strings.Contains(out, k.state("lock")) {
		t.Errorf("a second daemon on the same state directory: %d %s", code, out)
	}
	other := start(t)
	for _, x := range []*tekton{k, other} {
		x.write("web.yaml", x.guest("web", "routes: [{host: web.test, port: 8080}]", "databases: [{name: main, deletionPolicy: Delete}]"))
	}
	for _, x := range []*tekton{k, other} {
		x.ready("web")
		x.mustServe("web.test")
		x.mustAsk("web", "/sql", "q", "CREATE TABLE t (x int)")
	}
	// Machines of one do not reach those, nor the services, of the other.
	theirs := other.get("web").Status.Address
	for _, addr := range []string{theirs + ":8080", other.service() + ":5432"} {
		if got := k.mustAsk("web", "/dial", "addr", addr); got == "open" {
			t.Errorf("%s of the other installation is open", addr)
		}
	}
	k.must("delete", "web")
	k.gone("web")
	k.eventually("nothing is left of the first", k.nothingLeft)
	other.settled()
	other.mustServe("web.test")
	other.mustAsk("web", "/sql", "q", "SELECT count(*) FROM t")
	if pids := other.machines(); len(pids) != 1 {
		t.Errorf("machines of the other: %q", pids)
	}
	// A third one that takes the second's network is refused, and told whose it is.
	third := prepare(t)
	third.subnet = other.subnet
	third.writeConfig()
	third.write("web.yaml", third.guest("web"))
	if code, out := third.once("--timeout", "15s"); code != 1 || !strings.Contains(out, "tekton") {
		t.Errorf("with another's subnet: %d %s", code, out)
	}
	if m := third.machines(); len(m) > 0 {
		t.Errorf("with another's subnet run %q", m)
	}
	other.mustServe("web.test")
	third.up()
	third.eventually("the object tells why it waits", func() error {
		i, err := third.item("web")
		if err == nil && !strings.Contains(fmt.Sprint(i.Status.Conditions), other.instance) {
			err = fmt.Errorf("%+v", i.Status.Conditions)
		}
		return err
	})
	third.subnet = "10.255.0.0/16" // what is in the network is the other's
}
