package preview

import (
	"crypto/sha256"
	"encoding/base32"
	"path"
	"strconv"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

const (
	// maxRepository leaves room for the branch in a name.
	maxRepository = 16
	// hashLength in base32: 40 bits tell those apart that read alike.
	hashLength = 8
)

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Name is the name of the preview of a repository's branch, pull request or
// commit: what people read of both, and a hash of both in full. Machine, route
// and database of a preview follow from it.
func Name(s v1alpha1.PreviewSpec) string {
	readable := s.Commit[:min(len(s.Commit), 7)]
	switch {
	case s.PullRequest != 0:
		readable = strconv.Itoa(s.PullRequest)
	case s.Branch != "":
		readable = s.Branch
	}
	url := strings.TrimSuffix(strings.TrimRight(s.Repository.URL, "/"), ".git")
	sum := sha256.Sum256([]byte(url + "\x00" + s.Followed()))
	name := cut(label(path.Base(url)), maxRepository) + "-" + label(readable)
	name = cut(strings.Trim(name, "-"), v1alpha1.MaxName-hashLength-1)
	return strings.TrimLeft(name+"-"+lowerBase32.EncodeToString(sum[:])[:hashLength], "-")
}

// label keeps what a DNS label may hold.
func label(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.TrimRight(b.String(), "-")
}

func cut(s string, n int) string { return strings.TrimRight(s[:min(len(s), n)], "-") }
