package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
)

// status computes what is said of every object. Steps and compile leave
// negative facts; Ready is computed from them here and nowhere else.
func (c *Core) status(f Facts, w wanted, out compile.Output, p plan.Plan) []v1alpha1.Item {
	b, previews := newBoard(c, f, p), previewsByRepository(out.Objects)
	items := make([]v1alpha1.Item, 0, len(out.Objects)+len(w.rejected))
	for _, o := range out.Objects {
		item := b.item(o, w)
		if r, is := o.Declared.(*v1alpha1.RepositorySpec); is {
			item.Status.Repository = &v1alpha1.RepositoryStatus{Previews: previews[o.Record.Name], Max: r.PullRequests.Max}
		}
		items = append(items, item)
	}
	items = append(items, w.rejected...)
	slices.SortFunc(items, func(x, y v1alpha1.Item) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Metadata.Name, y.Metadata.Name))
	})
	c.keepTimes(items, f.Now)
	return items
}

// keepTimes carries over when each condition last changed.
func (c *Core) keepTimes(items []v1alpha1.Item, now time.Time) {
	next := make(map[string]v1alpha1.Item, len(items))
	for i := range items {
		key := items[i].Metadata.UID + "/" + items[i].Kind + "/" + items[i].Metadata.Name
		old := c.items[key].Status.Conditions
		for j := range items[i].Status.Conditions {
			cond := &items[i].Status.Conditions[j]
			cond.LastTransitionTime = now
			for _, o := range old {
				if o.Type == cond.Type && o.Status == cond.Status {
					cond.LastTransitionTime = o.LastTransitionTime
				}
			}
		}
		next[key] = items[i]
	}
	c.items = next
}

// board indexes what is not as it should be, by owner.
type board struct {
	core     *Core
	facts    Facts
	blocked  map[string][]plan.Blocked
	steps    map[string][]resource.Step
	failures map[string][]failure
}

func newBoard(c *Core, f Facts, p plan.Plan) *board {
	b := &board{core: c, facts: f, blocked: map[string][]plan.Blocked{}, steps: map[string][]resource.Step{}, failures: map[string][]failure{}}
	for _, x := range p.Blocked {
		b.blocked[x.Resource.Owner] = append(b.blocked[x.Resource.Owner], x)
	}
	for _, s := range p.Steps {
		b.steps[s.Resource.Owner] = append(b.steps[s.Resource.Owner], s)
	}
	for _, x := range c.failures {
		b.failures[x.step.Resource.Owner] = append(b.failures[x.step.Resource.Owner], x)
	}
	for _, fs := range b.failures {
		slices.SortFunc(fs, func(x, y failure) int { return x.step.Resource.Compare(y.step.Resource.ID) })
	}
	return b
}

func (b *board) item(o compile.Compiled, w wanted) v1alpha1.Item {
	r := o.Record
	item := v1alpha1.Item{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: r.Kind},
		Metadata: v1alpha1.ItemMeta{
			Name: r.Name, UID: r.UID, Labels: o.Meta.Labels, Annotations: o.Meta.Annotations, Generation: r.Generation,
			Source: v1alpha1.SourcePosition{Name: r.Source, File: r.File, Line: r.Line},
		},
		Status: v1alpha1.Status{ObservedGeneration: r.Generation, URLs: o.URLs, ExpiresAt: o.ExpiresAt, AsleepSince: o.AsleepSince, Certificates: b.certificates(o)},
	}
	item.Spec = o.Declared
	if o.HostKey != "" {
		item.Status.SSH = &v1alpha1.SSHStatus{User: o.Spec.Login.User, HostKey: o.HostKey}
	}
	if o.Closure != "" {
		item.Status.Build = buildStatus(o.Build)
	}
	if o.Setup.Revision != "" {
		item.Status.Setup = setupStatus(o.Setup)
	}
	if i := cmp.Or(o.Serving, o.Target); i != nil {
		item.Status.Machine, item.Status.Slot, item.Status.Address = i.Machine, i.Slot, b.core.Naming.Addr(i.Slot).String()
		if u, running := b.unit(i.Machine); running {
			item.Status.StartedAt, item.Status.Restarts = u.StartedAt, u.Failures
		}
	}
	if o.Verdict == compile.Gone {
		b.deleting(&item, o)
		return item
	}
	item.Status.Conditions = b.conditions(o, w, item.Status.Certificates)
	item.Status.Phase = phase(o, item.Status.Conditions)
	return item
}

