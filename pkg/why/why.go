// Package why says in words for people what an object lacks: which condition is to
// blame, since when, what happens next, and which command helps. The command line
// and the status page tell the same with it. It is pure.
package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

// Of is one paragraph: state, cause, since when, what happens next, what helps.
func Of(item v1alpha1.Item, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is %s", item.Ref(), item.Status.Phase)
	c := Cause(item)
	since := c
	if c != nil && c.Stale() { // it has held all the time
		since = Condition(item, v1alpha1.ConditionReady)
	}
	asleep := item.Status.Phase == v1alpha1.PhaseAsleep
	if asleep {
		fmt.Fprintf(&b, " since %s", terminal.Since(item.Status.AsleepSince, now))
	} else if since != nil && !since.LastTransitionTime.IsZero() {
		fmt.Fprintf(&b, " since %s", terminal.Since(since.LastTransitionTime, now))
	}
	if c != nil && (trouble(*c) || asleep) {
		fmt.Fprintf(&b, ": %s", joined(", ", c.Reason, strings.TrimSuffix(c.Message, ".")))
	}
	if at := item.Status.ExpiresAt; !at.IsZero() && item.Status.Phase != v1alpha1.PhaseExpired {
		fmt.Fprintf(&b, ". Its ttl is over %s", terminal.Until(at, now))
	}
	fmt.Fprintf(&b, ". Next step: %s.", Next(item, now))
	return b.String()
}

// Condition of the type, or nil.
func Condition(item v1alpha1.Item, kind string) *v1alpha1.Condition {
	for i, c := range item.Status.Conditions {
		if strings.EqualFold(c.Type, kind) {
			return &item.Status.Conditions[i]
		}
	}
	return nil
}

// trouble reports whether a condition says that something is not as it should be.
func trouble(c v1alpha1.Condition) bool { return !c.Good() || c.Stale() }

// Cause is the condition that says most about why an object is as it is: the
// first that is stale of what is Ready, else the first that is not good, else Ready.
func Cause(item v1alpha1.Item) *v1alpha1.Condition {
	if item.Status.Phase == v1alpha1.PhaseAsleep && held(item) == nil { // that it is stopped is as it should be
		return Condition(item, v1alpha1.ConditionReady)
	}
	if item.Status.Phase == v1alpha1.PhaseReady && held(item) == nil {
		if i := slices.IndexFunc(item.Status.Conditions, v1alpha1.Condition.Stale); i >= 0 {
			return &item.Status.Conditions[i]
		}
	}
	for i, c := range item.Status.Conditions {
		if c.Type != v1alpha1.ConditionReady && !c.Good() && c.Status != v1alpha1.ConditionUnknown {
			return &item.Status.Conditions[i]
		}
	}
	for i, c := range item.Status.Conditions {
		if c.Type != v1alpha1.ConditionReady && !c.Good() {
			return &item.Status.Conditions[i]
		}
	}
	return Condition(item, v1alpha1.ConditionReady)
}

// held says that an object runs on although its document is gone. Its phase is
// that of what runs.
func held(item v1alpha1.Item) *v1alpha1.Condition {
	if c := Condition(item, v1alpha1.ConditionHeld); c != nil && c.Status == v1alpha1.ConditionTrue {
		return c
	}
	return nil
}

// Reason is what the table shows of the cause; nothing while all is well.
func Reason(item v1alpha1.Item) string {
	c := Cause(item)
	if c == nil || !trouble(*c) {
		return ""
	}
	if b := item.Status.Build; b != nil && b.Running && c.Reason == string(v1alpha1.PhaseBuilding) {
		// What is built, n of m: whoever watches sees it get on.
		return joined(" ", c.Reason, counted(*b), strings.Join(b.Building, ","))
	}
	if s := item.Status.Setup; s != nil && s.Running && c.Type != v1alpha1.ConditionAnswered {
		return joined(" ", c.Reason, s.Phase)
	}
	return c.Reason
}

// counted is how much of a build is done, "" while Nix does not know.
func counted(b v1alpha1.BuildStatus) string {
	if b.Expected == 0 {
		return b.Phase
	}
	return fmt.Sprintf("%d/%d", b.Done, b.Expected)
}

