package e2e_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// TestBadFiles puts everything that is no good spec beside two good ones.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("a-good.yaml", k.guest("good", "routes: [{host: good.test, port: 8080}]"))
	aliases := "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: bomb}\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for i, name := range []string{"b", "c", "d", "e", "f", "g", "h"} {
		aliases += fmt.Sprintf("%s: &%s [%s]\n", name, name, strings.TrimSuffix(strings.Repeat("*"+string(rune('a'+i))+",", 9), ","))
	}
	bad := map[string]struct{ text, says string }{
		"unknown-key.yaml":   {container("unknown-key", "system: {host: true}", "command: [sleep, infinity]", "imagee: x"), "unknown-key.yaml:7"},
		"wrong-case.yaml":    {container("wrong-case", "system: {host: true}", "Command: [sleep, infinity]"), "wrong-case.yaml:6"},
		"wrong-type.yaml":    {container("wrong-type", "system: {host: true}", "command: [sleep, infinity]", "enabled: maybe"), "wrong-type.yaml:7"},
		"tab.yaml":           {"apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata:\n\tname: tab\n", "tab.yaml:4"},
		"nul.yaml":           {container("nul", "system: {host: true}") + "\x00", "nul.yaml:"},
		"duplicate-key.yaml": {container("dup-key", "system: {host: true}", "command: [sleep, infinity]") + "  system: {host: true}\n", "duplicate-key.yaml:7"},
		"bomb.yaml":          {aliases, "bomb.yaml:"},
		"large.yaml":         {"# " + strings.Repeat("x", 10<<20), "large.yaml"},
		"kind.yaml":          {strings.Replace(container("other-kind", "system: {host: true}"), "Container", "Conteiner", 1), "kind.yaml:2"},
		"version.yaml":       {strings.Replace(container("other-version", "system: {host: true}"), "v1alpha1", "v9", 1), "version.yaml:1"},
		"half.yaml":          {k.guest("half")[:40], "half.yaml:"},
		"z-good-again.yaml":  {k.guest("good"), "z-good-again.yaml:"},
		"list.yaml":          {"- a\n- b\n", "list.yaml:1"},
	}
	for name, b := range bad {
		k.check(os.WriteFile(k.specs(name), []byte(b.text), 0o644))
	}
	k.check(unix.Mkfifo(k.specs("fifo.yaml"), 0o644))
	k.check(os.Symlink("/nonexistent/file", k.specs("dangling.yaml")))
	k.check(os.Mkdir(k.specs("directory.yaml"), 0o755))
	for _, name := range []string{".hidden.yaml.swp", "notes.txt", "backup.yaml~", "#emacs.yaml#"} {
		k.check(os.WriteFile(k.specs(name), []byte("no spec"), 0o644))
	}
	k.write("bom.yaml", "\ufeff"+k.guest("bom")) // good: an editor's habit
	k.ready("good", "bom")
	k.mustServe("good.test")

	// The command line tells each place, offline.
	for name, b := range bad {
		if name == "z-good-again.yaml" {
			continue // good by itself
		}
		out, err := k.run("validate", k.specs(name))
		if exitCode(err) != 1 || !strings.Contains(out+fmt.Sprint(err), b.says) {
			t.Errorf("validate %s: %v\n%.500s", name, err, out)
		}
	}
	if out, err := k.run("validate", k.specs("a-good.yaml"), k.specs("z-good-again.yaml")); exitCode(err) != 1 || !strings.Contains(out, "z-good-again.yaml:") {
		t.Errorf("a name that two files use: %v %s", err, out)
	}
	// And so does the daemon, of those that have a name as objects.
	k.problems(slices.Concat(slices.Collect(maps.Keys(bad)), []string{"fifo.yaml", "dangling.yaml"})...)
	for _, name := range []string{"unknown-key", "wrong-case", "wrong-type", "dup-key"} {
		i, err := k.item(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if i.Status.Phase != v1alpha1.PhaseRejected || i.Metadata.Source.Line == 0 {
			t.Errorf("%s: %+v at %+v", name, i.Status, i.Metadata.Source)
		}
	}
	// A good one that turns bad stays as it was, and says so.
	pid := k.leader("good")
	k.write("a-good.yaml", k.guest("good", "routes: [{host: good.test, port: none}]"))
	k.remove("z-good-again.yaml")
	k.eventually("the last good spec stays", func() error {
		i := k.get("good")
		if i.Status.Phase != v1alpha1.PhaseDegraded {
			return fmt.Errorf("%+v", i.Status)
		}
		return nil
	})
	if k.leader("good") != pid {
		t.Error("a bad file has restarted the machine")
	}
	k.mustServe("good.test")
	// A repaired one comes up.
	k.write("unknown-key.yaml", k.guest("unknown-key"))
	k.ready("unknown-key")
	k.check(os.RemoveAll(k.specs("fifo.yaml")))
}

// problems waits until each of the source's files has one.
func (k *tekton) problems(files ...string) {
	k.t.Helper()
	k.eventually("each file has a problem", func() error {
		problems, err := k.api().Problems(k.t.Context())
		if err != nil {
			return err
		}
		without := slices.DeleteFunc(slices.Clone(files), func(name string) bool {
			return slices.ContainsFunc(problems, func(p spec.Problem) bool { return p.File == k.specs(name) })
		})
		if len(without) > 0 {
			return fmt.Errorf("none with %v", without)
		}
		return nil
	})
}

