package v1alpha1

import (
	"reflect"
	"strings"

	"golang.org/x/crypto/ssh"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate reports everything that is wrong with a defaulted agent on a host;
// h is a defaulted host, or nil for an embedded default one.
func (a *Agent) Validate(h *HostSpec) field.ErrorList {
	v := newContainerCheck(a.Machine(), a.Metadata.Name, h)
	v.typeMeta(a.TypeMeta, KindAgent)
	v.metadata(a.Metadata)
	v.tags(reflect.ValueOf(a.Spec), specPath)
	v.system(specPath.Child("system"))
	v.login(&a.Spec)
	if r := a.Spec.Repository; r != nil {
		v.repository(specPath.Child("repository"), r.volume())
	}
	v.environment()
	v.databases()
	v.credentials()
	v.routes()
	v.network()
	v.resources(specPath.Child("resources"), a.Spec.Resources)
	v.lifecycle()
	return v.errs
}

// Needs lists what a defaulted agent asks of the host. Its fields have the names
// of a Container's, but for the repository, whose volume it does not name.
func (a *Agent) Needs() []Need {
	needs := a.Machine().needs()
	volume := specPath.Child("volumes").Index(1).Child("repository").String()
	for i, n := range needs {
		if rest, ofVolume := strings.CutPrefix(n.Path.String(), volume+"."); ofVolume {
			needs[i].Path = specPath.Child("repository", rest)
		}
	}
	return needs
}

// login checks who comes in.
func (v *containerCheck) login(s *AgentSpec) {
	if !userName.MatchString(s.User) {
		v.invalid(specPath.Child("user"), s.User, "%s", unixName)
	}
	v.size(specPath.Child("home", "sizeMax"), s.Home.SizeMax)
	seen := unique{}
	for i, key := range s.SSHKeys {
		p := specPath.Child("sshKeys").Index(i)
		v.unique(seen, key, p)
		v.sshKey(p, key)
	}
}

// sshKey checks a line of authorized_keys. What is wrong is not repeated: it may
// be a private key.
func (v *containerCheck) sshKey(p *field.Path, key string) {
	switch {
	case strings.Contains(key, "PRIVATE KEY"):
		v.forbidden(p, "is a private key, which nobody else should know; write the public one, the content of the file that ends in .pub")
	case hasControl(key):
		v.forbidden(p, "holds a control character; a public key is one line")
	default:
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key)); err != nil {
			v.forbidden(p, "is not a public key such as the content of ~/.ssh/id_ed25519.pub: a type, the key and a comment")
		}
	}
}
