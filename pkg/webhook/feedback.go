package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/go-logr/logr"

	"tekton.host/pkg/forge"
	"tekton.host/pkg/host"
)

// FeedbackOptions of a Feedback.
type FeedbackOptions struct {
	// State is a directory of our own. // required
	State string
	// Instance names this host among several that tell of the same pull requests
	// with the same account. // optional
	Instance string
	// NoLogs leaves the ends of logs out of comments.
	NoLogs bool
	// Log of what changed. // optional
	Log logr.Logger
}

// Feedback is the Teller that keeps one comment a pull request, which it edits
// in place, and on GitHub a deployment. What it has told is kept on disk; where
// that is lost, the comment is found by its author and its marker. A comment that
// somebody deletes is not written again.
type Feedback struct {
	o      FeedbackOptions
	dir    string
	marker string
}

var _ Teller = (*Feedback)(nil)

// markerBegin begins the comments of every host of ours.
const markerBegin = "<!-- tekton-preview"

var instanceName = regexp.MustCompile(`^[0-9A-Za-z.-]{0,100}$`)

// checkInstance refuses what would end the marker of a comment.
func checkInstance(s string) error {
	if !instanceName.MatchString(s) || strings.Contains(s, "--") {
		return errors.New("must be letters, digits, dots and single dashes, at most 100")
	}
	return nil
}

// NewFeedback opens the directory.
func NewFeedback(o FeedbackOptions) (*Feedback, error) {
	if err := checkInstance(o.Instance); err != nil {
		return nil, fmt.Errorf("%.120q cannot name an instance: %w", o.Instance, err)
	}
	f := &Feedback{o: o, dir: filepath.Join(o.State, "told"), marker: strings.TrimSpace(markerBegin+" "+o.Instance) + " -->"}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of what was told: %w", err)
	}
	return f, nil
}

// told is what a forge was told of a pull request.
type told struct {
	Key Key `json:"key"`
	// State and Want that it was told of.
	State newsState `json:"state,omitempty"`
	Want  string    `json:"want,omitempty"`
	// Comment of ours, 0: none, and the digest of its text, without how long it took.
	Comment int64  `json:"comment,omitempty"`
	Text    string `json:"text,omitempty"`
	// Deleted is a comment that somebody does not want.
	Deleted bool `json:"deleted,omitempty"`
	// Page of the pull request, for people.
	Page string `json:"page,omitempty"`
	// Environment of the deployment, and the digest of what it says.
	Environment string `json:"environment,omitempty"`
	Deployment  string `json:"deployment,omitempty"`
}

// wanted is what a preview is made for: news of the way there are no news after
// those of the end.
func wanted(o Outcome) string { return fmt.Sprintf("%s %d %d", o.Commit, o.Rebuilds, o.Asked) }

// Text implements Teller.
func (f *Feedback) Text(o Outcome) string {
	n := newsOf(o)
	return strings.Join([]string{string(n.state), wanted(o), o.Preview, n.same(f.marker, !f.o.NoLogs)}, "\n")
}

// Tell implements Teller.
func (f *Feedback) Tell(ctx context.Context, c forge.Client, k Key, o Outcome) error {
	t, err := f.read(k)
	if err != nil {
		return err
	}
	n := newsOf(o)
	if n.state == newsMaking && t.Want == wanted(o) && (t.State == newsMaking || t.State == newsReady || t.State == newsFailed) {
		return nil // it goes on, is being repaired, or tried again: how that ends is news
	}
	err = errors.Join(f.may(k, f.comment(ctx, c, &t, n)), f.may(k, f.deploy(ctx, c, &t, n, o.Preview)))
	if err == nil && o.State == StateClosed {
		return f.forget(k)
	}
	if err == nil {
		t.State, t.Want = n.state, wanted(o)
	}
	return errors.Join(err, f.write(t))
}

// may leaves out an error that another try does not change: what we may not do,
// and what is not there any more.
func (f *Feedback) may(k Key, err error) error {
	if errors.Is(err, forge.ErrRefused) || errors.Is(err, forge.ErrNotFound) {
		f.o.Log.Info("a pull request is not told", "what", k.String(), "why", err.Error())
		return nil
	}
	return err
}

