package launch

import (
	"os"
	"path/filepath"
	"testing"

	"tekton.host/pkg/resource"
)

// TestNixOSSkeleton: the certificates in the host's /etc/ssl/certs are links to
// /etc/static, which must lead somewhere in a machine too.
func TestNixOSSkeleton(t *testing.T) {
	const etc = "/nix/store/abc-etc/etc"
	for given, want := range map[string]string{etc: etc, "": "", "/etc/static": ""} {
		dir := t.TempDir()
		r := Record{Instance: resource.Instance{Name: "web-1", Hostname: "web", UIDBase: uint32(os.Getuid())}}
		if err := skeleton(dir, r, nixosSystem("/nix/store/def-system-path", given)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.Readlink(filepath.Join(dir, "etc/static")); got != want {
			t.Errorf("with %q on the host, /etc/static leads to %q, want %q", given, got, want)
		}
		if got, _ := os.Readlink(filepath.Join(dir, "usr/bin")); got != "/nix/store/def-system-path/bin" {
			t.Errorf("/usr/bin leads to %q", got)
		}
	}
}
