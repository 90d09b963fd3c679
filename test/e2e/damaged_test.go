package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
)

// TestDamagedFiles damages what tekton has written of two machines, a volume and
// an entry in the trash. Each says so of itself and runs on; all others go on.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	k := start(t)
	volume := "volumes: [{name: data, path: /data, deletionPolicy: Delete}]"
	for _, name := range []string{"record", "marker", "dying", "fine", "trashed"} {
		k.write(name+".yaml", k.guest(name, "routes: [{host: "+name+".test, port: 8080}]", volume, "stopTimeout: 1s"))
	}
	k.ready("record", "marker", "dying", "fine", "trashed")
	k.must("delete", "trashed")
	k.gone("trashed")
	k.settled()
	pids := map[string]int{}
	for _, name := range []string{"record", "marker", "dying"} {
		pids[name] = k.leader(name)
	}
	files := map[string]string{
		"record": k.state("machines", k.get("record").Status.Machine, "instance.json"),
		"marker": k.state("volumes/container/marker/.data.json"),
		"dying":  k.state("machines", k.get("dying").Status.Machine, "instance.json"),
	}
	meta, err := filepath.Glob(k.state("trash/*-volume-container.trashed.data/meta.json"))
	k.check(err)
	good := map[string][]byte{}
	for name, path := range files {
		good[name], err = os.ReadFile(path)
		k.check(err)
		// Replaced, as all that write there do: what is changed in place is not looked at before the next start.
		k.check(os.WriteFile(path+".next", []byte(`{"mark": `), 0o600))
		k.check(os.Rename(path+".next", path))
	}
	k.check(os.WriteFile(meta[0], nil, 0o600))

	check := func() {
		k.t.Helper()
		k.check(k.daemon.Process.Signal(syscall.SIGHUP))
		for name, path := range files {
			if c := k.condition(name, v1alpha1.ConditionStarted, "Unreadable"); !strings.Contains(c.Message, path) || !strings.Contains(c.Message, "restore it from a backup or move it away") {
				t.Errorf("%s says %q, neither which file nor what to do", name, c.Message)
			}
			k.mustServe(name + ".test")
		}
	}
	check()
	k.signal(syscall.SIGTERM)
	k.up()
	check()
	k.write("fine.yaml", k.guest("fine", "routes: [{host: fine.test, port: 8080}]", volume, "stopTimeout: 1s", `environment: {GENERATION: "2"}`))
	k.generation("fine", "2")
	k.write("new.yaml", k.guest("new"))
	k.ready("new")
	k.must("delete", "new")
	k.gone("new")
	if list := k.must("data", "list", "-o", "json"); !strings.Contains(list, meta[0]) || !strings.Contains(list, "container.fine.data") {
		t.Errorf("the trash is listed as %s", list)
	}
	// A deletion waits, and says for what.
	k.must("delete", "dying")
	k.eventually("the deletion says what it waits for", func() error {
		i, err := k.item("dying")
		if err == nil && (i.Status.Phase != v1alpha1.PhaseDeleting || !strings.Contains(i.Status.Conditions[0].Message, files["dying"])) {
			err = errors.New(i.Status.Conditions[0].Message)
		}
		return err
	})
	k.mustServe("dying.test")
	for name, pid := range pids {
		if name != "dying" && k.leader(name) != pid {
			t.Errorf("%s was restarted", name)
		}
	}
	// As they were told: restored, or moved away and written anew.
	k.check(os.Rename(files["record"], k.path("instance.json")))
	for _, name := range []string{"marker", "dying"} {
		k.check(os.WriteFile(files[name], good[name], 0o600))
	}
	k.check(k.daemon.Process.Signal(syscall.SIGHUP))
	k.gone("dying")
	k.ready("record", "marker", "fine")
	k.settled()
	for name, pid := range pids {
		if name != "dying" && k.leader(name) != pid {
			t.Errorf("%s was restarted", name)
		}
	}
}

// TestEditOfNoPlainFile has a pipe and a link where a document is to be written.
func TestEditOfNoPlainFile(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("container-web.yaml", k.guest("web", "routes: [{host: web.test, port: 8080}]"))
	k.ready("web")
	spec := k.path("web.yaml")
	k.check(os.WriteFile(spec, []byte(k.guest("web", `environment: {GENERATION: "2"}`)), 0o644))
	target, document := k.specs("container-web.yaml"), k.path("document.yaml")
	k.check(os.Link(target, document))
	for what, put := range map[string]func(file string) error{
		"a named pipe":    func(file string) error { return unix.Mkfifo(file, 0o644) },
		"a symbolic link": func(file string) error { return os.Symlink(document, file) },
	} {
		k.check(put(k.path("next")))
		k.check(os.Rename(k.path("next"), target)) // it was never away
		for _, args := range [][]string{{"apply", "-f", spec}, {"delete", "web"}} {
			if _, err := k.run(args...); err == nil || !strings.Contains(err.Error(), "is "+what) || !strings.Contains(err.Error(), "Next step") {
				t.Errorf("%v onto %s: %v", args, what, err)
			}
		}
		k.mustServe("web.test")
	}
	k.check(os.Rename(document, target))
	k.ready("web")
	k.must("delete", "web")
	k.gone("web")
}
