package machine_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
	"tekton.host/test/systemdhost"
)

// TestNixOSHost gives this test's mount namespace what makes a host NixOS: the
// store and the current system's profile.
func TestNixOSHost(t *testing.T) {
	if systemdhost.Inside() {
		return // /run is the host's own there
	}
	r := newRig(t)
	storePath(t, r)
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/run", unix.MNT_DETACH) })
	sw := "/nix/store/def-system-path"
	r.writeFile(sw+"/bin/guest", readFile(t, filepath.Join(r.programs, "guest")), 0o755)
	if err := os.MkdirAll("/run/current-system", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(sw, "/run/current-system/sw"); err != nil {
		t.Fatal(err)
	}
	i := r.instance(1, "serve", func(i *resource.Instance) { i.Command, i.Mounts = []string{"guest", "serve"}, nil })
	r.run(i)
	if _, code := r.call(i, "/read", "path", "/bin/guest"); code != 200 {
		t.Errorf("/bin/guest is not there: %d", code)
	}
	if _, code := r.call(i, "/read", "path", "/usr/share/dict"); code != 404 {
		t.Errorf("the FHS /usr of the host is there: %d", code)
	}
	if _, code := r.call(i, "/write", "path", sw+"/bin/x", "data", "x"); code != 403 {
		t.Errorf("the store is writable: %d", code)
	}
}
