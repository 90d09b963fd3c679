package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// TestPathsOfOneHost serves two machines below one host name.
func TestPathsOfOneHost(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("shop.yaml",
		k.guest("page", "routes: [{host: shop.test, port: 8080}]"),
		k.guest("api", "routes: [{host: shop.test, path: /api, port: 8080, stripPrefix: true}]"))
	k.ready("page", "api")
	for path, want := range map[string]about{"/": {Hostname: "page", Path: "/"}, "/apix": {Hostname: "page", Path: "/apix"}, "/api/prices": {Hostname: "api", Path: "/prices"}} {
		got, err := k.served("shop.test", path)
		if err != nil || got.Hostname != want.Hostname || got.Path != want.Path {
			t.Errorf("%s: %+v %v, want %+v", path, got, err, want)
		}
	}
	if code, _, err := k.through("unknown.test", "/"); err == nil && code == http.StatusOK {
		t.Error("an unknown host is served")
	}
	k.must("delete", "api")
	k.gone("api")
	if got, err := k.served("shop.test", "/api/prices"); err != nil || got.Hostname != "page" {
		t.Errorf("without the machine at /api: %+v %v", got, err)
	}
}

// TestDatabase reads and writes through DATABASE_URL, and looks from outside
// at who may do what.
func TestDatabase(t *testing.T) { eachRuntime(t, testDatabase) }

func testDatabase(t *testing.T, k *tekton) {
	k.write("app.yaml",
		k.guest("app", "databases: [{name: main, deletionPolicy: Delete}]"),
		k.guest("other", "databases: [{name: main, deletionPolicy: Delete}]"),
		k.guest("none"))
	k.ready("app", "other", "none")
	for _, q := range []string{"CREATE TABLE visit (who text)", "INSERT INTO visit VALUES ('me')"} {
		k.mustAsk("app", "/sql", "q", q)
	}
	if got := k.mustAsk("app", "/sql", "q", "SELECT who FROM visit"); got != "me" {
		t.Errorf("the row says %q", got)
	}
	if out, err := k.ask("other", "/sql", "q", "SELECT who FROM visit"); err == nil {
		t.Errorf("the other application sees %q", out)
	}
	// The URL of another object opens nothing.
	stolen := k.aboutOf("app").env("DATABASE_URL")
	if stolen == "" {
		t.Fatal("no DATABASE_URL")
	}
	for _, thief := range []string{"other", "none"} {
		if out, err := k.ask(thief, "/sql", "q", "SELECT who FROM visit", "url", stolen); err == nil {
			t.Errorf("with the stolen URL %s reads %q", thief, out)
		}
	}
	flags := k.mustAsk("app", "/sql", "q", "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
	if flags != "false" {
		t.Error("the role may do more than use its database")
	}
	k.must("delete", "app")
	k.gone("app")
	if out := k.mustAsk("other", "/sql", "q", "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_app\\_%'"); out != "0" {
		t.Errorf("%s databases of the deleted object are left", out)
	}
	if list := k.must("data", "list"); !strings.Contains(list, "app") || !strings.Contains(list, "trash") {
		t.Errorf("its dump is not in the trash:\n%s", list)
	}
}

// TestRecreateKeepsVolume replaces a machine whose volume cannot be shared.
func TestRecreateKeepsVolume(t *testing.T) {
	t.Parallel()
	k := start(t)
	spec := func(generation int) string {
		return k.guest("app", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]",
			fmt.Sprintf(`environment: {GENERATION: "%d"}`, generation), "routes: [{host: app.test, port: 8080}]")
	}
	k.write("app.yaml", spec(1))
	k.ready("app")
	k.mustAsk("app", "/append", "path", "/data/notes", "data", "first ")
	k.mustAsk("app", "/append", "path", "/srv/cache", "data", "of the machine")
	k.write("app.yaml", spec(2))
	k.generation("app", "2")
	k.mustAsk("app", "/append", "path", "/data/notes", "data", "second")
	if got := k.mustAsk("app", "/read", "path", "/data/notes"); got != "first second" {
		t.Errorf("the volume holds %q", got)
	}
	if got, err := k.ask("app", "/read", "path", "/srv/cache"); err == nil {
		t.Errorf("the layer of the old machine is in the new one: %q", got)
	}
	if a, err := k.served("app.test", "/"); err != nil || a.Generation != "2" {
		t.Errorf("the ingress serves %+v %v", a, err)
	}
}

// generation waits until an object is Ready and its guest is of a generation.
func (k *tekton) generation(name, want string) {
	k.t.Helper()
	k.eventually("generation "+want+" of "+name+" serves", func() error {
		i, err := k.item(name)
		if err != nil {
			return err
		}
		body, err := k.ask(name, "/")
		if err != nil {
			return err
		}
		a, err := readAbout(http.StatusOK, body)
		if err != nil || a.Generation != want || i.Status.Phase != v1alpha1.PhaseReady {
			return fmt.Errorf("%s %v: %+v", a.Generation, err, i.Status)
		}
		return nil
	})
}

