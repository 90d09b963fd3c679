package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/test/systemdhost"
)

// TestNixOSContainerData leads databases, credentials, mounts and volumes through
// the life of containers, one that is trusted and one that is not: they are where
// the documents say, stay over switches, starts and a dead daemon, and the
// secrets are nowhere else.
func TestNixOSContainerData(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	d := &containerData{&secretTest{tekton: nixos(t), since: time.Now(), traces: t.TempDir()}, 0}
	d.canary = "canary-" + d.instance + "-of-the-secret-"
	d.values = []string{d.canary}
	for _, name := range []string{"token", "key", "third"} {
		d.set(name, name)
	}
	for dir, file := range map[string]string{"shared": "read", "writable": "written"} {
		d.check(os.MkdirAll(d.path(dir), 0o755))
		d.check(os.WriteFile(d.path(dir, file), []byte("of the host"), 0o644))
	}
	d.spec(1, "one")
	d.ready("own", "bad")
	d.remember()
	d.there("created", "token")

	leaders := d.leaders()
	d.spec(2, "one")
	d.generationServed("own.test", "2")
	d.generationServed("bad.test", "2")
	d.ready("own", "bad")
	if now := d.leaders(); now != leaders {
		t.Errorf("a switch to another system started the containers anew: %s became %s", leaders, now)
	}
	d.there("switched", "token")

	d.spec(2, "two")
	for _, name := range []string{"own", "bad"} {
		d.eventually(name+" has its new environment", func() error { return d.hasWord(name, "two") })
	}
	d.ready("own", "bad")
	d.there("started anew", "token")

	d.signal(syscall.SIGKILL)
	d.leaks("the daemon is dead")
	d.up()
	d.settled()
	d.there("another daemon", "token")

	d.set("token", "rotated")
	for _, name := range []string{"own", "bad"} {
		d.eventually(name+" has the rotated secret", func() error {
			got, err := d.ask(name, "/read", "path", "/run/credentials/token")
			if err == nil && got != d.canary+"rotated" {
				err = fmt.Errorf("it is %q", got)
			}
			return err
		})
	}
	d.ready("own", "bad")
	d.there("rotated", "rotated")

	d.must("delete", "own", "bad")
	d.gone("own", "bad")
	d.leaks("deleted")
	if left, err := filepath.Glob(d.path("run", "containers", "*")); err != nil || len(left) > 0 {
		t.Errorf("left of the files of containers: %q %v", left, err)
	}
	if b, err := os.ReadFile(d.path("writable", "written")); err != nil || !strings.HasPrefix(string(b), "of the host,") {
		t.Errorf("the host's file reads %q (%v)", b, err)
	}
}

// containerData follows two containers with the same secrets and databases of
// their own; visits counts how often they were looked at.
type containerData struct {
	*secretTest
	visits int
}

// spec asks for both containers with a system and a variable.
func (d *containerData) spec(generation int, word string) {
	d.t.Helper()
	lines := func(name string, more ...string) []string {
		return append([]string{
			"routes: [{host: " + name + ".test, port: 8080}]", "credentials: [{name: token}, {name: key, path: /run/keys/key}, {name: third, env: THIRD}]",
			"databases: [{name: main, deletionPolicy: Delete}]", "volumes: [{name: data, path: /srv/data, deletionPolicy: Delete}]",
			"environment: {WORD: " + word + ", QUOTED: 'a \"b\" $c'}",
		}, more...)
	}
	mounts := fmt.Sprintf("mounts: [{hostPath: %s, path: /srv/shared}, {hostPath: %s, path: /srv/writable, readOnly: false}]", d.path("shared"), d.path("writable"))
	d.write("all.yaml", d.box("own", d.system(generation, ""), lines("own", "trust: trusted", mounts)...), d.box("bad", d.system(generation, ""), lines("bad")...))
}

func (d *containerData) leaders() string {
	return d.containerLeader("own") + " " + d.containerLeader("bad")
}

