package webhook

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

var (
	commitA = strings.Repeat("a", 40)
	commitB = strings.Repeat("b", 40)
)

func said(bodies ...string) []forge.Comment {
	var out []forge.Comment
	for i, body := range bodies {
		out = append(out, forge.Comment{ID: int64(i + 1), Author: "ann", Body: body, Created: time.Unix(int64(i), 0)})
	}
	return out
}

func TestDecide(t *testing.T) {
	type policy = v1alpha1.PullRequestPolicy
	open := forge.PullRequest{Number: 1, Open: true, Base: "main", Commit: commitA}
	with := func(change func(*forge.PullRequest)) forge.PullRequest {
		pr := open
		change(&pr)
		return pr
	}
	fork := with(func(pr *forge.PullRequest) { pr.Fork = true })
	closed := with(func(pr *forge.PullRequest) { pr.Open = false })
	draft := with(func(pr *forge.PullRequest) { pr.Draft = true })
	labeled := with(func(pr *forge.PullRequest) { pr.Labels = []string{"ui", "preview"} })
	release := with(func(pr *forge.PullRequest) { pr.Base = "release/1.x/fixes" })
	for name, tt := range map[string]struct {
		policy   policy
		pr       forge.PullRequest
		comments []string
		want     State
	}{
		"open":                                   {policy{}, open, nil, StateShown},
		"closed":                                 {policy{}, closed, nil, StateClosed},
		"closed, whatever was said":              {policy{}, closed, []string{"/preview"}, StateClosed},
		"base":                                   {policy{Bases: []string{"develop", "release/*"}}, open, nil, StateBase},
		"base by pattern":                        {policy{Bases: []string{"develop", "release/*"}}, release, nil, StateShown},
		"pattern in the middle":                  {policy{Bases: []string{"release/*/fixes"}}, release, nil, StateShown},
		"pattern is no expression":               {policy{Bases: []string{"release.1.x.fixes"}}, release, nil, StateBase},
		"draft":                                  {policy{}, draft, nil, StateDraft},
		"drafts too":                             {policy{Drafts: true}, draft, nil, StateShown},
		"label missing":                          {policy{Label: "preview"}, open, nil, StateLabel},
		"label":                                  {policy{Label: "preview"}, labeled, nil, StateShown},
		"down":                                   {policy{}, open, []string{"/preview down"}, StateDown},
		"down and up":                            {policy{}, open, []string{"/preview down", "/preview"}, StateShown},
		"up and down in one comment":             {policy{}, open, []string{"/preview\n/preview down"}, StateDown},
		"unasked":                                {policy{Trigger: "Comment"}, open, []string{"nice"}, StateUnasked},
		"asked":                                  {policy{Trigger: "Comment"}, open, []string{"nice", "/preview"}, StateShown},
		"a rebuild asks for none":                {policy{Trigger: "Comment"}, open, []string{"/preview rebuild"}, StateUnasked},
		"fork, never":                            {policy{}, fork, []string{"/preview approve " + commitA}, StateFork},
		"fork, not approved":                     {policy{Forks: "Approved"}, fork, []string{"/preview"}, StateUnapproved},
		"fork, another commit approved":          {policy{Forks: "Approved"}, fork, []string{"/preview approve " + commitB}, StateUnapproved},
		"fork, approved before others":           {policy{Forks: "Approved"}, fork, []string{"/preview approve " + commitA, "/preview approve " + commitB}, StateShown},
		"fork, part of a commit":                 {policy{Forks: "Approved"}, fork, []string{"/preview approve " + commitA[:12]}, StateUnapproved},
		"fork, approved and down":                {policy{Forks: "Approved"}, fork, []string{"/preview approve " + commitA, "/preview down"}, StateDown},
		"fork, an approval is not asking for it": {policy{Forks: "Approved", Trigger: "Comment"}, fork, []string{"/preview approve " + commitA}, StateUnasked},
	} {
		v := Decide(tt.policy, tt.pr, Commands(said(tt.comments...)))
		if v.State != tt.want || v.Shown() != (v.Message == "") || v.Commit != commitA || v.Fork != tt.pr.Fork {
			t.Errorf("%s: %+v, want %s", name, v, tt.want)
		}
		if early := Excluded(tt.policy, tt.pr); early.State != "" && early != v {
			t.Errorf("%s: without the comments %+v, with them %+v", name, early, v)
		}
	}
	v := Decide(policy{}, open, Commands(said("/preview rebuild\n/preview rebuild", "/preview", "/preview rebuild")))
	if v.Rebuilds != 3 || v.Asked != 1 {
		t.Errorf("counted %+v", v)
	}
}

