package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What we read of the answers; GitHub and Forgejo call it the same.
type (
	wireUser struct {
		Login string `json:"login"`
		Type  string `json:"type"`
	}
	wireBranch struct {
		Ref  string `json:"ref"`
		SHA  string `json:"sha"`
		Repo *struct {
			ID int64 `json:"id"`
		} `json:"repo"`
	}
	wireLabel struct {
		Name string `json:"name"`
	}
	wirePull struct {
		Number int         `json:"number"`
		State  string      `json:"state"`
		Draft  bool        `json:"draft"`
		Opened time.Time   `json:"created_at"`
		URL    string      `json:"html_url"`
		User   *wireUser   `json:"user"`
		Labels []wireLabel `json:"labels"`
		Head   wireBranch  `json:"head"`
		Base   wireBranch  `json:"base"`
		// Flow is Forgejo's: 0 of a branch, else of a push to refs/for (AGit).
		Flow int64 `json:"flow"`
	}
	wireComment struct {
		ID      int64     `json:"id"`
		Body    wireText  `json:"body"`
		User    *wireUser `json:"user"`
		Created time.Time `json:"created_at"`
		// OriginalAuthor is Forgejo's, of a comment that was written at another forge.
		OriginalAuthor   string `json:"original_author"`
		OriginalAuthorID int64  `json:"original_author_id"`
	}
	// wireText is the beginning of a text that anybody may have written.
	wireText string
)

// maxComment bytes of each comment are kept: thousands of them fit in memory.
const maxComment = 32 << 10

// UnmarshalJSON implements json.Unmarshaler.
func (w *wireText) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if len(s) > maxComment {
		n := maxComment
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s = strings.Clone(s[:n])
	}
	*w = wireText(s)
	return nil
}

var fullCommit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// foreign reports whether the commits are of no branch of the repository itself. Of
// a pull request that was pushed to refs/for (AGit), for which it takes no more than
// reading, Forgejo and Gitea say that it is of the repository, and refs/pull/N/head.
func (w wirePull) foreign() bool {
	return w.Head.Repo == nil || w.Base.Repo == nil || w.Head.Repo.ID != w.Base.Repo.ID ||
		w.Flow != 0 || strings.HasPrefix(w.Head.Ref, "refs/")
}

// value checks what others rely on.
func (w wirePull) value() (PullRequest, error) {
	p := PullRequest{
		Number: w.Number, Open: w.State == "open", Draft: w.Draft, URL: w.URL, Opened: w.Opened.UTC(),
		Fork: w.foreign(),
		Base: w.Base.Ref, Branch: w.Head.Ref, Commit: w.Head.SHA,
	}
	if w.User != nil { // it is gone
		p.Author = w.User.Login
	}
	if w.Base.Repo != nil {
		p.RepositoryID = w.Base.Repo.ID
	}
	for _, l := range w.Labels {
		p.Labels = append(p.Labels, l.Name)
	}
	if _, err := pullRequestNumber(int64(p.Number)); err != nil {
		return PullRequest{}, err
	}
	if w.State != "open" && w.State != "closed" {
		return PullRequest{}, fmt.Errorf("pull request %d is %.20q, neither open nor closed", p.Number, w.State)
	}
	if !fullCommit.MatchString(p.Commit) {
		return PullRequest{}, fmt.Errorf("pull request %d shows %.70q, which is no commit", p.Number, p.Commit)
	}
	for _, b := range []string{p.Base, p.Branch} {
		if err := checkBranch(b); err != nil {
			return PullRequest{}, fmt.Errorf("pull request %d: %w", p.Number, err)
		}
	}
	return p, nil
}

// listedPull is one of a list: when it is no pull request at all the others are.
type listedPull struct{ wirePull }

// UnmarshalJSON implements json.Unmarshaler.
func (l *listedPull) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &l.wirePull) != nil {
		l.wirePull = wirePull{}
	}
	return nil
}

// mannequin is the type of those that GitHub shows comments under that were written
// at another forge; people here may be called like them.
const mannequin = "Mannequin"

// author has written the comment at this forge. Of one that was brought here it is
// nobody: Forgejo shows it under the name of who brought it.
func (w wireComment) author() string {
	if w.User == nil || w.User.Type == mannequin || w.OriginalAuthor != "" || w.OriginalAuthorID != 0 {
		return ""
	}
	return w.User.Login
}

// in is a question about a repository.
func in(r Repository, method string, parts ...string) (call, error) {
	if err := r.Validate(); err != nil {
		return call{}, err
	}
	return call{repo: r, method: method, path: path(append([]string{"repos", r.Owner, r.Name}, parts...)...)}, nil
}

