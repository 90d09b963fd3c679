package v1alpha1

import "k8s.io/apimachinery/pkg/util/validation/field"

// Values of spec.runtime.
const (
	RuntimeNspawn         = "nspawn"
	RuntimeNixOSContainer = "nixos-container"
)

// runtime refuses what NixOS's own unit of containers cannot do.
func (v *containerCheck) runtime() {
	s := v.spec
	if s.Runtime != RuntimeNixOSContainer {
		return
	}
	if s.System.StorePath == "" {
		v.invalid(specPath.Child("runtime"), s.Runtime, "boots a built NixOS system; set spec.system.storePath, or leave runtime out")
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
}
