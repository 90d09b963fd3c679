package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"tekton.host/pkg/supervise/supervisetest"
	"tekton.host/test/systemdhost"
)

// TestRebootNixOSContainer: the host goes down, orderly and without power; the
// containers are there again with their roots, and one whose spec was changed
// meanwhile as it is wanted now.
func TestRebootNixOSContainer(t *testing.T) {
	supervisetest.Root(t, "systemd-nspawn")
	if systemdhost.Inside() {
		return // it boots hosts
	}
	s := newServer(t, "systemd", serverConfig)
	s.check(s.host.InstallContainers())
	s.inside("systemctl", "restart", "tektond.service") // it may write to what is there when it starts
	write := func(file string, generation int) {
		s.writeDurably(file+".yaml", s.box(file, s.storePath(generation), "routes: [{host: "+file+".test, port: 8080}]", "restartPolicy: OnFailure",
			rebootVolume, rebootDatabase, "credentials: [{name: token}]"))
	}
	s.inside("sh", "-c", "printf canary | "+systemdhost.ProgramsDir+"/tekton secret set token")
	write("kept", 1)
	write("changed", 1)
	old := s.all("kept", "changed")
	for _, path := range []string{"/var/x", "/data/x"} {
		s.guestOf(old["kept"], "/append", "path", path, "data", "kept")
	}
	s.guestOf(old["kept"], "/sql", "q", "CREATE TABLE t AS SELECT 'kept'::text AS x")
	generation := 1
	for how, off := range map[string]func(context.Context) error{
		"orderly": func(ctx context.Context) error { return s.host.PowerOff(ctx) },
		"power cut": func(ctx context.Context) error {
			s.disk.cut()
			err := s.host.PowerCut(ctx)
			s.disk.power()
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s.check(off(ctx))
		cancel()
		generation++
		write("changed", generation)
		s.check(s.host.PowerOn())
		s.eventually("the changed one is as wanted", func() error {
			items, err := s.items()
			if err != nil {
				return err
			}
			i := items["changed"]
			out, err := s.host.Run(s.t.Context(), "curl", "-sSf", "http://"+i.Status.Address+":8080/")
			if a, readErr := readAbout(200, out); err == nil && (readErr != nil || a.Generation != strconv.Itoa(generation)) {
				err = fmt.Errorf("generation %q %v", a.Generation, readErr)
			}
			return err
		})
		now := s.all("kept", "changed")
		for path, want := range map[string]string{"/var/x": "kept", "/data/x": "kept", "/run/credentials/token": "canary"} {
			if got := s.guestOf(now["kept"], "/read", "path", path); got != want {
				t.Errorf("%s: %s reads %q", how, path, got)
			}
		}
		if got := s.guestOf(now["kept"], "/sql", "q", "SELECT x FROM t"); got != "kept" {
			t.Errorf("%s: the database says %q", how, got)
		}
		for name, i := range now {
			if i.Status.Machine != old[name].Status.Machine || i.Status.Address != old[name].Status.Address {
				t.Errorf("%s: %s was %s at %s, is %s at %s", how, name, old[name].Status.Machine, old[name].Status.Address, i.Status.Machine, i.Status.Address)
			}
		}
	}
	for _, name := range []string{"kept", "changed"} {
		s.inside(systemdhost.ProgramsDir+"/tekton", "delete", name)
	}
	s.all()
	s.eventually("nothing is left", func() error {
		return s.none("configuration files", "find", "/etc/nixos-containers", "/var/lib/nixos-containers", "/nix/var/nix/gcroots/per-container", "-mindepth", "1")
	})
}

// storePath makes a system in the host's store.
func (s *server) storePath(generation int) string {
	s.t.Helper()
	name := "system-" + strconv.Itoa(generation)
	dir, err := programs()
	s.check(err)
	guest := filepath.Join(dir, "guest")
	temp := s.t.(*testing.T).TempDir()
	s.check(os.WriteFile(filepath.Join(temp, "generation"), []byte(strconv.Itoa(generation)), 0o644))
	s.check(os.WriteFile(filepath.Join(temp, "system"), []byte("x86_64-linux"), 0o644))
	for target, source := range map[string]string{
		"init": guest, "bin/switch-to-configuration": guest, "generation": filepath.Join(temp, "generation"), "system": filepath.Join(temp, "system"),
	} {
		s.check(s.host.Copy(source, filepath.Join(systemdhost.StoreDir, "store", name, target)))
	}
	return "/nix/store/" + name
}
