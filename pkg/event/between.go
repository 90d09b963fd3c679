package event

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// KindSource is the kind of a source in an event's object.
const KindSource = "Source"

// Snapshot is what is published at one moment.
type Snapshot struct {
	Items   []v1alpha1.Item
	Sources []v1alpha1.SourceStatus
}

// progress are reasons of conditions that pass by themselves: they are how an
// object gets Ready, and no news.
var progress = []string{
	"Progressing", "Dumping", "Restoring", "NotAnswered", "NotStarted", "NotRunning", "WaitingForAnswer", "CertificatePending", "WaitingForDependency",
	"Asleep", // Ready tells it once
}

// Between returns what happened from one snapshot to the next, by name of the
// object. The events have no number yet.
func Between(old, next Snapshot, now time.Time) []v1alpha1.Event {
	t := teller{now: now}
	before := make(map[string]v1alpha1.Item, len(old.Items))
	for _, i := range old.Items {
		before[key(i)] = i
	}
	for _, i := range next.Items {
		was, there := before[key(i)]
		delete(before, key(i))
		t.object(was, there, i)
	}
	for _, i := range before {
		t.tell(i, v1alpha1.EventNormal, "Deleted", "nothing of it is left but what its policies keep")
	}
	t.sources(old.Sources, next.Sources)
	slices.SortStableFunc(t.events, func(a, b v1alpha1.Event) int {
		return cmp.Or(cmp.Compare(a.Object.Kind, b.Object.Kind), cmp.Compare(a.Object.Name, b.Object.Name))
	})
	return t.events
}

// key tells objects apart; a rejected one may have no UID.
func key(i v1alpha1.Item) string { return i.Metadata.UID + "/" + i.Kind + "/" + i.Metadata.Name }

type teller struct {
	now    time.Time
	events []v1alpha1.Event
}

func (t *teller) tell(i v1alpha1.Item, typ v1alpha1.EventType, reason, format string, args ...any) {
	t.events = append(t.events, v1alpha1.Event{
		Time: t.now, Type: typ, Object: v1alpha1.Ref{Kind: i.Kind, Name: i.Metadata.Name}, UID: i.Metadata.UID,
		Reason: reason, Message: fmt.Sprintf(format, args...),
	})
}

// byItsSpec says that whoever wrote the spec caused the last event.
func (t *teller) byItsSpec(i v1alpha1.Item) {
	s := i.Metadata.Source
	t.events[len(t.events)-1].By = strings.TrimSpace(fmt.Sprintf("%s %s:%d", s.Name, s.File, s.Line))
}

// object tells what happened to one object; was counts only if it was there.
func (t *teller) object(was v1alpha1.Item, there bool, is v1alpha1.Item) {
	phase := is.Status.Phase
	switch {
	case phase == v1alpha1.PhaseRejected: // its condition tells
	case !there:
		t.tell(is, v1alpha1.EventNormal, "Created", "")
		t.byItsSpec(is)
	case was.Metadata.Generation != is.Metadata.Generation:
		t.tell(is, v1alpha1.EventNormal, "Changed", "generation %d", is.Metadata.Generation)
		t.byItsSpec(is)
	}
	if phase == v1alpha1.PhaseDeleting {
		if was.Status.Phase != phase {
			t.tell(is, v1alpha1.EventNormal, "Deleting", "%s", message(is.Status, v1alpha1.ConditionReady))
		}
		return
	}
	if there && was.Status.Machine != "" && is.Status.Machine != "" && was.Status.Machine != is.Status.Machine {
		t.tell(is, v1alpha1.EventNormal, "Replaced", "%s serves in place of %s", is.Status.Machine, was.Status.Machine)
	} else if there && is.Status.Restarts > was.Status.Restarts {
		t.tell(is, v1alpha1.EventWarning, "Restarted", "%s has ended by itself %s", is.Status.Machine, times(is.Status.Restarts))
	}
	t.setUp(was.Status.Setup, is)
	t.conditions(was.Status, is)
}