func buildStatus(b resource.Build) *v1alpha1.BuildStatus {
	return &v1alpha1.BuildStatus{
		Running: b.Running, StartedAt: b.StartedAt, EndedAt: b.EndedAt, Log: b.Log,
		Phase: b.Progress.Phase, Done: b.Progress.Done, Expected: b.Progress.Expected, Building: b.Progress.Building,
		StorePath: b.Result.StorePath, Locked: b.Result.Locked, Revision: b.Result.Revision, LockedAt: b.Result.LockedAt,
	}
}

func setupStatus(s resource.Setup) *v1alpha1.SetupStatus {
	run := s.Run
	return &v1alpha1.SetupStatus{
		Revision: s.Revision, Running: run.Running, StartedAt: run.StartedAt, EndedAt: run.EndedAt, Phase: run.Phase, Log: run.Log, Done: run.Done,
	}
}

func (b *board) unit(machine string) (resource.Unit, bool) {
	r, present, _ := b.facts.Observed.Get(resource.ID{Kind: resource.KindUnit, Name: machine})
	if !present {
		return resource.Unit{}, false
	}
	return r.Value.(resource.Unit), true
}

func (b *board) deleting(item *v1alpha1.Item, o compile.Compiled) {
	item.Status.Phase = v1alpha1.PhaseDeleting
	cond := v1alpha1.Condition{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionFalse, Reason: "Deleting", Message: o.Why}
	uid := o.Record.UID
	if len(o.Notes) > 0 {
		cond.Reason, cond.Message = o.Notes[0].Reason, o.Notes[0].Message
	} else if fs := b.failures[uid]; len(fs) > 0 {
		cond.Reason, cond.Message, cond.NextRetry = fs[0].Reason, fmt.Sprintf("%s: %s", fs[0].step, fs[0].Message), fs[0].RetryAt
		explainFull(&cond)
	} else if bs := b.blocked[uid]; len(bs) > 0 {
		cond.Message = fmt.Sprintf("%s; %s %s", o.Why, bs[0].Resource.ID, bs[0].Why)
	}
	item.Status.Conditions = []v1alpha1.Condition{cond}
}

// phase is one word for people.
func phase(o compile.Compiled, cs []v1alpha1.Condition) v1alpha1.Phase {
	is := func(typ string, status v1alpha1.ConditionStatus) *v1alpha1.Condition {
		for i := range cs {
			if cs[i].Type == typ && cs[i].Status == status {
				return &cs[i]
			}
		}
		return nil
	}
	switch {
	case o.Verdict == compile.Refused:
		return v1alpha1.PhaseRejected
	case o.Spec != nil && o.Spec.Paused:
		return v1alpha1.PhasePaused
	case o.Expired:
		return v1alpha1.PhaseExpired
	case o.Spec != nil && o.Spec.Disabled():
		return v1alpha1.PhaseDisabled
	case o.Asleep && is(v1alpha1.ConditionReady, v1alpha1.ConditionTrue) != nil:
		return v1alpha1.PhaseAsleep
	case is(v1alpha1.ConditionReady, v1alpha1.ConditionTrue) != nil:
		if is(v1alpha1.ConditionRolledBack, v1alpha1.ConditionTrue) != nil || is(v1alpha1.ConditionSpecValid, v1alpha1.ConditionFalse) != nil ||
			is(v1alpha1.ConditionSetUp, v1alpha1.ConditionFalse) != nil {
			return v1alpha1.PhaseDegraded
		}
		return v1alpha1.PhaseReady
	}
	ready := is(v1alpha1.ConditionReady, v1alpha1.ConditionFalse)
	switch {
	case o.Waking && ready != nil && ready.UnderWay():
		return v1alpha1.PhaseStarting
	case o.Serving != nil:
		return v1alpha1.PhaseDegraded
	}
	if ready != nil && (ready.Reason == "Fetching" || ready.Reason == "FetchQueued") {
		return v1alpha1.PhaseFetching
	}
	if ready != nil && (ready.Reason == "Building" || ready.Reason == "BuildQueued") {
		return v1alpha1.PhaseBuilding
	}
	if ready != nil && !ready.UnderWay() {
		return v1alpha1.PhaseFailed
	}
	if o.Target == nil {
		return v1alpha1.PhasePending
	}
	return v1alpha1.PhaseStarting
}