// TestDirectoryVanishes makes the directory unreadable in every way: nothing
// that runs may go.
func TestDirectoryVanishes(t *testing.T) {
	t.Parallel()
	k := start(t)
	for _, name := range []string{"one", "two"} {
		k.write(name+".yaml", k.guest(name, "routes: [{host: "+name+".test, port: 8080}]"))
	}
	k.ready("one", "two")
	pids := [2]int{k.leader("one"), k.leader("two")}
	l := k.load("one.test")
	aside := k.state("aside")
	ways := []struct {
		name     string
		go_, ret func() error
	}{
		{"removed", func() error { return os.Rename(k.specs(), aside) }, func() error { return os.Rename(aside, k.specs()) }},
		{"unmounted", func() error { return errors.Join(os.Rename(k.specs(), aside), os.Mkdir(k.specs(), 0o755)) },
			func() error { return errors.Join(os.Remove(k.specs()), os.Rename(aside, k.specs())) }},
		{"mounted over", func() error { return unix.Mount("none", k.specs(), "tmpfs", 0, "") }, func() error { return unix.Unmount(k.specs(), 0) }},
		{"a file", func() error { return errors.Join(os.Rename(k.specs(), aside), os.WriteFile(k.specs(), nil, 0o644)) },
			func() error { return errors.Join(os.Remove(k.specs()), os.Rename(aside, k.specs())) }},
	}
	for _, w := range ways {
		k.check(w.go_())
		k.eventually(w.name+": the source is not whole, or holds", func() error {
			out, err := k.run("get")
			if err != nil {
				return err
			}
			if text := k.held(); text == "" {
				return fmt.Errorf("nothing is said:\n%s", out)
			}
			return nil
		})
		// A daemon that comes up now has never seen the directory.
		if w.name == "mounted over" {
			k.signal(syscall.SIGKILL)
			k.up()
		}
		for i, name := range []string{"one", "two"} {
			k.mustServe(name + ".test")
			if pid := k.leader(name); pid != pids[i] {
				t.Errorf("%s: the machine of %s was restarted", w.name, name)
			}
		}
		k.check(w.ret())
		k.eventually(w.name+": the source is whole again", func() error {
			if text := k.held(); text != "" {
				return errors.New(text)
			}
			return nil
		})
		k.ready("one", "two")
	}
	// Another directory in its place, with the same and one newer file, is as good.
	k.check(errors.Join(os.Rename(k.specs(), aside), call("cp", "-a", aside, k.specs()), os.RemoveAll(aside)))
	k.write("two.yaml", k.guest("two", "routes: [{host: new.test, port: 8080}]"))
	k.eventually("the new directory is read", func() error { _, err := k.served("new.test", "/"); return err })
	if now := [2]int{k.leader("one"), k.leader("two")}; now != pids {
		t.Errorf("processes %v became %v", pids, now)
	}
	l.end(t)
}

// TestRemovals are the ways to say that an object is not wanted any more.
func TestRemovals(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.write("pair.yaml", k.guest("left"), k.guest("right"))
	k.ready("left", "right")
	uid, pid := k.get("left").Metadata.UID, k.leader("left")
	// Another file and another place in it change nothing.
	k.check(os.Rename(k.specs("pair.yaml"), k.specs("renamed.yaml")))
	k.write("renamed.yaml", k.guest("right"), k.guest("left"))
	k.eventually("the new place is known", func() error {
		if at := k.get("left").Metadata.Source; !strings.HasSuffix(at.File, "renamed.yaml") || at.Line == 1 {
			return fmt.Errorf("%+v", at)
		}
		return nil
	})
	if i := k.get("left"); i.Metadata.UID != uid || k.leader("left") != pid {
		t.Errorf("the move made another object: %+v", i.Metadata)
	}
	// A document taken out goes, the others stay.
	k.write("renamed.yaml", k.guest("right"))
	k.gone("left")
	k.ready("right")
	k.remove("renamed.yaml")
	k.gone("right")

	// Too many files at once are held, until it is said that they are meant.
	names := []string{}
	for i := range 6 {
		names = append(names, fmt.Sprintf("many%d", i))
		k.write(names[i]+".yaml", container(names[i], "system: {host: true}", "command: [sleep, infinity]"))
	}
	k.ready(names...)
	for _, name := range names {
		k.remove(name + ".yaml")
	}
	k.eventually("the source holds", func() error {
		if text := k.held(); !strings.Contains(text, "many0") {
			return errors.New(text)
		}
		return nil
	})
	for _, name := range names {
		k.get(name)
	}
	if n := len(k.machines()); n != len(names) {
		t.Errorf("%d of %d machines run during the hold", n, len(names))
	}
	if out := k.must("release-deletes", "local"); !strings.Contains(out, "many5") {
		t.Errorf("release-deletes says %q", out)
	}
	k.gone(names...)
}

// held is what is said of a source that is not whole or holds.
func (k *tekton) held() string {
	k.t.Helper()
	sources, err := k.api().Sources(k.t.Context())
	k.check(err)
	var b strings.Builder
	for _, s := range sources {
		if !s.Complete || len(s.Held) > 0 || s.Message != "" {
			fmt.Fprintln(&b, s.Message, s.Held)
		}
	}
	return b.String()
}
