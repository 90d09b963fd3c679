package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Checkout is what a reference of a git repository is now, fetched by the host
// and kept until nobody wants it. Fetching is a job. Name = CheckoutName.
//
// Who runs on a commit wants, beside the checkout of a branch, that of the
// commit itself (Ref: Commit): so it stays whatever becomes of the branch.
type Checkout struct {
	URL string `json:"url"` // https, ssh, or http to this host; without a credential
	// Ref is a branch, a tag, a full commit, refs/…, or HEAD, the default branch.
	Ref string `json:"ref"`
	// Secret of the host that gives access: an https token or an ssh key; "": none.
	Secret string `json:"secret,omitempty"`
	// Attempt counts the fetches that were asked for; a higher one looks again.
	Attempt int `json:"attempt"`

	// Of the attempt; not compared.

	// Files of the commit whose text the result is to have, sorted: configuration.
	Files    []string `json:"files,omitempty"`
	Deadline Duration `json:"deadline,omitzero"`
	// Digest of the secret: keyed, it changes when the secret does.
	Digest string `json:"digest,omitempty"`
	// MaxSize of what a fetch may bring, and of a commit's files, in bytes.
	MaxSize int64 `json:"maxSize,omitempty"`

	// Fetch is observed only.
	Fetch Fetch `json:"fetch,omitzero"`
	// Lost is observed only: the result is not there any more, or damaged.
	Lost bool `json:"lost,omitempty"`
}

// Fetch is how the latest attempt goes, and the latest one that succeeded.
type Fetch struct {
	Job
	Progress string  `json:"progress,omitempty"` // what is done now, for people
	Result   Fetched `json:"result,omitzero"`
}

// Fetched is the result of a fetch.
type Fetched struct {
	Commit string `json:"commit,omitempty"`
	// Branch is the full name that the remote has for it: refs/heads/…, refs/tags/…; "" for a commit.
	Branch string `json:"branch,omitempty"`
	// Dir is a bare repository that has the commit with its history. It is git's
	// user's, who is not root: root runs nothing on it.
	Dir         string    `json:"dir,omitempty"`
	CommittedAt time.Time `json:"committedAt,omitzero"`
	FetchedAt   time.Time `json:"fetchedAt,omitzero"`
	// Submodules of the commit, which are left out.
	Submodules int `json:"submodules,omitempty"`
	// Files asked for, by their path; nil: the commit has none such, or it is no
	// regular file of text of at most MaxCheckoutFile bytes.
	Files map[string]*string `json:"files,omitempty"`
}

// MaxCheckoutFile is the size of a file whose text a checkout tells.
const MaxCheckoutFile = 64 << 10

// CheckoutName is the name of the checkout of a repository's reference.
func CheckoutName(url, ref, secret string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{url, ref, secret}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

func (Checkout) Kind() Kind { return KindCheckout }

// Work is how fetching goes.
func (v Checkout) Work() (attempt int, how Job) { return v.Attempt, v.Fetch.Job }

// Equal compares which fetch was asked for; how it goes is no difference.
func (v Checkout) Equal(o Value) bool {
	w, ok := o.(Checkout)
	return ok && v.URL == w.URL && v.Ref == w.Ref && v.Secret == w.Secret && v.Attempt == w.Attempt && v.Lost == w.Lost
}
