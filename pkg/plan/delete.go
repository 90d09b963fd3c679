package plan

import (
	"cmp"
	"fmt"
	"strings"

	"tekton.host/pkg/resource"
)

// delete gives the step that removes a resource, or says what still stands on it.
func (p *planner) delete(have resource.Resource) {
	if p.masked(have, resource.Delete) {
		return
	}
	if have.Kind == resource.KindRoute {
		// A route that takes its place waits for its claim: both then change in
		// one load of the proxy, and the old one serves until then.
		if why := p.unmet(have, need{kind: resource.KindClaim}); why != "" {
			p.block(have, resource.Delete, "%s", why)
			return
		}
	}
	for _, k := range deleteNeeds[have.Kind] {
		if why := p.stands(have, k); why != "" {
			p.block(have, resource.Delete, "%s", why)
			return
		}
	}
	seen := have
	step := resource.Step{Verb: resource.Delete, Resource: have, Seen: &seen, Reason: "no longer wanted"}
	step.Resource.Value = p.withPolicy(have)
	p.out.Steps = append(p.out.Steps, step)
}

// stands says what still stands on a thing that is to go, "" when nothing does.
func (p *planner) stands(have resource.Resource, k resource.Kind) string {
	if err := p.unknown(k); err != nil {
		return fmt.Sprintf("cannot look at %s: %v", k, err)
	}
	if have.Owner == resource.HostOwner {
		switch {
		case p.leftKind[k] > 0:
			return fmt.Sprintf("waits until no %s is left", k)
		case p.objectsBusy():
			return "waits for steps under way: they may put something there"
		}
		return ""
	}
	for _, r := range p.left[ownerKind{have.Owner, k}] {
		if have.Instance != "" && r.Instance != "" && r.Instance != have.Instance {
			continue
		}
		switch {
		case k == resource.KindRoute, k == resource.KindGate:
			// What stays must point elsewhere first; what does not must be out.
			// Of one that is left alone nobody knows where it is to point.
			if p.absent(r) || p.puts[r.ID] || p.Desired.Held[r.ID] {
				return "waits for " + r.ID.String()
			}
		case have.Kind == resource.KindVolume || have.Kind == resource.KindException || have.Kind == resource.KindDatabase:
			// What the object's remaining instances do not use may go beside them.
			if p.absent(r) {
				return "waits until " + r.ID.String() + " is gone"
			}
		default:
			return "waits until " + r.ID.String() + " is gone"
		}
	}
	return ""
}

// objectsBusy reports whether a step of any object is in flight.
func (p *planner) objectsBusy() bool {
	for key := range p.Busy {
		if key != Claiming && !strings.HasPrefix(key, resource.HostOwner+"/") {
			return true
		}
	}
	return false
}

// withPolicy is the value with the deletion policy that holds now. Data whose
// object does not ask for its deletion is retained.
func (p *planner) withPolicy(r resource.Resource) resource.Value {
	policy := cmp.Or(p.Desired.Policies[r.ID], resource.RetainData)
	switch v := r.Value.(type) {
	case resource.Volume:
		v.Policy = policy
		return v
	case resource.Database:
		v.Policy = policy
		return v
	}
	return r.Value
}