// Next says what the user can do about an object, or that there is nothing to do.
func Next(item v1alpha1.Item, now time.Time) string {
	ref, file := item.Ref(), item.Metadata.Source.File
	if p := item.Status.Phase; p == v1alpha1.PhaseReady || p.Resting() {
		if c := held(item); c != nil {
			return conditionStep(item, *c)
		}
	}
	switch item.Status.Phase {
	case v1alpha1.PhaseReady:
		if c := Cause(item); c != nil && c.Stale() {
			return withRetry(conditionStep(item, *c), *c, now)
		}
		if c := Condition(item, v1alpha1.ConditionExpiring); c != nil {
			return "none needed if it may go; else make spec.ttl longer in " + file
		}
		if len(item.Status.URLs) > 0 {
			return "none needed; open " + item.Status.URLs[0]
		}
		return "none needed; it is as its spec says"
	case v1alpha1.PhaseRejected:
		return correct(item.Metadata.Source)
	case v1alpha1.PhaseAsleep:
		return "none needed; the next request wakes it, or: tekton restart " + ref.String()
	case v1alpha1.PhaseExpired:
		return "remove it from " + file + ", or make spec.ttl longer there to start it again; its data is kept until then"
	case v1alpha1.PhaseDisabled:
		return "set spec.enabled: true in " + file + " to start it; its data is kept"
	case v1alpha1.PhasePaused:
		return "set spec.paused: false in " + file + " to let tekton work on it again"
	case v1alpha1.PhaseDeleting:
		return "none needed; tekton wait --for=delete " + ref.String() + " waits for its end"
	}
	c := Cause(item)
	if c == nil || c.Good() {
		return "wait: tekton wait --for=condition=Ready " + ref.String()
	}
	return withRetry(conditionStep(item, *c), *c, now)
}

// withRetry adds to a step when tekton takes the next one by itself.
func withRetry(step string, c v1alpha1.Condition, now time.Time) string {
	if !c.NextRetry.IsZero() {
		step += "; tekton tries again by itself " + terminal.Until(c.NextRetry, now)
	}
	return step
}

// ofCommit is what stands before the path of a file in a commit.
var ofCommit = regexp.MustCompile("^[0-9a-f]{12}:")

// correct says where to mend a spec, and how to check it before that is seen.
func correct(at v1alpha1.SourcePosition) string {
	return fmt.Sprintf("correct %s:%d; tekton validate %s checks it offline", at.File, at.Line, ofCommit.ReplaceAllString(at.File, ""))
}

func conditionStep(item v1alpha1.Item, c v1alpha1.Condition) string {
	ref, source := item.Ref(), item.Metadata.Source
	switch c.Reason {
	case "SecretMissing":
		return "set the secret that is missing: tekton secret set NAME < FILE"
	case "SourcePolicy":
		return fmt.Sprintf("source %s does not allow this: change %s:%d, or spec.sources of the Host", source.Name, source.File, source.Line)
	case "ProbeFailed":
		if strings.HasSuffix(c.Message, "connection refused") {
			return "let the program listen on that port of all addresses, not of 127.0.0.1 alone, or correct the port in " + source.File + "; see what it says: tekton logs " + ref.String()
		}
	case "RouteConflict", "PortConflict":
		return fmt.Sprintf("change one of the two; this one is in %s:%d", source.File, source.Line)
	case "Retrying":
		return "none needed before that attempt has ended"
	case "CertificateExpires":
		return "renew its files, or see why Caddy does not get another one: its log is in services/caddy below the state directory"
	case "DataConflict":
		return "decide whose data it is: tekton data list"
	}
	switch c.Type {
	case v1alpha1.ConditionBuilt:
		return "see what it says: tekton logs " + ref.String() + " --build"
	case v1alpha1.ConditionSetUp:
		return "see what it says: tekton logs " + ref.String() + " --setup"
	case v1alpha1.ConditionSpecValid:
		return correct(source)
	case v1alpha1.ConditionHeld:
		return "bring its file back, or let the deletion happen: tekton release-deletes " + source.Name
	case v1alpha1.ConditionRolledBack:
		return fmt.Sprintf("the previous instance serves; see why the new one did not: tekton logs %s --previous, then correct %s:%d", ref, source.File, source.Line)
	case v1alpha1.ConditionStarted, v1alpha1.ConditionAnswered:
		return "see what it says: tekton logs " + ref.String()
	}
	if c.Status == v1alpha1.ConditionUnknown {
		return "wait: tekton wait --for=condition=Ready " + ref.String()
	}
	return fmt.Sprintf("do what it says; its document is %s:%d", source.File, source.Line)
}

// joined are the parts that there are.
func joined(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}
