package why

import (
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// TestCorrect: what is checked offline is the file, also of a commit.
func TestCorrect(t *testing.T) {
	for file, want := range map[string]string{
		"/srv/specs/web.yaml":           "correct /srv/specs/web.yaml:7; tekton validate /srv/specs/web.yaml checks it offline",
		"3f2a9c11d0be:hosts/a/web.yaml": "correct 3f2a9c11d0be:hosts/a/web.yaml:7; tekton validate hosts/a/web.yaml checks it offline",
	} {
		if got := correct(v1alpha1.SourcePosition{File: file, Line: 7}); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}

// TestOf: what fails is told with its cause, since when, the command that helps and
// the next try; of what is well, that nothing is to be done.
func TestOf(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	item := v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}, Metadata: v1alpha1.ItemMeta{Name: "web"}}
	ready := v1alpha1.Condition{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionTrue, Reason: "Ready", LastTransitionTime: now.Add(-time.Hour)}
	item.Status = v1alpha1.Status{Phase: v1alpha1.PhaseReady, Conditions: []v1alpha1.Condition{ready}, URLs: []string{"http://web.test/"}}
	if got, want := Of(item, now), "container/web is Ready since 60m. Next step: none needed; open http://web.test/."; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	held := item
	held.Metadata.Source.Name = "local"
	held.Status.Conditions = []v1alpha1.Condition{ready, {Type: v1alpha1.ConditionHeld, Status: v1alpha1.ConditionTrue, Reason: "LastGoodStays", Message: "its file is gone", LastTransitionTime: now.Add(-time.Minute)}}
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseReady, v1alpha1.PhaseAsleep} {
		held.Status.Phase = phase
		if got := Of(held, now); !strings.Contains(got, "LastGoodStays, its file is gone. Next step: bring its file back, or let the deletion happen: tekton release-deletes local.") {
			t.Errorf("held: %q", got)
		}
	}
	stale := item
	stale.Status.Conditions = []v1alpha1.Condition{
		ready, {Type: v1alpha1.ConditionBuilt, Status: v1alpha1.ConditionTrue, Reason: "AsDesired"},
		{Type: v1alpha1.ConditionFetched, Status: v1alpha1.ConditionTrue, Reason: "RefNotFound", Message: "commit 4c stays; push it", LastTransitionTime: now.Add(-72 * time.Hour), NextRetry: now.Add(time.Minute)},
		{Type: v1alpha1.ConditionLimitsEnforced, Status: v1alpha1.ConditionFalse, Reason: "NotEnforced"},
	}
	stale.Metadata.Source = v1alpha1.SourcePosition{File: "web.yaml", Line: 3}
	if got, want := Of(stale, now), "container/web is Ready since 60m: RefNotFound, commit 4c stays; push it. Next step: do what it says; its document is web.yaml:3; tekton tries again by itself in 60s."; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if got := Reason(stale); got != "RefNotFound" {
		t.Errorf("the table shows %q of what is stale", got)
	}
	stale.Status.Conditions[2].Reason, stale.Status.Conditions[2].NextRetry = "Retrying", time.Time{}
	if got := Of(stale, now); !strings.Contains(got, "Next step: none needed before that attempt has ended.") {
		t.Errorf("of what is tried once more: %q", got)
	}
	item.Status.Phase = v1alpha1.PhaseFailed
	item.Status.Conditions = append(item.Status.Conditions, v1alpha1.Condition{
		Type: v1alpha1.ConditionStarted, Status: v1alpha1.ConditionFalse, Reason: "Exited", Message: "it ended with 1.",
		LastTransitionTime: now.Add(-5 * time.Minute), NextRetry: now.Add(time.Minute),
	})
	if got, want := Of(item, now), "container/web is Failed since 5m: Exited, it ended with 1. Next step: see what it says: tekton logs container/web; tekton tries again by itself in 60s."; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	item.Metadata.Source = v1alpha1.SourcePosition{File: "web.yaml", Line: 3}
	for want, c := range map[string]v1alpha1.Condition{
		"let the program listen on that port of all addresses":   {Type: v1alpha1.ConditionAnswered, Reason: "ProbeFailed", Message: "dial tcp 10.1.0.3:80: connect: connection refused"},
		"Next step: see what it says: tekton logs":               {Type: v1alpha1.ConditionAnswered, Reason: "ProbeFailed", Message: "it answered 500"},
		"change one of the two; this one is in web.yaml:3":       {Type: v1alpha1.ConditionRouteReady, Reason: "RouteConflict", Message: "web.test/ is served for Container/first"},
		"Next step: do what it says; its document is web.yaml:3": {Type: v1alpha1.ConditionRouteReady, Reason: "PortInUse", Message: "stop it"},
	} {
		c.Status = v1alpha1.ConditionFalse
		item.Status.Conditions = []v1alpha1.Condition{c}
		if got := Of(item, now); !strings.Contains(got, want) {
			t.Errorf("%q says not: %s", got, want)
		}
	}
	item.Status.Phase = v1alpha1.PhaseAsleep
	if got := Of(item, now); !strings.Contains(got, "tekton restart container/web") {
		t.Errorf("asleep: %q", got)
	}
}