// TestHotChange changes what needs no new start.
func TestHotChange(t *testing.T) { eachRuntime(t, testHotChange) }

func testHotChange(t *testing.T, k *tekton) {
	k.write("app.yaml", k.guest("app", "routes: [{host: one.test, port: 8080}]"))
	k.ready("app")
	before, pid := k.get("app"), k.leader("app")
	k.write("app.yaml", k.guest("app", "routes: [{host: two.test, port: 8081}]", "network: {egress: {mode: none}}",
		"resources: {tasksMax: 333, cpuWeight: 50}", "stopTimeout: 3s", "restartPolicy: OnFailure"))
	k.eventually("the new route is served", func() error { _, err := k.served("two.test", "/"); return err })
	k.eventually("the old route is not", func() error {
		if a, err := k.served("one.test", "/"); err == nil {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
	k.settled()
	after := k.get("app")
	if after.Status.Machine != before.Status.Machine || k.leader("app") != pid {
		t.Errorf("machine %s (%d) became %s (%d)", before.Status.Machine, pid, after.Status.Machine, k.leader("app"))
	}
	if after.Metadata.Generation != before.Metadata.Generation+1 {
		t.Errorf("generation %d after %d", after.Metadata.Generation, before.Metadata.Generation)
	}
}

// TestStopTimeout shortens, while the machine runs, the time that a guest has
// which does not listen.
func TestStopTimeout(t *testing.T) {
	t.Parallel()
	k := start(t)
	stubborn := "command: [guest, stubborn]"
	k.write("app.yaml", k.guest("app", stubborn, "stopTimeout: 30m"))
	k.ready("app")
	k.write("app.yaml", k.guest("app", stubborn, "stopTimeout: 1s"))
	k.eventually("the change is known", func() error {
		if i := k.get("app"); i.Metadata.Generation != 2 {
			return fmt.Errorf("generation %d", i.Metadata.Generation)
		}
		return nil
	})
	k.settled()
	k.must("delete", "app")
	k.gone("app")

	// A daemon that is told to end does not wait for a machine that takes its
	// time; the next one finishes what was begun.
	k.write("app.yaml", k.guest("app", "stopTimeout: 30m"))
	k.ready("app")
	// A request of 3 s is under way: its first piece has come.
	resp, err := web.Get("http://" + k.get("app").Status.Address + ":8080/slow?n=60")
	k.check(err)
	defer resp.Body.Close()
	_, err = resp.Body.Read(make([]byte, 1))
	k.check(err)
	k.must("delete", "app")
	k.eventually("the deletion has begun", func() error {
		if p := k.get("app").Status.Phase; p != v1alpha1.PhaseDeleting {
			return fmt.Errorf("it is %s", p)
		}
		return nil
	})
	k.signal(syscall.SIGTERM)
	k.up()
	k.gone("app")
}

// TestFailedUpdate takes a change back that does not answer.
func TestFailedUpdate(t *testing.T) {
	t.Parallel()
	strategies := map[string][]string{
		"overlap":  {"routes: [{host: overlap.test, port: 8080}]"},
		"recreate": {"routes: [{host: recreate.test, port: 8080}]", "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"},
	}
	k := start(t)
	probe := "probe: {http: {path: /ready, port: 8080}, deadline: 2s}"
	for name, lines := range strategies {
		k.write(name+".yaml", k.guest(name, append(lines, probe)...))
	}
	k.ready("overlap", "recreate")
	for name, lines := range strategies {
		k.write(name+".yaml", k.guest(name, append(lines, probe, `environment: {GENERATION: "2", READY: "no"}`)...))
	}
	for name, lines := range strategies {
		c := k.condition(name, v1alpha1.ConditionRolledBack, "ProbeFailed")
		if c.Status != v1alpha1.ConditionTrue || c.Message == "" {
			t.Errorf("%s: %+v", name, c)
		}
		k.eventually(name+" serves its old generation", func() error {
			a, err := k.served(name+".test", "/")
			if err == nil && a.Generation != "1" {
				err = fmt.Errorf("generation %s serves", a.Generation)
			}
			return err
		})
		k.eventually("what the failed one of "+name+" said is kept when it has gone", func() error {
			log, err := k.run("logs", name, "--previous")
			if err == nil && !strings.Contains(log, "serving generation 2") {
				err = fmt.Errorf("its log is %q", log)
			}
			return err
		})
		// A third one that answers takes over.
		k.write(name+".yaml", k.guest(name, append(lines, probe, `environment: {GENERATION: "3"}`)...))
		k.generation(name, "3")
	}
}
