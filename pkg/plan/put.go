package plan

import (
	"fmt"

	"tekton.host/pkg/resource"
)

// put gives the step that makes a resource what is wanted, or says what it waits for.
func (p *planner) put(want resource.Resource) {
	if p.masked(want, resource.Put) {
		return
	}
	if why := p.cause(want); why != "" {
		p.block(want, resource.Put, "%s", why)
		return
	}
	have, present, _ := p.Observed.Get(want.ID)
	step := resource.Step{Verb: resource.Put, Resource: want, Reason: "missing"}
	if present {
		step.Seen, step.Reason = &have, "differs"
	}
	if want.Kind == resource.KindUnit && !p.unitMayStart(want, &step) {
		return
	}
	p.out.Steps = append(p.out.Steps, step)
}

// cause says why a put cannot be made yet, "" when it can: what is wrong with the
// host first, for that is why nobody can look at what is on it.
func (p *planner) cause(want resource.Resource) string {
	why := ""
	if err := p.Observed.Unknown(want.ID); err != nil {
		why = fmt.Sprintf("cannot look at it: %v", err)
	}
	for _, n := range putNeeds[want.Kind] {
		if unmet := p.unmet(want, n); unmet != "" && (n.host || why == "") {
			why = unmet
		}
	}
	return why
}

// unmet says what of a need is missing, "" when nothing is. A database that
// cannot be looked at delays only an instance that has never answered: it must
// not keep a crashed machine down.
func (p *planner) unmet(want resource.Resource, n need) string {
	owner := want.Owner
	if n.host {
		owner = resource.HostOwner
	}
	for _, r := range p.present[ownerKind{owner, n.kind}] {
		if !n.host && r.Instance != "" && want.Instance != "" && r.Instance != want.Instance {
			continue
		}
		if n.host && p.Busy[BusyKey(r)] {
			return "waits for a step of " + r.ID.String() // it may be on its way out
		}
		if !p.puts[r.ID] {
			continue
		}
		if n.kind == resource.KindAccess && p.unknown(n.kind) != nil && p.answered(want.Instance) {
			continue
		}
		f, failed := p.Failures[r.ID]
		if failed && p.serves(r) {
			continue
		}
		if failed {
			return fmt.Sprintf("waits for %s: %s", r.ID, f.Message)
		}
		if err := p.Observed.Unknown(r.ID); err != nil {
			return fmt.Sprintf("waits for %s: cannot look at it: %v", r.ID, err)
		}
		return "waits for " + r.ID.String()
	}
	return ""
}

// serves reports whether a proxy that is not all that is wanted, a certificate of
// one host being broken, serves all the same: others' routes do not wait for that.
func (p *planner) serves(r resource.Resource) bool {
	want, isProxy := r.Value.(resource.Proxy)
	have, present, _ := p.Observed.Get(r.ID)
	return isProxy && present && have.Value.(resource.Proxy).HTTPPort == want.HTTPPort
}

func (p *planner) answered(machine string) bool {
	if machine == "" {
		return false
	}
	_, present, _ := p.Observed.Get(resource.ID{Kind: resource.KindAnswer, Name: machine})
	return present
}

// unitMayStart adds what is peculiar to units: the link's peer must be on the
// host, an exclusive unit starts alone, and a restart is a stop first, unless
// the machine is updated in place.
func (p *planner) unitMayStart(want resource.Resource, step *resource.Step) bool {
	for _, k := range []resource.Kind{resource.KindAttachment, resource.KindUnit} {
		if err := p.unknown(k); err != nil {
			p.block(want, resource.Put, "cannot look at %s: %v", k, err)
			return false
		}
	}
	if step.Seen != nil && step.Seen.Value.(resource.Unit).Running {
		if seen := step.Seen.Value.(resource.Unit); seen.Generation >= want.Value.(resource.Unit).Generation {
			return true // updated in place
		}
		*step = resource.Step{Verb: resource.Delete, Resource: *step.Seen, Seen: step.Seen, Reason: "restart asked for"}
		return true
	}
	for _, r := range p.left[ownerKind{want.Owner, resource.KindAttachment}] {
		if r.Instance == want.Instance {
			p.block(want, resource.Put, "waits until the link of the ended machine is gone")
			return false
		}
	}
	if !p.Desired.Exclusive[want.ID] {
		return true
	}
	for _, r := range p.left[ownerKind{want.Owner, resource.KindUnit}] {
		if r.ID != want.ID && r.Value.(resource.Unit).Running {
			p.block(want, resource.Put, "waits until %s has stopped", r.Name)
			return false
		}
	}
	return true
}