// setUp tells which commit was set up in place of which: whoever wants the former
// one back finds it here.
func (t *teller) setUp(was *v1alpha1.SetupStatus, is v1alpha1.Item) {
	s := is.Status.Setup
	before := cmp.Or(was, &v1alpha1.SetupStatus{}).Done
	switch {
	case s == nil || s.Done == "" || s.Done == before:
	case before == "":
		t.tell(is, v1alpha1.EventNormal, "SetUp", "commit %s", s.Done)
	default:
		t.tell(is, v1alpha1.EventNormal, "SetUp", "commit %s in place of %s", s.Done, before)
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times in a row", n)
}

// conditions tells which conditions have turned, each trouble once: Ready only
// repeats the reason of another.
func (t *teller) conditions(was v1alpha1.Status, is v1alpha1.Item) {
	told := map[string]bool{}
	for _, c := range is.Status.Conditions {
		old, there := condition(was, c.Type)
		turned := !there || old.Status != c.Status || old.Reason != c.Reason
		stale := c.Stale() && !old.Stale() // told once, not at each attempt
		if c.Type == v1alpha1.ConditionReady || !turned || c.Good() && !stale || slices.Contains(progress, c.Reason) {
			continue
		}
		told[c.Reason] = true
		t.tell(is, typeOf(c), c.Reason, "%s", c.Message)
	}
	ready, there := condition(is.Status, v1alpha1.ConditionReady)
	old, _ := condition(was, v1alpha1.ConditionReady)
	switch {
	case !there || (old.Status == ready.Status && old.Reason == ready.Reason) || told[ready.Reason]:
	case ready.Status == v1alpha1.ConditionTrue && is.Status.Phase == v1alpha1.PhaseAsleep:
		t.tell(is, v1alpha1.EventNormal, ready.Reason, "%s", ready.Message)
	case ready.Status == v1alpha1.ConditionTrue:
		t.tell(is, v1alpha1.EventNormal, "Ready", "%s", strings.Join(is.Status.URLs, " "))
	case !slices.Contains(progress, ready.Reason):
		typ := typeOf(ready)
		if is.Status.Phase == v1alpha1.PhaseDisabled || is.Status.Phase == v1alpha1.PhasePaused {
			typ = v1alpha1.EventNormal
		}
		t.tell(is, typ, ready.Reason, "%s", ready.Message)
	case was.Phase == v1alpha1.PhaseAsleep:
		t.tell(is, v1alpha1.EventNormal, "Woken", "it is started again")
	case old.Status == v1alpha1.ConditionTrue:
		t.tell(is, v1alpha1.EventNormal, "NotReady", "%s", ready.Message)
	}
}

// typeOf an event about a condition: what comes up by itself is nothing to worry about.
func typeOf(c v1alpha1.Condition) v1alpha1.EventType {
	if c.UnderWay() {
		return v1alpha1.EventNormal
	}
	return v1alpha1.EventWarning
}

func condition(s v1alpha1.Status, typ string) (v1alpha1.Condition, bool) {
	i := slices.IndexFunc(s.Conditions, func(c v1alpha1.Condition) bool { return c.Type == typ })
	if i < 0 {
		return v1alpha1.Condition{}, false
	}
	return s.Conditions[i], true
}

func message(s v1alpha1.Status, typ string) string {
	c, _ := condition(s, typ)
	return c.Message
}

// sources tells of sources that cannot be read whole or that hold deletions,
// and of their commits.
func (t *teller) sources(old, next []v1alpha1.SourceStatus) {
	for _, is := range next {
		i := slices.IndexFunc(old, func(s v1alpha1.SourceStatus) bool { return s.Name == is.Name })
		was := v1alpha1.SourceStatus{Complete: true}
		if i >= 0 {
			was = old[i]
		}
		source := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: KindSource}, Metadata: v1alpha1.ItemMeta{Name: is.Name}}
		switch {
		case len(is.Held) > 0 && len(was.Held) != len(is.Held):
			t.tell(source, v1alpha1.EventWarning, "DeletesHeld", "%d deletions wait: %s", len(is.Held), is.Message)
		case len(was.Held) > 0 && len(is.Held) == 0:
			t.tell(source, v1alpha1.EventNormal, "DeletesReleased", "no deletion waits any more")
		}
		switch {
		case !is.Complete && was.Complete:
			t.tell(source, v1alpha1.EventWarning, "Incomplete", "%s", is.Message)
		case is.Complete && !was.Complete:
			t.tell(source, v1alpha1.EventNormal, "Complete", "read whole again")
		}
		t.commits(source, was.Git, is.Git)
	}
}

// commits tells of the commits of a git source.
func (t *teller) commits(source v1alpha1.Item, was, is *v1alpha1.GitStatus) {
	if is == nil {
		return
	}
	was = cmp.Or(was, &v1alpha1.GitStatus{})
	if is.Commit != was.Commit && is.Commit != "" {
		t.tell(source, v1alpha1.EventNormal, "CommitInEffect", "commit %s of %s", is.Commit, is.Branch)
	}
	if is.Rejected != was.Rejected && is.Rejected != "" {
		t.tell(source, v1alpha1.EventWarning, "CommitRejected", "%s", is.Error)
	}
	switch failed, fails := fails(was), fails(is); {
	case fails && !failed:
		t.tell(source, v1alpha1.EventWarning, "Failing", "%s", is.Error)
	case failed && !fails && is.Error == "":
		t.tell(source, v1alpha1.EventNormal, "Recovered", "what branch %s has is in effect again", is.Branch)
	}
}

// fails reports whether nobody knows what the branch has, or how to fetch it; of a
// commit that is not used CommitRejected tells.
func fails(g *v1alpha1.GitStatus) bool { return g.Error != "" && g.Rejected == "" }