func (d *containerData) hasWord(name, want string) error {
	body, err := d.ask(name, "/read", "path", "/run/tekton-environment")
	if err == nil && !strings.Contains(body, `WORD="`+want+`"`) {
		err = fmt.Errorf("it has other variables") // not those: secrets are among them
	}
	return err
}

// remember has the passwords looked for, too, and begins what is to last.
func (d *containerData) remember() {
	d.t.Helper()
	passwords, err := filepath.Glob(d.state("passwords", "[a-z]*"))
	d.check(err)
	for _, path := range passwords {
		b, err := os.ReadFile(path)
		d.check(err)
		d.values = append(d.values, string(b))
	}
	if len(passwords) != 2 {
		d.t.Errorf("passwords: %q, want one a container", passwords)
	}
	for _, name := range []string{"own", "bad"} {
		d.mustAsk(name, "/sql", "q", "CREATE TABLE visit AS SELECT 0 AS n, '"+name+"' AS who")
	}
}

// there: each container has its own, as it was left.
func (d *containerData) there(when, token string) {
	d.t.Helper()
	d.visits++
	visits := fmt.Sprint(d.visits)
	for _, name := range []string{"own", "bad"} {
		d.mustAsk(name, "/sql", "q", "UPDATE visit SET n = n + 1")
		if got := d.mustAsk(name, "/sql", "q", "SELECT n || who FROM visit"); got != visits+name {
			d.t.Errorf("%s: the database of %s says %q, want %s", when, name, got, visits+name)
		}
		d.mustAsk(name, "/append", "path", "/srv/data/visits", "data", "x")
		if got := d.mustAsk(name, "/read", "path", "/srv/data/visits"); got != strings.Repeat("x", d.visits) {
			d.t.Errorf("%s: the volume of %s holds %q, want %s times x", when, name, got, visits)
		}
		for path, want := range map[string]string{"/run/credentials/token": token, "/run/keys/key": "key"} {
			if got := d.mustAsk(name, "/read", "path", path); got != d.canary+want {
				d.t.Errorf("%s: %s of %s holds %q", when, path, name, got)
			}
			if got := d.mustAsk(name, "/stat", "path", path); !strings.HasPrefix(got, "0400 uid=0 ") {
				d.t.Errorf("%s: %s of %s is %s", when, path, name, got)
			}
		}
		a := d.aboutOf(name)
		if a.env("THIRD") != d.canary+"third" || a.env("QUOTED") != `a "b" $c` {
			d.t.Errorf("%s: the variables of %s are %q and %q", when, name, a.env("THIRD"), a.env("QUOTED"))
		}
	}
	d.mounted(when)
	d.kept(when)
	d.leaks(when, "own", "bad")
}

// mounted: the trusted one sees the host's directories, one of them to write to.
func (d *containerData) mounted(when string) {
	d.t.Helper()
	if got := d.mustAsk("own", "/read", "path", "/srv/shared/read"); got != "of the host" {
		d.t.Errorf("%s: the mount's file reads %q", when, got)
	}
	if out, err := d.ask("own", "/append", "path", "/srv/shared/read", "data", "x"); err == nil {
		d.t.Errorf("%s: a mount that is for reading was written to: %s", when, out)
	}
	d.mustAsk("own", "/append", "path", "/srv/writable/written", "data", ",")
	if out, err := d.ask("bad", "/stat", "path", "/srv/shared/read"); err == nil {
		d.t.Errorf("%s: the other container has the mount: %s", when, out)
	}
}

// kept: on the host nobody but the container's own root reads what it is given.
func (d *containerData) kept(when string) {
	d.t.Helper()
	found := 0
	d.check(filepath.WalkDir(d.path("run", "containers"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		d.check(err)
		want := fs.FileMode(0o400)
		if entry.IsDir() {
			want = 0o700
		} else {
			found++
		}
		if info.Mode().Perm() != want {
			d.t.Errorf("%s: %s has the mode %o", when, path, info.Mode().Perm())
		}
		return nil
	}))
	if found != 2*3 { // the environment and two credentials; the third is a variable only
		d.t.Errorf("%s: %d files for containers", when, found)
	}
}
