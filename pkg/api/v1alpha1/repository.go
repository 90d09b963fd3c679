package v1alpha1

// Repository says which pull requests of a repository have previews, and what
// those may have of the host. It has no machine: a Preview that names it takes
// from it what it is given.
type Repository struct {
	TypeMeta `json:",inline"`
	// Metadata identifies the object; its name is that by which a Preview names it.
	Metadata ObjectMeta `json:"metadata"`
	// Spec is what is wanted.
	Spec RepositorySpec `json:"spec"`
}

// RepositorySpec says what may be previewed, and how.
type RepositorySpec struct {
	// URL of the repository: https://HOST/PATH or ssh://USER@HOST/PATH; no credential in it.
	URL string `json:"url"`
	// Secret of the host that opens it: a token for https, a private key for ssh; absent: none is needed.
	Secret string `json:"secret,omitempty"`
	// PullRequests that have a preview.
	PullRequests PullRequestPolicy `json:"pullRequests,omitzero"`
	// Preview is what each of its previews is given.
	Preview PreviewTemplate `json:"preview,omitzero"`
}

// PullRequestPolicy says which pull requests have a preview.
type PullRequestPolicy struct {
	// Bases are the branches that a pull request may be for, "*" for any part of a name; absent: all.
	Bases []string `json:"bases,omitempty"`
	// Label that a pull request needs; absent: none.
	Label string `json:"label,omitempty"`
	// Trigger is what it waits for: Open shows each, Comment those for which a user with write access has said /preview.
	Trigger string `json:"trigger,omitempty" enum:"Open,Comment"`
	// Drafts true: also those that are not ready for review.
	Drafts bool `json:"drafts,omitempty"`
	// Forks with previews: Never, or Approved: each commit that a user with write access has approved, and without grants.
	Forks string `json:"forks,omitempty" enum:"Never,Approved"`
	// Max previews of the repository at a time; further ones wait until one has gone. 0: as many as the source may have.
	Max int `json:"max,omitempty" min:"0"`
}

// PreviewTemplate is what each preview of a repository is given.
type PreviewTemplate struct {
	// Config is the path of the application's configuration in the repository.
	Config string `json:"config,omitempty"`
	// TLS of the host names: off, internal, files.
	TLS string `json:"tls,omitempty" enum:"off,internal,files"`
	// Grants are what the application may have of the host.
	Grants PreviewGrants `json:"grants,omitzero"`
	// Database of the application, where it asks for one.
	Database PreviewDatabase `json:"database,omitzero"`
	// Resources limit the machine.
	Resources Resources `json:"resources,omitzero"`
	// Egress is what the machine may reach outside.
	Egress Egress `json:"egress,omitzero"`
	// TTL removes a preview that long after it was created; absent or 0s: it stays while its pull request is open.
	TTL *Duration `json:"ttl,omitempty"`
}

// Type returns apiVersion and kind.
func (r *Repository) Type() TypeMeta { return r.TypeMeta }

// Meta returns the metadata.
func (r *Repository) Meta() ObjectMeta { return r.Metadata }
