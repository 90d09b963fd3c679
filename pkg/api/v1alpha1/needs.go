package v1alpha1

import (
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// NeedSort says which part of a source's admission decides on a need.
type NeedSort string

const (
	NeedTrust      NeedSort = "trust"
	NeedDomain     NeedSort = "domain"
	NeedLinkTarget NeedSort = "linkTarget"
	NeedSecret     NeedSort = "secret"
	NeedHostPath   NeedSort = "hostPath"
	NeedHostPort   NeedSort = "hostPort"
	NeedFlake      NeedSort = "flake"
	NeedRepository NeedSort = "repository"
	NeedTemplate   NeedSort = "databaseTemplate"
)

// Need is one thing that a spec asks of the host and that its source must be
// allowed to ask for.
type Need struct {
	Sort  NeedSort
	Value string
	Path  *field.Path
}

// Needs lists what a defaulted container asks of the host, in the order of its fields.
func (c *Container) Needs() []Need { return c.Spec.needs() }

func (s *ContainerSpec) needs() []Need {
	var needs []Need
	add := func(sort NeedSort, value string, p *field.Path) {
		needs = append(needs, Need{sort, value, p})
	}
	add(NeedTrust, s.Trust, specPath.Child("trust"))
	if s.System.RootFS != "" {
		add(NeedHostPath, s.System.RootFS, specPath.Child("system", "rootfs"))
	}
	if s.System.Flake != "" {
		add(NeedFlake, s.System.Flake, specPath.Child("system", "flake"))
	}
	for i, vol := range s.Volumes {
		if r := vol.Repository; r != nil {
			needs = append(needs, fetchNeeds(specPath.Child("volumes").Index(i).Child("repository"), r.URL, r.Secret)...)
		}
	}
	for i, d := range s.Databases {
		if d.Template != "" {
			add(NeedTemplate, d.Template, specPath.Child("databases").Index(i).Child("template"))
		}
	}
	for i, k := range s.Credentials {
		at := specPath.Child("credentials").Index(i)
		p := at.Child("secret")
		if k.Secret == k.Name {
			p = at.Child("name")
		}
		add(NeedSecret, k.Secret, p)
	}
	for i, m := range s.Mounts {
		add(NeedHostPath, m.HostPath, specPath.Child("mounts").Index(i).Child("hostPath"))
	}
	for i, r := range s.Routes {
		add(NeedDomain, r.Host, specPath.Child("routes").Index(i).Child("host"))
	}
	for i, l := range s.Network.Links {
		add(NeedLinkTarget, l.To, specPath.Child("network", "links").Index(i).Child("to"))
	}
	for i, p := range s.Network.Ports {
		add(NeedHostPort, strconv.Itoa(p.HostPort), specPath.Child("network", "ports").Index(i).Child("hostPort"))
	}
	return needs
}

// fetchNeeds are those of a repository that is fetched.
func fetchNeeds(p *field.Path, url, secret string) []Need {
	needs := []Need{{NeedRepository, url, p.Child("url")}}
	if secret != "" {
		needs = append(needs, Need{NeedSecret, secret, p.Child("secret")})
	}
	return needs
}