func TestCommands(t *testing.T) {
	up, down := Command{Author: "ann"}, Command{Author: "ann", Verb: VerbDown}
	for name, tt := range map[string]struct {
		body string
		want []Command
	}{
		"line of its own":          {"Looks good.\n\n/preview\n", []Command{up}},
		"end of lines as in forms": {"/preview down\r\n/preview\r\n", []Command{down, up}},
		"trailing blanks":          {"/preview \t\n", []Command{up}},
		"tabs":                     {"/preview\tdown", []Command{down}},
		"approve":                  {"/preview approve " + commitB, []Command{{Author: "ann", Verb: VerbApprove, Commit: commitB}}},
		"within a line":            {"say /preview down to end it", nil},
		"more words":               {"/preview down please", nil},
		"another word":             {"/previews", nil},
		"upper case":               {"/Preview", nil},
		"indented":                 {"    /preview down", nil},
		"quoted":                   {"> /preview down", nil},
		"block of code":            {"```sh\n/preview down\n```\n/preview", []Command{up}},
		"longer fence":             {"````\n```\n/preview down\n````\n/preview", []Command{up}},
		"other fence inside":       {"```\n~~~\n/preview down\n```\n", nil},
		"fence without an end":     {"~~~\n/preview down", nil},
		"code in a line":           {"``` x ```\n/preview", []Command{up}},
		"code, then a block":       {"``` x ```\n\n````text\n/preview down\n````\n", nil},
		"no end of a block":        {"```\n```text\n/preview down\n```\n/preview", []Command{up}},
		"indented end of a block":  {"```\n    ```\n/preview down\n```\n/preview", []Command{up}},
		"ticks after tildes":       {"~~~ `x`\n/preview down\n~~~", nil},
		"of another host":          {testMarker[:len(testMarker)-3] + "b -->\n/preview down", nil},
		"part of a commit":         {"/preview approve abcdef0", nil},
		"commit in upper case":     {"/preview approve " + strings.ToUpper(commitB), nil},
	} {
		if diff := cmp.Diff(tt.want, Commands(said(tt.body))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestCommandsInOrder: by when they were written, whatever order they come in.
func TestCommandsInOrder(t *testing.T) {
	comments := said("/preview down", "/preview", "/preview rebuild")
	want := Commands(comments)
	comments[0], comments[2] = comments[2], comments[0]
	if diff := cmp.Diff(want, Commands(comments)); diff != "" {
		t.Error(diff)
	}
	comments[1].Ours = true
	if got := Commands(comments); len(got) != 2 {
		t.Errorf("what we have written ourselves counts: %v", got)
	}
}

// TestNewsCommandNothing: what we write of messages and logs commands no other host,
// whatever is in them, also when its marker is lost.
func TestNewsCommandNothing(t *testing.T) {
	for _, s := range append(evil, "``", "```", "x ``` y") {
		n := news{state: newsFailed, title: "x", why: s, log: []string{s, "/preview down", s, "/preview"}}
		for _, marker := range []string{testMarker, ""} {
			if got := Commands(said(n.render(marker, true))); got != nil {
				t.Errorf("%.50q: %v", s, got)
			}
		}
	}
}

func FuzzCommands(f *testing.F) {
	f.Add("/preview down\n```\n/preview\n```", "main*", "main")
	f.Fuzz(func(t *testing.T, body, pattern, branch string) {
		for _, c := range Commands(said(body)) {
			line := "/preview"
			if c.Verb != VerbUp {
				line += " " + string(c.Verb)
			}
			if !strings.Contains(strings.ReplaceAll(body, "\t", " "), "/preview") || c.Verb == VerbApprove && !strings.Contains(body, c.Commit) {
				t.Errorf("%q asks for %s", body, line)
			}
		}
		if !matchBranch(strings.ReplaceAll(branch, "*", "")+"*", strings.ReplaceAll(branch, "*", "")) {
			t.Errorf("%q does not match itself", branch)
		}
		matchBranch(pattern, branch)
	})
}

func ExampleDecide() {
	pr := forge.PullRequest{Number: 7, Open: true, Base: "main", Fork: true, Commit: strings.Repeat("c", 40)}
	v := Decide(v1alpha1.PullRequestPolicy{Forks: "Approved"}, pr, nil)
	fmt.Println(v.State)
	// Output: Unapproved
}