// PullRequest implements Client.
func (c *API) PullRequest(ctx context.Context, r Repository, number int) (PullRequest, error) {
	q, err := in(r, http.MethodGet, "pulls", strconv.Itoa(number))
	if err != nil {
		return PullRequest{}, err
	}
	w, _, err := ask[wirePull](ctx, c, q)
	if err != nil {
		return PullRequest{}, err
	}
	if w.Number != number {
		return PullRequest{}, fmt.Errorf("asked %s for pull request %d, and got %d", r, number, w.Number)
	}
	return w.value()
}

// OpenPullRequests implements Client.
func (c *API) OpenPullRequests(ctx context.Context, r Repository) ([]PullRequest, error) {
	q, err := in(r, http.MethodGet, "pulls")
	if err != nil {
		return nil, err
	}
	q.query = url.Values{"state": {"open"}}
	if c.service == GitHub { // new ones come last, so that the pages before stay as they are
		q.query.Set("sort", "created")
		q.query.Set("direction", "asc")
	}
	list, err := all[listedPull](ctx, c, q)
	if err != nil {
		return nil, err
	}
	var pulls []PullRequest
	var odd []error
	for _, w := range list {
		p, err := w.value()
		if err != nil {
			odd = append(odd, err)
			continue
		}
		pulls = append(pulls, p)
	}
	slices.SortFunc(pulls, func(a, b PullRequest) int { return a.Number - b.Number })
	pulls = slices.CompactFunc(pulls, func(a, b PullRequest) bool { return a.Number == b.Number })
	if len(odd) > 0 {
		return pulls, &OddError{Err: fmt.Errorf("%s: %w", r, errors.Join(odd...))}
	}
	return pulls, nil
}

// Comments implements Client.
func (c *API) Comments(ctx context.Context, r Repository, number int) ([]Comment, error) {
	q, err := in(r, http.MethodGet, "issues", strconv.Itoa(number), "comments")
	if err != nil {
		return nil, err
	}
	self, err := c.login(ctx, r)
	if err != nil {
		return nil, err
	}
	list, err := all[wireComment](ctx, c, q)
	if err != nil {
		return nil, err
	}
	var comments []Comment
	for _, w := range list {
		author := w.author()
		comments = append(comments, Comment{ID: w.ID, Body: string(w.Body), Created: w.Created, Author: author, Ours: strings.EqualFold(author, self)})
	}
	slices.SortStableFunc(comments, func(a, b Comment) int { return a.Created.Compare(b.Created) })
	return comments, nil
}

// login is the account that we write as.
func (c *API) login(ctx context.Context, r Repository) (string, error) {
	c.mu.Lock()
	self := c.self
	c.mu.Unlock()
	if self != "" {
		return self, nil
	}
	if _, ok := c.auth.(*installations); ok {
		app, _, err := ask[struct{ Slug string }](ctx, c, call{repo: r, app: true, method: http.MethodGet, path: "/app"})
		if err != nil {
			return "", err
		}
		if app.Slug != "" {
			self = app.Slug + "[bot]"
		}
	} else {
		user, _, err := ask[wireUser](ctx, c, call{repo: r, method: http.MethodGet, path: "/user"})
		if err != nil {
			return "", err
		}
		self = user.Login
	}
	if self == "" {
		return "", errors.New("the forge does not say who we are")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.self = self
	return self, nil
}

// MayWrite implements Client.
func (c *API) MayWrite(ctx context.Context, r Repository, user string) (bool, error) {
	if !accountName.MatchString(strings.TrimSuffix(user, "[bot]")) {
		return false, nil // an account that is gone, and worse
	}
	q, err := in(r, http.MethodGet, "collaborators", user, "permission")
	if err != nil {
		return false, err
	}
	w, _, err := ask[struct {
		Permission string `json:"permission"`
	}](ctx, c, q)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return w.Permission == "write" || w.Permission == "admin" || w.Permission == "owner", err
}

// SetComment implements Client.
func (c *API) SetComment(ctx context.Context, r Repository, number int, id int64, body string) (int64, error) {
	q, err := in(r, http.MethodPost, "issues", strconv.Itoa(number), "comments")
	if id != 0 {
		q, err = in(r, http.MethodPatch, "issues", "comments", strconv.FormatInt(id, 10))
	}
	if err != nil {
		return 0, err
	}
	q.body = map[string]string{"body": body}
	w, _, err := ask[wireComment](ctx, c, q)
	return w.ID, err
}
