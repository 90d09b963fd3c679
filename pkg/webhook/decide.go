package webhook

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// State is that of a pull request: it has a preview, or why it has none.
type State string

// States.
const (
	StateShown      State = "Shown"      // it has a preview
	StateClosed     State = "Closed"     // it is not open
	StateBase       State = "Base"       // its base branch has no previews
	StateDraft      State = "Draft"      // it is not ready for review
	StateLabel      State = "Label"      // it lacks the label
	StateFork       State = "Fork"       // forks have no previews here
	StateUnapproved State = "Unapproved" // its commit waits for an approval
	StateUnasked    State = "Unasked"    // it waits for /preview
	StateDown       State = "Down"       // somebody said /preview down
	StateWaiting    State = "Waiting"    // there are as many previews as there may be
	StateTaken      State = "Taken"      // its preview was deleted on the host
	StateNoPolicy   State = "NoPolicy"   // the host has no such Repository any more
)

// Verdict is what a pull request ought to have.
type Verdict struct {
	// State of it.
	State State
	// Message for people, one sentence in lower case. It holds nothing that an
	// author has written but a full commit.
	Message string
	// Commit that the preview shows, in full.
	Commit string
	// Fork says that it is of a fork: the preview gets no grants.
	Fork bool
	// Rebuilds is how often a rebuild was asked for.
	Rebuilds int
	// Asked is how often a preview was asked for.
	Asked int
	// Opened is how old the pull request is: the oldest go first.
	Opened time.Time
}

// Shown reports whether there ought to be a preview.
func (v Verdict) Shown() bool { return v.State == StateShown }

// Excluded says why a pull request has no preview whatever its comments say;
// with no State, they decide.
func Excluded(p v1alpha1.PullRequestPolicy, pr forge.PullRequest) Verdict {
	none := func(state State, format string, args ...any) Verdict {
		return Verdict{State: state, Message: fmt.Sprintf(format, args...), Commit: pr.Commit, Fork: pr.Fork, Opened: pr.Opened}
	}
	switch {
	case !pr.Open:
		return none(StateClosed, "the pull request is closed")
	case len(p.Bases) > 0 && !slices.ContainsFunc(p.Bases, func(pattern string) bool { return matchBranch(pattern, pr.Base) }):
		return none(StateBase, "pull requests for this branch have no previews, only those for: %s", strings.Join(p.Bases, ", "))
	case pr.Draft && !p.Drafts:
		return none(StateDraft, "the pull request is a draft")
	case p.Label != "" && !slices.Contains(pr.Labels, p.Label):
		return none(StateLabel, "the pull request does not have the label %s", p.Label)
	case pr.Fork && p.Forks != v1alpha1.ForksApproved:
		return none(StateFork, "pull requests from forks have no previews")
	}
	return Verdict{}
}

// needsCommand reports whether a pull request has a preview only when somebody
// has said so.
func needsCommand(p v1alpha1.PullRequestPolicy, pr forge.PullRequest) bool {
	return p.Trigger == v1alpha1.TriggerComment || pr.Fork
}

// Decide says what a pull request ought to have. The commands are those of
// users with write access, oldest first. It is pure: the same truth, the same
// verdict, whatever happened on the way.
func Decide(p v1alpha1.PullRequestPolicy, pr forge.PullRequest, commands []Command) Verdict {
	if v := Excluded(p, pr); v.State != "" {
		return v
	}
	v := Verdict{Commit: pr.Commit, Fork: pr.Fork, Opened: pr.Opened}
	wanted, approved := p.Trigger != v1alpha1.TriggerComment, false
	for _, c := range commands {
		switch c.Verb {
		case VerbUp:
			wanted = true
			v.Asked++
		case VerbDown:
			wanted = false
		case VerbRebuild:
			v.Rebuilds++
		case VerbApprove:
			approved = approved || c.Commit == pr.Commit
		}
	}
	switch down := slices.ContainsFunc(commands, func(c Command) bool { return c.Verb == VerbDown }); {
	case !wanted && down:
		v.State, v.Message = StateDown, "somebody said /preview down; /preview brings it back"
	case !wanted:
		v.State, v.Message = StateUnasked, "it waits for /preview by somebody with write access"
	case pr.Fork && !approved:
		v.State, v.Message = StateUnapproved, "it is of a fork: somebody with write access has to approve each commit: /preview approve "+pr.Commit
	default:
		v.State = StateShown
	}
	return v
}

// matchBranch reports whether a branch matches a pattern, whose "*" stands for
// any part of a name.
func matchBranch(pattern, branch string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(branch, parts[0])
	if len(parts) == 1 {
		return ok && rest == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		var found bool
		_, rest, found = strings.Cut(rest, part)
		ok = ok && found
	}
	return ok && strings.HasSuffix(rest, parts[len(parts)-1])
}
