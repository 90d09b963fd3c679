package webhook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

const (
	maxMessage  = 1000     // bytes of what the host says
	maxLog      = 12 << 10 // bytes of a log's end: three times as much still fits a comment
	maxLogLines = 60
)

// news is what people are told of a pull request's preview. All that an author
// may have had a hand in — messages, logs, names — is only ever shown as code.
type news struct {
	// state of the preview.
	state newsState
	// title is a line of ours.
	title string
	// commit that it is about, in full; empty: none.
	commit string
	// url of what can be seen now; empty: nothing.
	url string
	// why is what the host says.
	why string
	// next is a line of ours: what happens next.
	next string
	// took is how long the commit was set up; 0: unknown.
	took time.Duration
	// log is the end of a failed attempt's.
	log []string
}

type newsState string

const (
	newsGone   newsState = "gone"   // or never there: nobody is told who was not told before
	newsWaits  newsState = "waits"  // for people or for room
	newsMaking newsState = "making" // under way
	newsReady  newsState = "ready"
	newsFailed newsState = "failed"
	newsStops  newsState = "stopped"
)

// deployment is the state's word in GitHub's.
func (s newsState) deployment() forge.DeploymentState {
	switch s {
	case newsMaking:
		return forge.DeploymentInProgress
	case newsReady:
		return forge.DeploymentSuccess
	case newsFailed:
		return forge.DeploymentFailure
	}
	return forge.DeploymentInactive
}

// newsOf an outcome. It is pure, and says nothing that changes by itself: the
// steps on the way to a preview are one piece of news.
func newsOf(o Outcome) news {
	n := news{commit: o.Commit}
	if !o.Shown() {
		n.state, n.title, n.why = newsGone, "No preview", o.Message
		if o.State == StateWaiting || o.State == StateUnapproved || o.State == StateTaken {
			n.state, n.title = newsWaits, "No preview yet"
		}
		return n
	}
	n.state, n.title = newsMaking, "The preview is being made"
	if o.Item == nil {
		return n
	}
	status := o.Item.Status
	done, url := "", ""
	if status.Setup != nil {
		done = status.Setup.Done
	}
	if len(status.URLs) > 0 {
		url = status.URLs[0]
	}
	if serves := slices.Contains([]v1alpha1.Phase{v1alpha1.PhaseReady, v1alpha1.PhaseDegraded, v1alpha1.PhaseAsleep}, status.Phase); serves && done != "" && done != o.Commit {
		n.url = url // of the commit before
	}
	if !asked(o) {
		return n
	}
	trouble := worst(status)
	switch status.Phase {
	case v1alpha1.PhaseReady, v1alpha1.PhaseAsleep: // that it sleeps is nothing to read: who opens it wakes it
		switch {
		case status.Setup == nil || done == o.Commit:
			n.state, n.title, n.url, n.took = newsReady, "The preview is ready", url, took(status.Setup)
		case status.Phase == v1alpha1.PhaseAsleep:
			n.state, n.title, n.why = newsWaits, "The preview sleeps", "nobody asks for it; it shows this commit when somebody opens it"
		}
	case v1alpha1.PhaseDisabled, v1alpha1.PhasePaused, v1alpha1.PhaseExpired:
		n.state, n.title, n.why = newsStops, "The preview is stopped", reasonOf(trouble)
	case v1alpha1.PhaseFailed, v1alpha1.PhaseRejected, v1alpha1.PhaseDegraded:
		if trouble.UnderWay() {
			break // the commit before serves meanwhile
		}
		n.state, n.title, n.why, n.log = newsFailed, "The preview failed", reasonOf(trouble), failedLog(status)
		if !trouble.NextRetry.IsZero() {
			n.next = "It is tried again by itself."
		}
	}
	return n
}

// asked reports whether the daemon has read what is asked of it now.
func asked(o Outcome) bool {
	raw, err := json.Marshal(o.Item.Spec)
	var s struct {
		Commit  string
		Rebuild int
	}
	return err == nil && json.Unmarshal(raw, &s) == nil && s.Commit == o.Commit && s.Rebuild == o.Rebuilds &&
		o.Item.Status.ObservedGeneration >= o.Item.Metadata.Generation
}

