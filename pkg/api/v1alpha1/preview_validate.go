package v1alpha1

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// gitCommit is a commit in full.
var gitCommit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Validate reports everything that is wrong with a defaulted preview; see Container.Validate.
func (p *Preview) Validate(h *HostSpec) field.ErrorList {
	v := &previewCheck{checker{}, &p.Spec, orDefaultHost(h)}
	v.typeMeta(p.TypeMeta, KindPreview)
	v.metadata(p.Metadata)
	v.tags(reflect.ValueOf(p.Spec), specPath)
	v.repository()
	v.revision()
	served := v.url()
	if p.Spec.Repository.Name == "" {
		v.template(specPath, p.Spec.PreviewTemplate, p.Spec.Repository, v.host)
		if served {
			v.routeTLS(specPath.Child("tls"), Route{Host: p.Spec.Host, TLS: p.Spec.TLS}, v.host)
		}
	}
	same := &containerCheck{spec: &ContainerSpec{Reason: p.Spec.Reason}}
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
	switch {
	case r.Name != "":
		v.named()
	case r.URL == "":
		v.required(p, "write name, the name of a Repository, or url")
	default:
		v.opened(p, r.URL, r.Secret)
	}
	if v.spec.Fork && r.Name == "" {
		v.forbidden(specPath.Child("fork"), "goes with repository.name: it withholds what the Repository grants. With a url the preview has only what stands here: leave grants out")
	}
	v.duration(specPath.Child("refresh"), v.spec.Refresh, Duration{minInterval})
}

// named checks a preview that takes what it is given from a Repository: then it
// may say nothing of that itself.
func (v *previewCheck) named() {
	p, r := specPath.Child("repository"), v.spec.Repository
	v.label(p.Child("name"), r.Name, "")
	if r.URL != "" {
		v.forbidden(p.Child("url"), "and name are both set; the Repository says the url")
	}
	if r.Secret != "" {
		v.forbidden(p.Child("secret"), "goes with url; the Repository says the secret")
	}
	for f, value := range reflect.ValueOf(v.spec.PreviewTemplate).Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !value.IsZero() {
			v.forbidden(specPath.Child(name), "is what the Repository %s says (its spec.preview); leave it out, or write repository.url instead of repository.name", r.Name)
		}
	}
}

// opened checks how a repository is reached.
func (v *checker) opened(p *field.Path, url, secret string) {
	v.gitURL(p.Child("url"), url, "tekton secret set NAME takes the token; name it in secret")
	if secret != "" {
		v.credentialName(p.Child("secret"), secret)
	}
}

// template checks what previews are given; what they share with a container is
// checked as that.
func (v *checker) template(p *field.Path, t PreviewTemplate, r PreviewRepository, h *HostSpec) {
	if !localPath(t.Config) {
		v.invalid(p.Child("config"), t.Config, "must be a path in the repository in its shortest form, such as deploy/preview.yaml: letters, digits and ._@+-")
	}
	if t.UsesNix() && h.Previews.Nix == nil {
		v.invalid(p.Child("config"), t.Config, "is code, which this host does not evaluate: use a preview.yaml, or have the operator set Host spec.previews.nix")
	}
	v.grants(p.Child("grants"), t.Grants)
	v.databaseTemplate(p.Child("database", "template"), t.Database.Template)
	v.once(p.Child("database", "seed"), t.Database.Seed)
	if t.Grants.RepositoryToken && (r.Secret == "" || !strings.HasPrefix(r.URL, "https://")) {
		v.forbidden(p.Child("grants", "repositoryToken"), "needs a repository with an https url and a secret, which is the token")
	}
	v.resources(p.Child("resources"), t.Resources)
	v.ttl(p.Child("ttl"), t.TTL)
	v.sleepAfter(p.Child("sleepAfter"), t.SleepAfter)
	same := &containerCheck{spec: &ContainerSpec{Trust: "untrusted", Network: Network{Egress: t.Egress}}, host: h}
	same.egress(p.Child("egress"))
	v.errs = append(v.errs, same.errs...)
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

// url reports whether the host name is one that can be served.
func (v *previewCheck) url() bool {
	s := v.spec
	if v.host.Ingress.Mode == "none" {
		v.forbidden(specPath.Child("host"), "cannot be served: this host has no ingress (Host spec.ingress.mode is none)")
		return false
	}
	if s.Host == "" {
		v.required(specPath.Child("host"), "name the DNS name of the URL, or set Host spec.previews.domain")
		return false
	}
	if !v.domain(specPath.Child("host"), s.Host) {
		return false
	}
	if label, _, _ := strings.Cut(s.Host, "."); len(label) > MaxName {
		v.invalid(specPath.Child("host"), s.Host, "has a first label of more than %d characters; its prefixed names would not fit", MaxName)
	}
	return true
}

func (v *checker) grants(p *field.Path, g PreviewGrants) {
	names := unique{}
	for i, s := range g.Secrets {
		at := p.Child("secrets").Index(i)
		v.variable(at.Child("name"), s.Name, "")
		v.unique(names, s.Name, at.Child("name"))
		v.credentialName(at.Child("secret"), s.Secret)
	}
	for _, name := range slices.Sorted(maps.Keys(g.Variables)) {
		at := p.Child("variables").Key(name)
		v.variable(at, name, g.Variables[name])
		v.unique(names, name, at)
	}
}

// Needs lists what a defaulted preview asks of the host. What its application
// asks for beyond that is bound by the grants and by the host's own list of systems.
// What a Repository gives it, that has asked for.
func (p *Preview) Needs() []Need {
	r, at := p.Spec.Repository, specPath.Child("repository")
	needs := []Need{
		{NeedTrust, "untrusted", specPath},
		{NeedDomain, p.Spec.Host, specPath.Child("host")},
	}
	if r.Name != "" {
		return append(needs, Need{NeedRepository, r.Name, at.Child("name")})
	}
	needs = append(needs, fetchNeeds(at, r.URL, r.Secret)...)
	return append(needs, p.Spec.PreviewTemplate.needs(specPath)...)
}

func (t PreviewTemplate) needs(p *field.Path) []Need {
	var needs []Need
	for i, g := range t.Grants.Secrets {
		at := p.Child("grants", "secrets").Index(i)
		path := at.Child("secret")
		if g.Secret == g.Name {
			path = at.Child("name")
		}
		needs = append(needs, Need{NeedSecret, g.Secret, path})
	}
	if name := t.Database.Template; name != "" {
		needs = append(needs, Need{NeedTemplate, name, p.Child("database", "template")})
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
	if n := c.Nix; n != nil {
		if err := checkFlake(n.Flake); err != nil {
			v.invalid(p.Child("nix", "flake"), n.Flake, "%v", err)
		}
		v.duration(p.Child("nix", "refresh"), n.Refresh, Duration{time.Minute})
	}
}
