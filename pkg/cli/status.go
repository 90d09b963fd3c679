package cli

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

// certificate is one line on a host's certificate.
func certificate(c v1alpha1.CertificateStatus) string {
	if c.NotAfter.IsZero() {
		return joined(", ", c.Host, "none yet", c.Message)
	}
	return joined(", ", c.Host, "expires "+c.NotAfter.Local().Format(time.DateOnly))
}

func condition(item v1alpha1.Item, kind string) *v1alpha1.Condition {
	for i, c := range item.Status.Conditions {
		if strings.EqualFold(c.Type, kind) {
			return &item.Status.Conditions[i]
		}
	}
	return nil
}

// cause is the condition that says most about why an object is as it is: the
// first that is not good, else Ready.
func cause(item v1alpha1.Item) *v1alpha1.Condition {
	if item.Status.Phase == v1alpha1.PhaseAsleep { // that it is stopped is as it should be
		return condition(item, v1alpha1.ConditionReady)
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
	return condition(item, v1alpha1.ConditionReady)
}

// reason is what the table shows of the cause; nothing while all is well.
func reason(item v1alpha1.Item) string {
	c := cause(item)
	if c == nil || c.Good() {
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

func (v view) phase(p v1alpha1.Phase) terminal.Cell {
	paint := v.Yellow
	switch p {
	case v1alpha1.PhaseReady:
		paint = v.Green
	case v1alpha1.PhaseFailed, v1alpha1.PhaseRejected:
		paint = v.Red
	case v1alpha1.PhaseDisabled, v1alpha1.PhasePaused, v1alpha1.PhaseDeleting, v1alpha1.PhaseExpired, v1alpha1.PhaseAsleep:
		paint = v.Faint
	}
	return terminal.Cell{Text: string(p), Paint: paint}
}

// nextStep says what the user can do about an object, or that there is nothing to do.
func nextStep(item v1alpha1.Item, now time.Time) string {
	ref, file := refOf(item), item.Metadata.Source.File
	switch item.Status.Phase {
	case v1alpha1.PhaseReady:
		if c := condition(item, v1alpha1.ConditionExpiring); c != nil {
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
	c := cause(item)
	if c == nil || c.Good() {
		return "wait: tekton wait --for=condition=Ready " + ref.String()
	}
	step := conditionStep(item, *c)
	if !c.NextRetry.IsZero() {
		step += "; tekton tries again by itself " + until(c.NextRetry, now)
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
	ref, source := refOf(item), item.Metadata.Source
	switch c.Reason {
	case "SecretMissing":
		return "set the secret that is missing: tekton secret set NAME < FILE"
	case "SourcePolicy":
		return fmt.Sprintf("source %s does not allow this: change %s:%d, or spec.sources of the Host", source.Name, source.File, source.Line)
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
	return "see the message of condition " + c.Type
}

func until(t, now time.Time) string {
	if d := t.Sub(now); d > time.Second {
		return "in " + terminal.Age(d)
	}
	return "now"
}
