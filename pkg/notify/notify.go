package notify

import (
	"cmp"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// Notice is what a hook is told, as JSON.
type Notice struct {
	// Host is the name of this host.
	Host   string       `json:"host"`
	Object v1alpha1.Ref `json:"object"`
	UID    string       `json:"uid"`
	Ready  bool         `json:"ready"`
	// Since when it is so.
	Since time.Time `json:"since"`
	// Phase, Reason and Message say more, without secrets.
	Phase   v1alpha1.Phase `json:"phase"`
	Reason  string         `json:"reason"`
	Message string         `json:"message,omitempty"`
	URLs    []string       `json:"urls,omitempty"`
}

// due are the notices that a hook which heard this is owed now, by name, and
// when the next one is due without any change; zero: none. What is not Ready is
// told when it has been so for the time of after. Objects that somebody stopped
// or is deleting are no news.
func due(heard map[string]bool, items []v1alpha1.Item, host string, after time.Duration, now time.Time) (notices []Notice, next time.Time) {
	for _, i := range items {
		ready, found := readiness(i)
		told, known := heard[i.Metadata.UID]
		if !found || known && told == (ready.Status == v1alpha1.ConditionTrue) {
			continue
		}
		n := Notice{
			Host: host, Object: v1alpha1.Ref{Kind: i.Kind, Name: i.Metadata.Name}, UID: i.Metadata.UID, Ready: ready.Status == v1alpha1.ConditionTrue,
			Since: ready.LastTransitionTime, Phase: i.Status.Phase, Reason: ready.Reason, Message: ready.Message, URLs: i.Status.URLs,
		}
		// A transition in the future is a clock that was set back: nothing waits for that.
		if at := n.Since.Add(after); !n.Ready && at.After(now) && !n.Since.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		}
		notices = append(notices, n)
	}
	slices.SortFunc(notices, func(a, b Notice) int {
		return cmp.Or(cmp.Compare(a.Object.Kind, b.Object.Kind), cmp.Compare(a.Object.Name, b.Object.Name))
	})
	return notices, next
}

// readiness is the condition Ready of an object that somebody may wait for.
func readiness(i v1alpha1.Item) (v1alpha1.Condition, bool) {
	switch i.Status.Phase {
	case v1alpha1.PhaseDisabled, v1alpha1.PhasePaused, v1alpha1.PhaseDeleting:
		return v1alpha1.Condition{}, false
	}
	at := slices.IndexFunc(i.Status.Conditions, func(c v1alpha1.Condition) bool { return c.Type == v1alpha1.ConditionReady })
	// Unknown says nothing: somebody restarts PostgreSQL, or the daemon has just begun.
	if at < 0 || i.Metadata.UID == "" || i.Status.Conditions[at].Status == v1alpha1.ConditionUnknown {
		return v1alpha1.Condition{}, false
	}
	return i.Status.Conditions[at], true
}

// known is how all objects are: what a new hook is taken to have heard, so that
// it does not begin with a flood.
func known(items []v1alpha1.Item) map[string]bool {
	heard := map[string]bool{}
	for _, i := range items {
		if ready, found := readiness(i); found {
			heard[i.Metadata.UID] = ready.Status == v1alpha1.ConditionTrue
		}
	}
	return heard
}

// forget drops objects that are gone.
func forget(heard map[string]bool, items []v1alpha1.Item) (dropped bool) {
	there := map[string]bool{}
	for _, i := range items {
		there[i.Metadata.UID] = true
	}
	for uid := range heard {
		if !there[uid] {
			delete(heard, uid)
			dropped = true
		}
	}
	return dropped
}
