package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/test/systemdhost"
)

// TestAdopt follows word for word what tekton adopt prints above the spec of a
// container that others have made and that runs: its files are there again.
func TestAdopt(t *testing.T) {
	if !systemdhost.Inside() {
		return
	}
	t.Parallel()
	k := nixos(t)
	name := k.instance + "-old"
	conf, root, profile := "/etc/nixos-containers/"+name+".conf", "/var/lib/nixos-containers/"+name, "/nix/var/nix/profiles/per-container/"+name
	unit := "container@" + name
	t.Cleanup(func() {
		output("systemctl", "stop", unit)
		for _, path := range []string{conf, root, profile, "/nix/var/nix/gcroots/per-container/" + name} {
			os.RemoveAll(path)
			os.RemoveAll(path + ".before")
		}
	})
	k.check(os.MkdirAll(profile, 0o755))
	k.check(os.Symlink(k.system(1, ""), filepath.Join(profile, "system")))
	k.check(os.MkdirAll(filepath.Join(root, "var/data"), 0o755))
	k.check(os.WriteFile(filepath.Join(root, "var/data/rows"), []byte("kept"), 0o600))
	k.check(os.Chown(filepath.Join(root, "var/data/rows"), 1234, 5678))
	k.check(os.WriteFile(conf, []byte("PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.9.1\nLOCAL_ADDRESS=10.233.9.2\nSYSTEM_PATH="+k.system(1, "")+"\nAUTO_START=0\n"), 0o644))
	mustRun(t, "systemctl", "start", unit)

	text := k.must("adopt", name)
	file := k.path("old.yaml")
	asIs := strings.NewReplacer("THIS-FILE", file, "STATEDIR", k.state())
	for line := range strings.Lines(text) {
		step, is := strings.CutPrefix(line, "#   ")
		switch step = asIs.Replace(strings.TrimSpace(step)); {
		case !is:
		case strings.Contains(step, "spec.enabled: false"):
			k.check(os.WriteFile(file, []byte(strings.Replace(text, "\nspec:\n", "\nspec:\n  enabled: false\n", 1)), 0o644))
			k.must("apply", "-f", file)
			k.phase(name, v1alpha1.PhaseDisabled)
			k.eventually("the root volume is made", func() error { // nobody types as fast
				_, err := os.Stat(k.state("volumes", "container", name, ".root"))
				return err
			})
		case strings.HasPrefix(step, "tekton apply"):
			k.check(os.WriteFile(file, []byte(text), 0o644))
			k.must("apply", "-f", file)
		default:
			mustRun(t, "sh", "-ec", step)
		}
	}
	k.ready(name)
	data := k.state("volumes", "container", name, ".root", "var/data/rows")
	if got := output("stat", "--format=%u:%g %a", data) + output("cat", data); got != "1234:5678 600\nkept" {
		t.Errorf("its file is %q", got)
	}
	leader := strings.TrimSpace(output("machinectl", "show", k.containerOf(name+"-1"), "--property=Leader", "--value"))
	if got := output("cat", "/proc/"+leader+"/root/var/data/rows"); got != "kept" {
		t.Errorf("inside it reads %q", got)
	}
	if state := output("systemctl", "is-active", unit); !strings.HasPrefix(state, "inactive") {
		t.Errorf("the one before is %s", state)
	}
	k.must("delete", name)
	k.gone(name)
}
