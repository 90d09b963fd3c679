package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"tekton.host/pkg/api/v1alpha1"
)

// recipe is raised when a change of tekton itself makes a new start of every
// machine necessary. It takes part in fingerprints; rendered bytes do not.
const recipe = 1

// Fingerprint covers the fields of a spec that a machine reads only at its
// start. digests are those of its credentials, in order, and its ssh host key.
func Fingerprint(s *v1alpha1.ContainerSpec, digests []string) string {
	type volume struct{ Name, Path string }
	type database struct{ Name, Env string }
	in := struct {
		Recipe      int
		System      v1alpha1.System
		Command     []string
		User, Dir   string
		Environment map[string]string
		Volumes     []volume
		Databases   []database
		Credentials []v1alpha1.Credential
		Digests     []string
		Mounts      []v1alpha1.Mount
		Trust       string
		Capability  []string
		Ephemeral   bool
		HostIDs     bool
		Login       string `json:",omitempty"`
	}{
		Recipe: recipe, System: builtSystem(s.System), Command: s.Command, User: s.User, Dir: s.WorkingDirectory, Environment: s.Environment,
		Credentials: s.Credentials, Digests: digests, Mounts: s.Mounts, Trust: s.Trust, Capability: s.Capabilities, Ephemeral: s.Ephemeral,
		HostIDs: hostIDs(s),
	}
	for _, v := range s.Volumes {
		in.Volumes = append(in.Volumes, volume{v.Name, v.Path})
	}
	for _, d := range s.Databases {
		in.Databases = append(in.Databases, database{d.Name, d.Env})
	}
	if s.Login != nil {
		in.Login = s.Login.User // its keys change hot
	}
	// Maps are marshalled with sorted keys.
	raw, _ := json.Marshal(in)
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// builtSystem is what a machine sees of its system: where a flake came from is
// of no matter to it.
func builtSystem(s v1alpha1.System) v1alpha1.System {
	if s.StorePath != "" {
		return v1alpha1.System{StorePath: s.StorePath}
	}
	return s
}

// hostIDs reports whether the machine runs with the host's user ids (trusted only).
func hostIDs(s *v1alpha1.ContainerSpec) bool { return s.UserNamespace != nil && !*s.UserNamespace }
