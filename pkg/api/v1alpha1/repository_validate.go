package v1alpha1

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxLabel is how many characters a forge's label has at most.
const maxLabel = 50

// Validate reports everything that is wrong with a defaulted repository; see Container.Validate.
func (r *Repository) Validate(h *HostSpec) field.ErrorList {
	v, s := &checker{}, r.Spec
	v.typeMeta(r.TypeMeta, KindRepository)
	v.metadata(r.Metadata)
	v.tags(reflect.ValueOf(s), specPath)
	v.opened(specPath, s.URL, s.Secret)
	v.pullRequests(specPath.Child("pullRequests"), s.PullRequests)
	v.template(specPath.Child("preview"), s.Preview, PreviewRepository{URL: s.URL, Secret: s.Secret}, orDefaultHost(h))
	return v.errs
}

func (v *checker) pullRequests(p *field.Path, s PullRequestPolicy) {
	bases := unique{}
	for i, base := range s.Bases {
		at := p.Child("bases").Index(i)
		v.unique(bases, base, at)
		v.gitRef(at, strings.ReplaceAll(base, "*", "x"))
	}
	if strings.TrimSpace(s.Label) != s.Label || hasControl(s.Label) || utf8.RuneCountInString(s.Label) > maxLabel {
		v.invalid(p.Child("label"), s.Label, "is no label of a forge: at most %d characters on one line, none of them a space at an end", maxLabel)
	}
}

// Needs lists what a defaulted repository asks of the host for its previews.
func (r *Repository) Needs() []Need {
	s := r.Spec
	return append(fetchNeeds(specPath, s.URL, s.Secret), s.Preview.needs(specPath.Child("preview"))...)
}

// MatchBase reports whether pull requests for a branch may have previews.
func (s PullRequestPolicy) MatchBase(branch string) bool {
	return len(s.Bases) == 0 || slices.ContainsFunc(s.Bases, func(base string) bool {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(base), `\*`, `.*`)
		return regexp.MustCompile(`^` + pattern + `$`).MatchString(branch)
	})
}
