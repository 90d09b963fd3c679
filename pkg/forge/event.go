package forge

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Kinds of events that say something to us, in GitHub's words.
const (
	EventPing        = "ping"
	EventPullRequest = "pull_request"
	EventPush        = "push"
	EventComment     = "issue_comment"
)

const (
	maxBranch = 255
	maxNumber = 1<<31 - 1
)

var (
	deliveryID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
	eventKind  = regexp.MustCompile(`^[a-z_]{1,64}$`)
	// What GitHub, GitHub Enterprise and Forgejo let accounts and repositories be called.
	accountName    = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,99}$`)
	repositoryName = regexp.MustCompile(`^[0-9A-Za-z_.-]{1,100}$`)
)

// tells are the actions upon a pull request after which to look at it: GitHub's,
// and those that Forgejo calls otherwise. All others change nothing for us.
var tells = map[string]bool{
	"opened": true, "reopened": true, "closed": true, "edited": true, "synchronize": true,
	"labeled": true, "unlabeled": true, "converted_to_draft": true, "ready_for_review": true,
	"synchronized": true, "label_updated": true, "label_cleared": true,
}

// payload is what we read of a delivery's body.
type payload struct {
	Action     string
	Number     int64
	Ref        string
	Repository struct {
		FullName string `json:"full_name"`
	}
	Issue struct {
		Number      int64
		PullRequest json.RawMessage `json:"pull_request"`
	}
	IsPull bool `json:"is_pull"`
}

// Parse reads a delivery that was verified. An Event without a Kind says nothing
// to us, and is no error.
func Parse(h http.Header, body []byte) (Event, error) {
	e := Event{
		ID:   first(h, "X-GitHub-Delivery", "X-Forgejo-Delivery", "X-Gitea-Delivery"),
		Kind: first(h, "X-GitHub-Event", "X-Forgejo-Event", "X-Gitea-Event"),
	}
	if !deliveryID.MatchString(e.ID) {
		return Event{}, fmt.Errorf("the delivery has no proper id in X-GitHub-Delivery: %.70q", e.ID)
	}
	if !eventKind.MatchString(e.Kind) {
		return Event{}, fmt.Errorf("the delivery has no proper event in X-GitHub-Event: %.70q", e.Kind)
	}
	if media, _, _ := mime.ParseMediaType(h.Get("Content-Type")); media != "application/json" {
		return Event{}, fmt.Errorf("the delivery is %.70q: set the webhook's content type to application/json", h.Get("Content-Type"))
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return Event{}, fmt.Errorf("read the delivery %s: %w", e.ID, err)
	}
	if err := p.fill(&e); err != nil {
		return Event{}, fmt.Errorf("delivery %s, %s: %w", e.ID, e.Kind, err)
	}
	return e, nil
}

// fill puts in where to look, or takes the kind away.
func (p *payload) fill(e *Event) error {
	var err error
	switch e.Kind {
	case EventPing:
		return nil // of an organisation or an app it names no repository
	case EventPullRequest:
		if !tells[p.Action] {
			e.Kind = ""
			return nil
		}
		e.PullRequest, err = pullRequestNumber(p.Number)
	case EventComment:
		if !p.IsPull && (len(p.Issue.PullRequest) == 0 || string(p.Issue.PullRequest) == "null") {
			e.Kind = ""
			return nil
		}
		e.PullRequest, err = pullRequestNumber(p.Issue.Number)
	case EventPush:
		branch, ok := strings.CutPrefix(p.Ref, "refs/heads/")
		if !ok { // a tag
			e.Kind = ""
			return nil
		}
		e.Branch, err = branch, checkBranch(branch)
	default:
		e.Kind = ""
		return nil
	}
	if err != nil {
		return err
	}
	e.Repository, err = ParseRepository(p.Repository.FullName)
	return err
}

// ParseRepository reads OWNER/NAME.
func ParseRepository(s string) (Repository, error) {
	owner, name, _ := strings.Cut(s, "/")
	r := Repository{Owner: owner, Name: name}
	if err := r.Validate(); err != nil {
		return Repository{}, err
	}
	return r, nil
}

// Validate reports whether a forge could have such a repository.
func (r Repository) Validate() error {
	if !accountName.MatchString(r.Owner) || !repositoryName.MatchString(r.Name) || strings.Trim(r.Name, ".") == "" || strings.HasSuffix(r.Name, ".git") {
		return fmt.Errorf("%.210q is not the name of a repository: OWNER/NAME", r.String())
	}
	return nil
}

func pullRequestNumber(n int64) (int, error) {
	if n < 1 || n > maxNumber {
		return 0, fmt.Errorf("%d is not the number of a pull request", n)
	}
	return int(n), nil
}

// checkBranch refuses what no forge calls a branch. What git accepts is more
// than we want to see anywhere: control characters never get further.
func checkBranch(s string) error {
	if s == "" || len(s) > maxBranch || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("it names no proper branch")
	}
	return nil
}
