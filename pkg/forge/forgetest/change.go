package forgetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/forge"
)

// AddRepository makes a repository, which everybody may read.
func (s *Server) AddRepository(r forge.Repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[key(r)] = &repository{id: s.id(), name: r, grants: map[string]string{strings.ToLower(r.Owner): "admin"}}
}

func key(r forge.Repository) string { return strings.ToLower(r.String()) }

// Grant gives a user admin, write or read.
func (s *Server) Grant(r forge.Repository, user, permission string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[key(r)].grants[strings.ToLower(user)] = permission
}

// Open opens a pull request as p is, but for its number, which it returns.
func (s *Server) Open(r forge.Repository, p forge.PullRequest) int {
	return s.open(r, p, false)
}

// OpenAGit opens a pull request as `git push origin HEAD:refs/for/BASE` does on
// Forgejo and Gitea, for which reading is enough: it is of no branch.
func (s *Server) OpenAGit(r forge.Repository, p forge.PullRequest) int {
	return s.open(r, p, true)
}

func (s *Server) open(r forge.Repository, p forge.PullRequest, agit bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repos[key(r)]
	repo.issues++
	p.Number, p.RepositoryID, p.Open, p.Opened = repo.issues, repo.id, true, now()
	if agit {
		p.Fork, p.Branch = true, fmt.Sprintf("refs/pull/%d/head", p.Number)
	}
	p.URL = fmt.Sprintf("https://github.example/%s/pull/%d", r, p.Number)
	made := &pull{PullRequest: p, agit: agit, id: s.id()}
	repo.pulls = append(repo.pulls, made)
	s.tellPull(repo, made, "opened")
	return p.Number
}

// change changes a pull request and tells of the action.
func (s *Server) change(r forge.Repository, number int, action string, f func(p *forge.PullRequest)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repos[key(r)]
	p := repo.pull(number)
	f(&p.PullRequest)
	s.tellPull(repo, p, action)
}

// Push has a pull request show another commit.
func (s *Server) Push(r forge.Repository, number int, commit string) {
	s.change(r, number, "synchronize", func(p *forge.PullRequest) { p.Commit = commit })
}

// Close closes or merges a pull request.
func (s *Server) Close(r forge.Repository, number int) {
	s.change(r, number, "closed", func(p *forge.PullRequest) { p.Open = false })
}

// Reopen opens a closed pull request again.
func (s *Server) Reopen(r forge.Repository, number int) {
	s.change(r, number, "reopened", func(p *forge.PullRequest) { p.Open = true })
}

// Rebase has a pull request be for another branch.
func (s *Server) Rebase(r forge.Repository, number int, base string) {
	s.change(r, number, "edited", func(p *forge.PullRequest) { p.Base = base })
}

// Label puts a label on a pull request.
func (s *Server) Label(r forge.Repository, number int, label string) {
	s.change(r, number, "labeled", func(p *forge.PullRequest) {
		if !slices.Contains(p.Labels, label) {
			p.Labels = append(slices.Clone(p.Labels), label)
		}
	})
}

// Unlabel takes a label off.
func (s *Server) Unlabel(r forge.Repository, number int, label string) {
	s.change(r, number, "unlabeled", func(p *forge.PullRequest) {
		p.Labels = slices.DeleteFunc(slices.Clone(p.Labels), func(l string) bool { return l == label })
	})
}

// SetDraft says whether a pull request is ready for review.
func (s *Server) SetDraft(r forge.Repository, number int, draft bool) {
	action := "ready_for_review"
	if draft {
		action = "converted_to_draft"
	}
	s.change(r, number, action, func(p *forge.PullRequest) { p.Draft = draft })
}

// PushBranch tells of a push to a branch; the server keeps none.
func (s *Server) PushBranch(r forge.Repository, branch, commit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellPush(s.repos[key(r)], branch, commit)
}

// Say writes a user's comment, and returns its id.
func (s *Server) Say(r forge.Repository, number int, user, body string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.say(s.repos[key(r)], number, user, body).ID
}

func (s *Server) say(repo *repository, number int, user, body string) *comment {
	c := &comment{number: number, Comment: forge.Comment{ID: s.id(), Author: user, Body: body, Created: now()}}
	repo.comments = append(repo.comments, c)
	s.tellComment(repo, c, "created")
	return c
}

// Import has a comment that somebody wrote at another forge: GitHub shows it under
// that name, a mannequin's; Forgejo under that of the repository's owner.
func (s *Server) Import(r forge.Repository, number int, user, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repos[key(r)]
	repo.comments = append(repo.comments, &comment{number: number, imported: true, Comment: forge.Comment{ID: s.id(), Author: user, Body: body, Created: now()}})
}

// Unsay deletes a comment, whoever has written it.
func (s *Server) Unsay(r forge.Repository, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo := s.repos[key(r)]
	c := repo.comment(id)
	if c == nil {
		return errors.New("no such comment")
	}
	repo.comments = slices.DeleteFunc(repo.comments, func(o *comment) bool { return o == c })
	s.tellComment(repo, c, "deleted")
	return nil
}

// PullRequests are all, as they are now.
func (s *Server) PullRequests(r forge.Repository) []forge.PullRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []forge.PullRequest
	for _, p := range s.repos[key(r)].pulls {
		all = append(all, p.PullRequest)
	}
	return all
}

// Comments of a pull request, oldest first.
func (s *Server) Comments(r forge.Repository, number int) []forge.Comment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []forge.Comment
	for _, c := range s.repos[key(r)].of(number) {
		all = append(all, c.Comment)
	}
	return all
}

// Deployments of a repository, oldest first, each in its latest state.
func (s *Server) Deployments(r forge.Repository) []forge.Deployment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []forge.Deployment
	for _, d := range s.repos[key(r)].deployments {
		all = append(all, d.now())
	}
	return all
}

// pull is the pull request of a number, nil if there is none.
func (r *repository) pull(number int) *pull {
	for _, p := range r.pulls {
		if p.Number == number {
			return p
		}
	}
	return nil
}

func (r *repository) comment(id int64) *comment {
	for _, c := range r.comments {
		if c.ID == id {
			return c
		}
	}
	return nil
}

func (r *repository) of(number int) []*comment {
	var all []*comment
	for _, c := range r.comments {
		if c.number == number {
			all = append(all, c)
		}
	}
	return all
}

// now in the precision of the API.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
