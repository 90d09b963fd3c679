package reconcile

import (
	"fmt"
	"time"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/spec"
)

// round is what one pass knows of objects.
type round struct {
	*wanted
	facts    Facts
	claims   compile.Claims
	verdicts map[string]absence.Verdict
	known    []absence.Known
	// taken names, also of what is being deleted; count of a source's objects.
	taken map[string]bool
	count map[string]int
}

// reckon counts what known objects take.
func (r *round) reckon() {
	for _, t := range r.claims.Tombstones {
		r.taken[v1alpha1.UniqueName(t.Kind, t.Name)] = true
	}
	for _, k := range r.known {
		r.taken[v1alpha1.UniqueName(k.Kind, k.Name)] = true
		if r.verdicts[k.UID].Decision != absence.Absent {
			r.count[k.Source]++
		}
	}
}

// enter adds the objects of kinds that run a machine, or of those that do not.
func (c *Core) enter(r *round, wishes []wish, rs repositories, runMachines bool) {
	byKey := make(map[objectKey]wish, len(wishes))
	for _, n := range wishes {
		byKey[keyOf(n.Object)] = n
	}
	have := make(map[objectKey]bool, len(r.known))
	for _, k := range r.known {
		if v1alpha1.RunsMachine(k.Kind) != runMachines {
			continue
		}
		key := objectKey{k.Kind, k.Name}
		delete(c.pending, key)
		have[key] = r.verdicts[k.UID].Decision != absence.Absent
		r.objects = append(r.objects, c.knownObject(r.claims.ByUID[k.UID], r.claims.Instances[k.UID], r.verdicts[k.UID], byKey, rs))
	}
	for _, n := range wishes {
		key := keyOf(n.Object)
		if v1alpha1.RunsMachine(key.kind) == runMachines && !have[key] && n.why == "" {
			c.addNew(r, n, key)
		}
	}
}

// addNew gives a new object a UID, unless its name is not free yet.
func (c *Core) addNew(r *round, n wish, k objectKey) {
	name := v1alpha1.UniqueName(k.kind, k.name)
	if r.taken[name] {
		r.rejected = append(r.rejected, c.pendingItem(n.Winner, "NameTaken", fmt.Sprintf("another object named %s is still there, or is being deleted; this one follows when the name is free", k.name)))
		return
	}
	if limit := c.maxObjects(n.Source); limit > 0 && r.count[n.Source] >= limit {
		r.rejected = append(r.rejected, c.pendingItem(n.Winner, "SourcePolicy", fmt.Sprintf("source %s may have %d objects (maxObjects)", n.Source, limit)))
		return
	}
	r.count[n.Source]++
	r.taken[name] = true
	record := compile.ObjectRecord{
		UID: c.uidOf(k, r.facts.Now), Kind: k.kind, Name: k.name, Source: n.Source,
		File: n.Position.File, Line: n.Position.Line, Generation: 1, Digest: n.Digest, Object: marshal(n.Object.Object), Document: n.document,
	}
	c.specs[record.Digest] = n.Object.Object
	r.objects = append(r.objects, compile.Object{Record: record, Verdict: compile.Wanted, Spec: n.Object.Object})
}

// uidOf is the UID of an object that the ledger does not have yet.
func (c *Core) uidOf(k objectKey, now time.Time) string {
	if c.pending[k] == "" {
		c.pending[k] = compile.NewUID(c.Installation, k.kind, k.name, now)
	}
	return c.pending[k]
}

func (c *Core) maxObjects(sourceName string) int {
	if a := c.allow(sourceName); a != nil {
		return a.MaxObjects
	}
	return 0
}

// pendingItem shows a good document that is not an object yet.
func (c *Core) pendingItem(n absence.Winner, reason, message string) v1alpha1.Item {
	k := keyOf(n.Object)
	phase := v1alpha1.PhasePending
	if reason == spec.ReasonSourcePolicy {
		phase = v1alpha1.PhaseRejected
	}
	return rejectedItem(k, v1alpha1.SourcePosition{Name: n.Source, File: n.Position.File, Line: n.Position.Line}, phase, reason, message)
}

func rejectedItem(k objectKey, at v1alpha1.SourcePosition, phase v1alpha1.Phase, reason, message string) v1alpha1.Item {
	return v1alpha1.Item{
		TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: k.kind},
		Metadata: v1alpha1.ItemMeta{Name: k.name, Source: at},
		Status: v1alpha1.Status{Phase: phase, Conditions: []v1alpha1.Condition{
			{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionFalse, Reason: reason, Message: message},
			{Type: v1alpha1.ConditionSpecValid, Status: v1alpha1.ConditionFalse, Reason: reason, Message: message},
		}},
	}
}