// worst is the condition that says why it is not well: the one that Ready tells,
// or what it leaves out.
func worst(s v1alpha1.Status) v1alpha1.Condition {
	var ready v1alpha1.Condition
	for _, c := range s.Conditions {
		if c.Type == v1alpha1.ConditionReady && c.Status == v1alpha1.ConditionFalse {
			return c
		}
	}
	for _, c := range s.Conditions {
		if !c.Good() && c.Type != v1alpha1.ConditionLimitsEnforced && c.Type != v1alpha1.ConditionHostServices && ready.Type == "" {
			ready = c
		}
	}
	return ready
}

func reasonOf(c v1alpha1.Condition) string {
	return strings.Trim(c.Reason+": "+c.Message, ": ")
}

func took(s *v1alpha1.SetupStatus) time.Duration {
	if s == nil || s.Running || s.StartedAt.IsZero() || s.EndedAt.Before(s.StartedAt) {
		return 0
	}
	return s.EndedAt.Sub(s.StartedAt).Round(time.Second)
}

func failedLog(s v1alpha1.Status) []string {
	if s.Setup != nil && len(s.Setup.Log) > 0 {
		return s.Setup.Log
	}
	if s.Build != nil {
		return s.Build.Log
	}
	return nil
}

// same is what tells news apart. How long it took is none: a preview that wakes,
// or is started again, is set up anew, and the comment stays as it was.
func (n news) same(marker string, withLog bool) string {
	n.took = 0
	return n.render(marker, withLog)
}

// render is the comment.
func (n news) render(marker string, withLog bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n**%s**", marker, n.title)
	if n.commit != "" {
		fmt.Fprintf(&b, " · commit %s", code(n.commit[:min(len(n.commit), 12)]))
	}
	if n.took > 0 {
		fmt.Fprintf(&b, " · took %s", n.took)
	}
	b.WriteString("\n")
	if n.url != "" {
		lead := ""
		if n.state != newsReady {
			lead = "Meanwhile there is what was before: "
		}
		fmt.Fprintf(&b, "\n%s%s\n", lead, link(n.url))
	}
	if n.why != "" {
		fmt.Fprintf(&b, "\n%s\n", code(shortenedTo(n.why, maxMessage)))
	}
	if n.next != "" {
		fmt.Fprintf(&b, "\n%s\n", n.next)
	}
	if log := tail(n.log); log != "" && withLog {
		fmt.Fprintf(&b, "\n<details><summary>The end of the log</summary>\n\n%s\n\n</details>\n", fence(log))
	}
	return b.String()
}

// plainURL is what a link may be without any character that means something to
// Markdown or HTML.
var plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]{0,200})?$`)

// link is a URL that can be followed, or code if it is none.
func link(u string) string {
	if plainURL.MatchString(u) {
		return "<" + u + ">"
	}
	return code(u)
}

// code is a span of code that holds a text in one line, whatever is in it.
func code(s string) string {
	s = strings.Join(strings.Fields(visible(s)), " ")
	s = cmp.Or(s, "–")
	ticks := strings.Repeat("`", longestRun(s)+1)
	return ticks + " " + s + " " + ticks
}

// fence is a block of code that holds a text, whatever is in it.
func fence(s string) string {
	ticks := strings.Repeat("`", max(longestRun(s)+1, 3))
	return ticks + "text\n" + s + "\n" + ticks
}

// longestRun of backticks.
func longestRun(s string) int {
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest
}

// tail of a log that fits.
func tail(log []string) string {
	log = log[max(len(log)-maxLogLines, 0):]
	s := strings.TrimSpace(visible(strings.Join(log, "\n")))
	if len(s) > maxLog {
		s = s[len(s)-maxLog:]
		for !utf8.RuneStart(s[0]) {
			s = s[1:]
		}
	}
	return s
}

var escapeSequence = regexp.MustCompile(`\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)`)

// visible leaves out colours, control characters, and what turns text around or hides it.
func visible(s string) string {
	s = escapeSequence.ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), "")
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) || r == '\u2028' || r == '\u2029' {
			return -1
		}
		return r
	}, s)
}

func shortenedTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
