package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/preview"
	"tekton.host/pkg/spec"
)

// previewSpec is the file of a pull request's preview. name is the one that it
// has already, or empty.
func previewSpec(r Ref, repository *v1alpha1.RepositorySpec, name string, v Verdict) (text []byte, called string, err error) {
	if name == "" {
		name = preview.Name(v1alpha1.PreviewSpec{Repository: v1alpha1.PreviewRepository{URL: repository.URL}, PullRequest: r.Number})
	}
	text, err = spec.Marshal(&v1alpha1.Preview{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindPreview},
		Metadata: v1alpha1.ObjectMeta{Name: name},
		Spec: v1alpha1.PreviewSpec{
			Repository: v1alpha1.PreviewRepository{Name: r.Repository}, PullRequest: r.Number,
			Commit: v.Commit, Fork: v.Fork, Rebuild: v.Rebuilds,
		},
	})
	return append([]byte(specText), text...), name, err
}

// digest of what is wanted: a preview that somebody took away comes back when it changes.
func digest(text []byte, v Verdict) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s", v.Asked, text))
	return hex.EncodeToString(sum[:])
}

// locate says which repository of a forge a git URL leads to.
func locate(gitURL, forgeURL string) (forge.Repository, bool) {
	at, err := url.Parse(gitURL)
	base, errBase := url.Parse(forgeURL)
	if err != nil || errBase != nil || !strings.EqualFold(at.Hostname(), base.Hostname()) {
		return forge.Repository{}, false
	}
	if at.Scheme == base.Scheme && at.Port() != base.Port() {
		return forge.Repository{}, false
	}
	path := strings.Trim(at.Path, "/")
	if prefix := strings.Trim(base.Path, "/"); at.Scheme == base.Scheme && prefix != "" {
		rest, below := strings.CutPrefix(path, prefix+"/")
		if !below {
			return forge.Repository{}, false
		}
		path = rest
	}
	owner, name, ok := strings.Cut(strings.TrimSuffix(path, ".git"), "/")
	if !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return forge.Repository{}, false
	}
	return forge.Repository{Owner: owner, Name: name}, true
}

func sameRepository(a, b forge.Repository) bool { return strings.EqualFold(a.String(), b.String()) }
