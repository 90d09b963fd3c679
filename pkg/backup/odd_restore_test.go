package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/compile"
	"tekton.host/pkg/ledger"
	"tekton.host/pkg/resource"
)

// TestRestoreOfAnotherInstance: databases, their passwords and claims have the
// names that the host gives them.
func TestRestoreOfAnotherInstance(t *testing.T) {
	needRoot(t)
	from, to := t.TempDir(), t.TempDir()
	places := placesIn(from)
	furnish(t, places)
	l := places.Layout()
	was, is := resource.Naming{Instance: "a"}, resource.Naming{Instance: "b"}
	names := map[string]string{}
	for _, object := range []string{"web", "shop", strings.Repeat("n", 40)} {
		names[object] = was.DatabaseName("Container", object, "main")
	}
	info := func(object string) []byte {
		return fmt.Appendf(nil, `{"installation":"0123456789ab","database":%q,"label":"Container/%s/main","owner":"u","extensions":["citext"]}`, names[object], object)
	}
	book, err := ledger.Open(l.Ledger(), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for object, name := range names {
		key := compile.DataKey(resource.ID{Kind: resource.KindDatabase, Name: name})
		err := errors.Join(book.Commit(t.Context(), []ledger.Op{ledger.Claim(resource.Claim{Key: key, Owner: resource.HostOwner, Value: []byte(`{"name":"` + object + `"}`)})})...)
		err = errors.Join(err, os.WriteFile(filepath.Join(l.Passwords(), name), []byte("of "+object), 0o600), os.WriteFile(filepath.Join(l.Passwords(), ".owners", name), []byte("mark of "+object), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	trashed := filepath.Join(l.Trash(), "databases", names["shop"]+".17")
	if err := errors.Join(os.MkdirAll(trashed, 0o700), os.WriteFile(filepath.Join(trashed, "info.json"), info("shop"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	_, err = Create(t.Context(), &b, CreateOptions{
		Places: places, Head: Head{Tekton: "v1", MachineID: "this", Instance: "a"}, HostFile: []byte("kind: Host\n"), Databases: listed(names["web"], names[strings.Repeat("n", 40)]),
		Dump: func(_ context.Context, name string) (string, error) {
			dir := filepath.Join(t.TempDir(), name)
			object := "web"
			if name != names[object] {
				object = strings.Repeat("n", 40)
			}
			return dir, errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "dump"), []byte("dump of "+object), 0o600), os.WriteFile(filepath.Join(dir, "info.json"), info(object), 0o600))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	other := placesIn(to)
	other.Host.Instance = "b"
	if _, err := Restore(t.Context(), RestoreOptions{Places: other, Archive: &b, MachineID: "this"}); err != nil {
		t.Fatal(err)
	}
	l = other.Layout()
	for object := range names {
		name := is.DatabaseName("Container", object, "main")
		if got := string(read1(t, filepath.Join(l.Passwords(), name))) + string(read1(t, filepath.Join(l.Passwords(), ".owners", name))); got != "of "+object+"mark of "+object {
			t.Errorf("%s: %q", name, got)
		}
		if object != "shop" {
			if got := string(read1(t, filepath.Join(l.Restored(), name, "dump"))); got != "dump of "+object {
				t.Errorf("%s: %q", name, got)
			}
		}
		if !bytes.Contains(read1(t, l.Ledger()), []byte(`"data/database/`+name+`"`)) || bytes.Contains(read1(t, l.Ledger()), []byte(`"data/database/`+names[object]+`"`)) {
			t.Errorf("the claim of %s has not its name", object)
		}
	}
	if got := string(read1(t, filepath.Join(l.Trash(), "databases", names["shop"]+".17", "info.json"))); !strings.Contains(got, is.DatabaseName("Container", "shop", "main")) || !strings.Contains(got, "citext") {
		t.Errorf("in the trash is %s", got)
	}
}

// TestRestoreIsKilled: killed at any moment, before all of the archive is there
// and while it is moved to its places, the same command comes to the end that it
// comes to undisturbed.
func TestRestoreIsKilled(t *testing.T) {
	needRoot(t)
	from, quiet := t.TempDir(), t.TempDir()
	furnish(t, placesIn(from))
	file, _ := archive(t, placesIn(from), "this")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(dir string, until func(*exec.Cmd)) bool {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), restoreEnv+"="+dir+"\n"+file)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(cmd)
		err := cmd.Wait()
		if said.Len() > 0 {
			t.Fatalf("it said %s", said.String())
		}
		return err == nil
	}
	began := time.Now()
	if !run(quiet, func(*exec.Cmd) {}) {
		t.Fatal("undisturbed it failed")
	}
	takes := time.Since(began)
	names := func(dir string) []string { return slices.Sorted(maps.Keys(describe(t, dir))) }
	want := names(quiet)
	const times = 3
	early, late := 0, 0
	for n := range 2 * times {
		dir := t.TempDir()
		whole := filepath.Join(dir, "state/restoring", completeFile)
		run(dir, func(cmd *exec.Cmd) {
			wait := takes * time.Duration(n) / times
			if n >= times { // from when all is there
				for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
					if _, err := os.Lstat(whole); err == nil {
						break
					}
				}
				wait = time.Duration(n-times) * 100 * time.Microsecond
			}
			time.Sleep(wait)
			cmd.Process.Kill()
		})
		if _, err := os.Lstat(whole); err == nil {
			late++
		} else if _, err := os.Lstat(filepath.Join(dir, "state/installation")); err != nil {
			early++
		} else {
			continue // it had come to its end
		}
		if !run(dir, func(*exec.Cmd) {}) {
			t.Fatalf("killed the %d. time it did not go on", n)
		}
		if diff := cmp.Diff(want, names(dir)); diff != "" {
			t.Errorf("killed the %d. time: -undisturbed +killed:\n%s", n, diff)
		}
	}
	t.Logf("killed %d times before and %d times after all of it was there", early, late)
	if early+late == 0 {
		t.Error("it was always too late")
	}
}
