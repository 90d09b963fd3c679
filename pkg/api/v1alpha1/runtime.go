package v1alpha1

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Values of spec.runtime.
const (
	RuntimeNspawn         = "nspawn"
	RuntimeNixOSContainer = "nixos-container"
)

// unitSpecial are characters that the unit container@ does not leave as they
// are in the flags that it gives to systemd-nspawn.
const unitSpecial = " \"'`\\$*?[]{}~!;&|<>()#:"

// runtime refuses what NixOS's own unit of containers cannot do.
func (v *containerCheck) runtime() {
	s := v.spec
	if s.Runtime != RuntimeNixOSContainer {
		return
	}
	if s.System.StorePath == "" && s.System.Flake == "" {
		v.invalid(specPath.Child("runtime"), s.Runtime, "boots a NixOS system; set spec.system.storePath or spec.system.flake, or leave runtime out")
	}
	for _, refused := range []struct {
		path *field.Path
		set  bool
		why  string
	}{
		{specPath.Child("command"), len(s.Command) > 0, "the system's own init boots; make the command a service of that system"},
		{specPath.Child("ephemeral"), s.Ephemeral, "the unit container@ keeps the root in /var/lib/nixos-containers"},
		{specPath.Child("restartPolicy"), s.RestartPolicy == "Never", "the unit container@ starts a container again that failed; write OnFailure or Always"},
	} {
		if refused.set {
			v.forbidden(refused.path, "is not for runtime %s: %s", s.Runtime, refused.why)
		}
	}
	word := func(p *field.Path, path string) {
		if i := strings.IndexAny(path, unitSpecial); i >= 0 {
			v.invalid(p, path, "holds %q, which the unit container@ of runtime %s splits or expands; choose another path", path[i], s.Runtime)
		}
	}
	for i, vol := range s.Volumes {
		word(specPath.Child("volumes").Index(i).Child("path"), vol.Path)
	}
	for i, m := range s.Mounts {
		word(specPath.Child("mounts").Index(i).Child("hostPath"), m.HostPath)
		word(specPath.Child("mounts").Index(i).Child("path"), m.Path)
	}
	for i, c := range s.Credentials {
		word(specPath.Child("credentials").Index(i).Child("path"), c.Path)
	}
}
