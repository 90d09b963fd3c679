package v1alpha1

import (
	"fmt"
)

// Repository says which pull requests of a repository have previews, and what
// those may have of the host. It runs no machine: a Preview that names it takes
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

// Type returns apiVersion and kind.
func (r *Repository) Type() TypeMeta { return r.TypeMeta }

// Meta returns the metadata.
func (r *Repository) Meta() ObjectMeta { return r.Metadata }

// Machine returns nil: a repository has none.
func (r *Repository) Machine() *ContainerSpec { return nil }

// Declared returns the repository's spec.
func (r *Repository) Declared() any { return &r.Spec }

// Values of PullRequestPolicy.
const (
	TriggerOpen    = "Open"
	TriggerComment = "Comment"
	ForksNever     = "Never"
	ForksApproved  = "Approved"
)

// Default fills what the spec leaves open; see Container.Default.
func (r *Repository) Default(h *HostSpec) {
	setDefault(&r.APIVersion, APIVersion)
	setDefault(&r.Kind, KindRepository)
	setDefault(&r.Spec.PullRequests.Trigger, TriggerOpen)
	setDefault(&r.Spec.PullRequests.Forks, ForksNever)
	r.Spec.Preview.setDefaults(orDefaultHost(h))
}

// Given is a preview with what the repository gives it, on a host that may not
// be able to. A fork's commit gets nothing that its author could take away, and
// has no say in what the host builds.
func (r *Repository) Given(p *Preview, h *HostSpec) (*Preview, error) {
	given := *p
	s := &given.Spec
	s.Repository.URL, s.Repository.Secret = r.Spec.URL, r.Spec.Secret
	s.PreviewTemplate = r.Spec.Preview
	if s.Fork {
		s.Grants, s.Database.Template = PreviewGrants{}, ""
	}
	if s.Fork && s.UsesNix() {
		return nil, fmt.Errorf("Repository %s: spec.preview.config %s is a program of the commit, which one of a fork may not have built; previews of forks need a preview.yaml", r.Metadata.Name, s.Config)
	}
	v := &checker{}
	v.routeTLS(specPath.Child("preview", "tls"), Route{Host: s.Host, TLS: s.TLS}, orDefaultHost(h))
	if len(v.errs) > 0 {
		return nil, fmt.Errorf("Repository %s: %w", r.Metadata.Name, v.errs.ToAggregate())
	}
	return &given, nil
}