// comment writes or edits the one comment of ours. Others are never touched.
func (f *Feedback) comment(ctx context.Context, c forge.Client, t *told, n news) error {
	text, same := n.render(f.marker, !f.o.NoLogs), digestOf(n.same(f.marker, !f.o.NoLogs))
	if t.Deleted || t.Comment != 0 && t.Text == same {
		return nil
	}
	if t.Comment == 0 {
		found, err := f.find(ctx, c, t.Key)
		if err != nil {
			return err
		}
		if t.Comment = found.ID; found.ID == 0 && n.state == newsGone {
			return nil
		}
		if found.ID != 0 && found.Body == text {
			t.Text = same
			return f.write(*t)
		}
	}
	id, err := c.SetComment(ctx, t.Key.Repository, t.Key.Number, t.Comment, text)
	if t.Comment != 0 && errors.Is(err, forge.ErrNotFound) {
		return f.lost(ctx, c, t)
	}
	if err != nil {
		return fmt.Errorf("comment on %s: %w", t.Key, err)
	}
	t.Comment, t.Text = id, same
	return f.write(*t)
}

// find our comment, the first if there should be several.
func (f *Feedback) find(ctx context.Context, c forge.Client, k Key) (forge.Comment, error) {
	all, err := c.Comments(ctx, k.Repository, k.Number)
	if err != nil {
		return forge.Comment{}, fmt.Errorf("look for our comment on %s: %w", k, err)
	}
	for _, o := range all {
		if o.Ours && strings.HasPrefix(o.Body, f.marker) {
			return o, nil
		}
	}
	return forge.Comment{}, nil
}

// lost is a comment that is not found any more: deleted, if the others are.
func (f *Feedback) lost(ctx context.Context, c forge.Client, t *told) error {
	found, err := f.find(ctx, c, t.Key)
	if err != nil {
		return err
	}
	t.Comment, t.Text, t.Deleted = found.ID, "", found.ID == 0
	if !t.Deleted {
		return fmt.Errorf("our comment on %s is another one now: it is tried again", t.Key)
	}
	f.o.Log.Info("our comment was deleted, and is not written again", "what", t.Key.String())
	return f.write(*t)
}

// deploy shows the preview beside the pull request. That we may not is no trouble.
func (f *Feedback) deploy(ctx context.Context, c forge.Client, t *told, n news, preview string) error {
	d := forge.Deployment{Environment: t.Environment, Commit: n.commit, State: n.state.deployment(), URL: n.url, Description: n.title}
	if preview != "" {
		d.Environment = "preview/" + preview
	}
	if d.State != forge.DeploymentSuccess || !plainURL.MatchString(d.URL) {
		d.URL = ""
	}
	if d.Environment == "" {
		return nil // it never had one
	}
	if d.State != forge.DeploymentInactive && t.Comment != 0 {
		if t.Page == "" {
			pr, err := c.PullRequest(ctx, t.Key.Repository, t.Key.Number)
			if err != nil {
				return fmt.Errorf("ask for the page of %s: %w", t.Key, err)
			}
			t.Page = pr.URL
		}
		d.LogURL = fmt.Sprintf("%s#issuecomment-%d", t.Page, t.Comment)
	}
	said := digestOf(fmt.Sprint(d))
	if t.Deployment == said {
		return nil
	}
	if err := c.SetDeployment(ctx, t.Key.Repository, d); err != nil {
		return fmt.Errorf("show the deployment of %s: %w", t.Key, err)
	}
	t.Environment, t.Deployment = d.Environment, said
	return nil
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// file of a pull request: its name holds nothing that somebody else has chosen.
func (f *Feedback) file(k Key) string {
	return filepath.Join(f.dir, digestOf(strings.ToLower(k.String()))[:32]+".json")
}

// read what was told. What cannot be read was not told.
func (f *Feedback) read(k Key) (told, error) {
	raw, err := os.ReadFile(f.file(k))
	if errors.Is(err, fs.ErrNotExist) {
		return told{Key: k}, nil
	}
	if err != nil {
		return told{}, fmt.Errorf("read what was told: %w", err)
	}
	t := told{}
	if err := json.Unmarshal(raw, &t); err != nil {
		f.o.Log.Info("what was told cannot be read; the comment is looked for", "what", k.String(), "why", err.Error())
		t = told{}
	}
	t.Key = k
	return t, nil
}

func (f *Feedback) write(t told) error {
	raw, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(f.file(t.Key)); err == nil && string(old) == string(raw) {
		return nil
	}
	return host.WriteFile(f.file(t.Key), raw, 0o600)
}

// Told implements Teller. What cannot be read is of none that is known.
func (f *Feedback) Told() ([]Key, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("look for what was told: %w", err)
	}
	var keys []Key
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(f.dir, e.Name()))
		var t told
		if err == nil && json.Unmarshal(raw, &t) == nil && t.Key.Number != 0 {
			keys = append(keys, t.Key)
		}
	}
	return keys, nil
}

func (f *Feedback) forget(k Key) error {
	if err := os.Remove(f.file(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what was told: %w", err)
	}
	return nil
}
