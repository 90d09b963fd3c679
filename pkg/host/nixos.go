package host

import (
	"path/filepath"
	"strings"
)

// CurrentSystem is the store path of a NixOS host's current system; ok is false
// on a host that is none.
func CurrentSystem() (path string, ok bool) {
	path, err := filepath.EvalSymlinks("/run/current-system")
	return path, err == nil && strings.HasPrefix(path, "/nix/store/")
}
