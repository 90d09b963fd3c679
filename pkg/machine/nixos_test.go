package machine_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
	"tekton.host/test/systemdhost"
)

// nixosHost gives this test's mount namespace what makes a host NixOS: the
// store and the current system.
type nixosHost struct {
	r *rig
}

func newNixOSHost(r *rig) nixosHost {
	r.t.Helper()
	storePath(r.t.(*testing.T), r)
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { unix.Unmount("/run", unix.MNT_DETACH) })
	return nixosHost{r}
}

// build makes a system with the guest as its only program.
func (h nixosHost) build(name string) (system, sw string) {
	h.r.t.Helper()
	system, sw = "/nix/store/"+name+"-nixos-system", "/nix/store/"+name+"-system-path"
	guest, err := os.ReadFile(filepath.Join(h.r.programs, "guest"))
	if err != nil {
		h.r.t.Fatal(err)
	}
	h.r.writeFile(sw+"/bin/guest", string(guest), 0o755)
	h.r.writeFile(sw+"/share/generation", name, 0o644)
	if err := os.MkdirAll(system, 0o755); err != nil {
		h.r.t.Fatal(err)
	}
	if err := os.Symlink(sw, system+"/sw"); err != nil {
		h.r.t.Fatal(err)
	}
	return system, sw
}

// activate is a switch of the host.
func (h nixosHost) activate(system string) {
	h.r.t.Helper()
	if err := os.Symlink(system, "/run/next"); err != nil {
		h.r.t.Fatal(err)
	}
	if err := os.Rename("/run/next", "/run/current-system"); err != nil {
		h.r.t.Fatal(err)
	}
}

// TestNixOSHost: a machine has the store and the system that was current when
// it started, and its directory leads to that system until its next start.
func TestNixOSHost(t *testing.T) {
	if systemdhost.Inside() {
		return // /run is the host's own there
	}
	r := newRig(t)
	h := newNixOSHost(r)
	first, sw := h.build("abc")
	h.activate(first)
	i := r.instance(1, "serve", func(i *resource.Instance) { i.Command, i.Mounts = []string{"guest", "serve"}, nil })
	u := r.run(i)
	if _, code := r.call(i, "/read", "path", "/bin/guest"); code != 200 {
		t.Errorf("/bin/guest is not there: %d", code)
	}
	if _, code := r.call(i, "/read", "path", "/usr/share/dict"); code != 404 {
		t.Errorf("the FHS /usr of the host is there: %d", code)
	}
	if _, code := r.call(i, "/write", "path", sw+"/bin/x", "data", "x"); code != 403 {
		t.Errorf("the store is writable: %d", code)
	}
	kept := func() string {
		target, err := os.Readlink(r.layout.SystemLink(i.Name))
		if err != nil {
			t.Error(err)
		}
		return target
	}
	if got := kept(); got != first {
		t.Errorf("kept is %q, want %s", got, first)
	}
	second, _ := h.build("def")
	h.activate(second)
	if got, _ := r.call(i, "/read", "path", "/usr/share/generation"); got != "abc" || kept() != first {
		t.Errorf("after a switch of the host the machine has %q and keeps %s, want the old one", got, kept())
	}
	r.mustDelete(u, i.Name)
	r.start(i)
	if got, _ := r.call(i, "/read", "path", "/usr/share/generation"); got != "def" || kept() != second {
		t.Errorf("after its restart the machine has %q and keeps %s, want the new one", got, kept())
	}
}
