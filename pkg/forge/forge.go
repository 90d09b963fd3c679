// Package forge speaks with the services that host repositories and their pull
// requests: GitHub, GitHub Enterprise, Forgejo and Gitea.
//
// Invariants:
//   - a delivery is only believed after its signature; it names what to look at
//     and decides nothing: the truth is what the forge's API answers;
//   - an error of the forge is an error, never an empty answer;
//   - no token is part of an error, a log line or a URL.
package forge

import (
	"context"
	"errors"
	"time"
)

// Repository is a repository of a forge.
type Repository struct {
	// Owner is a user or an organisation.
	Owner string
	// Name of the repository, without ".git".
	Name string
}

// String is OWNER/NAME.
func (r Repository) String() string { return r.Owner + "/" + r.Name }

// PullRequest is what a forge says of a pull request now.
type PullRequest struct {
	// Number within the repository.
	Number int
	// RepositoryID is the repository's, which it keeps when it is renamed; 0: unknown.
	RepositoryID int64
	// Open is false once it was merged or closed.
	Open bool
	// Opened for the first time.
	Opened time.Time
	// Draft is one that is not ready for review.
	Draft bool
	// Fork says that its commits are of another repository, of one that is gone, or
	// of none: on Forgejo who may only read can push to refs/for.
	Fork bool
	// Base is the branch that it is for.
	Base string
	// Branch that it is of, in its own repository.
	Branch string
	// Commit that it shows, in full.
	Commit string
	// Labels by name.
	Labels []string
	// Author is a login name.
	Author string
	// URL for people.
	URL string
}

// Comment is a comment of a pull request's conversation.
type Comment struct {
	// ID within the forge.
	ID int64
	// Author is a login name; empty: an account that is gone, or of another forge.
	Author string
	// Ours says that the account we use has written it.
	Ours bool
	// Body as it was written, its first 32 KiB: Markdown, and not to be trusted.
	Body string
	// Created when it was first written.
	Created time.Time
}

// DeploymentState is the state of a deployment, in GitHub's words.
type DeploymentState string

// States of a deployment.
const (
	DeploymentInProgress DeploymentState = "in_progress"
	DeploymentSuccess    DeploymentState = "success"
	DeploymentFailure    DeploymentState = "failure"
	DeploymentInactive   DeploymentState = "inactive"
)

// Deployment is what a forge shows of a preview beside its pull request.
type Deployment struct {
	// Environment is its name: one for each preview.
	Environment string
	// Commit that it shows, in full.
	Commit string
	// State it is in.
	State DeploymentState
	// URL of the preview.
	URL string
	// LogURL leads to what happened; empty: none.
	LogURL string
	// Description in at most 140 characters.
	Description string
}

// Client asks and tells one forge.
type Client interface {
	// PullRequest as it is now; ErrNotFound: there is none, or we may not see it.
	PullRequest(ctx context.Context, r Repository, number int) (PullRequest, error)
	// OpenPullRequests are all that are open, in the order of their numbers. One
	// may be missing when another closes while pages are read: of what is missing
	// ask PullRequest. With an OddError come all others.
	OpenPullRequests(ctx context.Context, r Repository) ([]PullRequest, error)
	// Comments of a pull request, oldest first.
	Comments(ctx context.Context, r Repository, number int) ([]Comment, error)
	// MayWrite reports whether a user may push to the repository.
	MayWrite(ctx context.Context, r Repository, user string) (bool, error)
	// SetComment writes a comment of ours; id 0: a new one. It returns its id;
	// ErrNotFound: somebody has deleted it.
	SetComment(ctx context.Context, r Repository, number int, id int64, body string) (int64, error)
	// SetDeployment shows a deployment; the same again changes nothing. A forge
	// that has none does nothing.
	SetDeployment(ctx context.Context, r Repository, d Deployment) error
}

// ErrNotFound is what the forge does not have, or does not show us.
var ErrNotFound = errors.New("not found")

// ErrRefused is what the forge does not do, also when it is asked again: what
// the token or the app may not, and what it does not accept.
var ErrRefused = errors.New("refused")

// OddError is of pull requests in a list that are not as a forge shows one. They
// are left out.
type OddError struct{ Err error }

// Error says what is odd.
func (e *OddError) Error() string { return e.Err.Error() }

// Unwrap is what is odd.
func (e *OddError) Unwrap() error { return e.Err }

// RetryError is a forge that wants to be asked later: its rate limit, or its
// own trouble.
type RetryError struct {
	// After which to ask again.
	After time.Duration
	// Limit says that the account has used its limit up: no other question of it is
	// answered until then, either.
	Limit bool
	// Err is what it said.
	Err error
}

// Error says what the forge said.
func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap is what it said.
func (e *RetryError) Unwrap() error { return e.Err }

// Event is what a delivery says: where to look.
type Event struct {
	// ID of the delivery, the same when it is delivered again.
	ID string
	// Kind is one of the Event… constants; empty: it says nothing to us.
	Kind string
	// Repository it is about.
	Repository Repository
	// PullRequest to look at; 0: none.
	PullRequest int
	// Branch that was pushed to or deleted; empty: none.
	Branch string
}
