package v1alpha1

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// gitCommit is a commit in full.
var gitCommit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Validate reports everything that is wrong with a defaulted preview; see Container.Validate.
func (p *Preview) Validate(h *HostSpec) field.ErrorList {
	v := &previewCheck{spec: &p.Spec, host: orDefaultHost(h)}
	v.typeMeta(p.TypeMeta, KindPreview)
	v.metadata(p.Metadata)
	v.tags(reflect.ValueOf(p.Spec), specPath)
	v.repository()
	v.revision()
	v.url()
	v.grants()
	// What a preview shares with a container is checked as that.
	same := &containerCheck{spec: &ContainerSpec{Trust: "untrusted", Resources: p.Spec.Resources, Reason: p.Spec.Reason, Network: Network{Egress: p.Spec.Egress}}, host: v.host}
	same.resources()
	same.egress(specPath.Child("egress"))
	same.reason()
	return append(v.errs, same.errs...)
}

type previewCheck struct {
	checker
	spec *PreviewSpec
	host *HostSpec
}

func (v *previewCheck) repository() {
	p, r := specPath.Child("repository"), v.spec.Repository
	v.gitURL(p.Child("url"), r.URL, "tekton secret set NAME takes the token; name it in secret")
	if r.Secret != "" {
		v.credentialName(p.Child("secret"), r.Secret)
	}
	if !localPath(v.spec.Config) {
		v.invalid(specPath.Child("config"), v.spec.Config, "must be a path in the repository in its shortest form, such as deploy/preview.yaml: letters, digits and ._@+-")
	}
	v.duration(specPath.Child("refresh"), v.spec.Refresh, Duration{minInterval})
}

func (v *previewCheck) revision() {
	s := v.spec
	switch {
	case s.Branch != "" && s.PullRequest != 0:
		v.forbidden(specPath.Child("pullRequest"), "and branch are both set; a preview follows one of them")
	case s.Branch == "" && s.PullRequest == 0 && s.Commit == "":
		v.required(specPath.Child("branch"), "set branch, pullRequest or commit")
	}
	if s.Branch != "" {
		v.gitRef(specPath.Child("branch"), s.Branch)
	}
	if s.Commit != "" && !gitCommit.MatchString(s.Commit) {
		v.invalid(specPath.Child("commit"), s.Commit, "must be a commit in full: 40 or 64 characters 0-9 and a-f")
	}
}

func (v *previewCheck) url() {
	s := v.spec
	if v.host.Ingress.Mode == "none" {
		v.forbidden(specPath.Child("host"), "cannot be served: this host has no ingress (Host spec.ingress.mode is none)")
		return
	}
	if s.Host == "" {
		v.required(specPath.Child("host"), "name the DNS name of the URL, or set Host spec.previews.domain")
		return
	}
	if !v.domain(specPath.Child("host"), s.Host) {
		return
	}
	if label, _, _ := strings.Cut(s.Host, "."); len(label) > MaxName {
		v.invalid(specPath.Child("host"), s.Host, "has a first label of more than %d characters; its prefixed names would not fit", MaxName)
	}
	same := &containerCheck{host: v.host}
	same.routeTLS(specPath.Child("tls"), Route{Host: s.Host, TLS: s.TLS})
	v.errs = append(v.errs, same.errs...)
}

func (v *previewCheck) grants() {
	p, names := specPath.Child("grants"), unique{}
	for i, s := range v.spec.Grants.Secrets {
		at := p.Child("secrets").Index(i)
		v.variable(at.Child("name"), s.Name, "")
		v.unique(names, s.Name, at.Child("name"))
		v.credentialName(at.Child("secret"), s.Secret)
	}
	for _, name := range slices.Sorted(maps.Keys(v.spec.Grants.Variables)) {
		at := p.Child("variables").Key(name)
		v.variable(at, name, v.spec.Grants.Variables[name])
		v.unique(names, name, at)
	}
}

// Needs lists what a defaulted preview asks of the host. What its application
// asks for beyond that is bound by the grants and by the host's own list of systems.
func (p *Preview) Needs() []Need {
	s := p.Spec
	needs := []Need{
		{NeedTrust, "untrusted", specPath},
		{NeedDomain, s.Host, specPath.Child("host")},
		{NeedRepository, s.Repository.URL, specPath.Child("repository", "url")},
	}
	if s.Repository.Secret != "" {
		needs = append(needs, Need{NeedSecret, s.Repository.Secret, specPath.Child("repository", "secret")})
	}
	for i, g := range s.Grants.Secrets {
		at := specPath.Child("grants", "secrets").Index(i)
		path := at.Child("secret")
		if g.Secret == g.Name {
			path = at.Child("name")
		}
		needs = append(needs, Need{NeedSecret, g.Secret, path})
	}
	return needs
}

// previews checks the Host's configuration of previews.
func (v *hostCheck) previews() {
	p, c := specPath.Child("previews"), v.spec.Previews
	if c.Domain != "" {
		v.domain(p.Child("domain"), c.Domain)
	}
	names := unique{}
	for i, s := range c.Systems {
		at := p.Child("systems").Index(i)
		v.label(at.Child("name"), s.Name, "a preview.yaml names the base by it")
		v.unique(names, s.Name, at.Child("name"))
		base := &containerCheck{spec: &ContainerSpec{System: s.System}}
		base.system(at.Child("system"))
		v.errs = append(v.errs, base.errs...)
	}
}
