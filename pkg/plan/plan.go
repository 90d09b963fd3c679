package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/resource"
)

// Input is what the planner compares.
type Input struct {
	Desired  resource.Desired
	Observed resource.Observed
	// Failures mask a resource until their RetryAt.
	Failures map[resource.ID]resource.Failure
	// Busy has the BusyKey of every step in flight: what was observed there is
	// changing. Claiming is its key while any claim is in flight.
	Busy map[string]bool
	Now  time.Time
}

// Blocked is a difference that no step may remove yet, and why.
type Blocked struct {
	Resource resource.Resource
	Verb     resource.Verb
	Why      string
}

// Plan is the ordered list of steps that may be taken now.
type Plan struct {
	Steps    []resource.Step
	Blocked  []Blocked
	NextWake time.Time // zero: no timer needed
}

// Converged reports whether nothing is to be done, now or later.
func (p Plan) Converged() bool { return len(p.Steps) == 0 && len(p.Blocked) == 0 }

// UnderWay is why a difference of a busy object is blocked.
const UnderWay = "another step of the object is under way"

// BusyKey is what a step in flight occupies: its whole object, or one kind of
// the host's own things.
func BusyKey(r resource.Resource) string {
	if r.Owner == resource.HostOwner {
		return resource.HostOwner + "/" + string(r.Kind)
	}
	return r.Owner
}

// Make compares desired with observed.
func Make(in Input) Plan {
	p := &planner{Input: in, puts: map[resource.ID]bool{}}
	p.compare()
	p.index()
	for _, r := range p.pendingPuts {
		p.put(r)
	}
	for _, r := range p.pendingDeletes {
		p.delete(r)
	}
	slices.SortStableFunc(p.out.Steps, func(a, b resource.Step) int { return a.Resource.Compare(b.Resource.ID) })
	slices.SortStableFunc(p.out.Blocked, func(a, b Blocked) int { return a.Resource.Compare(b.Resource.ID) })
	return p.out
}

type planner struct {
	Input
	out            Plan
	pendingPuts    []resource.Resource
	pendingDeletes []resource.Resource
	puts           map[resource.ID]bool // IDs of pendingPuts
	// present and left index the desired and the observed resources by owner and
	// kind, of the owners of differences.
	present map[ownerKind][]resource.Resource
	left    map[ownerKind][]resource.Resource
	// leftKind counts the observed resources that are in use, by kind.
	leftKind map[resource.Kind]int
}

type ownerKind struct {
	owner string
	kind  resource.Kind
}

// compare finds the differences.
func (p *planner) compare() {
	matched := map[resource.Kind]int{} // observed resources that are wanted
	for id, want := range p.Desired.Present {
		have, present, known := p.Observed.Get(id)
		if present {
			matched[id.Kind]++
		}
		if !p.Desired.Held[id] && (!known || !present || !want.Equal(have)) {
			p.pendingPuts = append(p.pendingPuts, want)
			p.puts[id] = true
		}
	}
	for k, d := range p.Observed {
		// An answer is a file of its instance and goes with it.
		if d.Err != nil || k == resource.KindAnswer || len(d.Items) == matched[k] {
			continue
		}
		for _, have := range d.Items {
			if p.absent(have) {
				p.pendingDeletes = append(p.pendingDeletes, have)
			}
		}
	}
}

// index finds what the differences depend on: the resources of their owners and
// of the host. On a converged host there is nothing to index.
func (p *planner) index() {
	p.present, p.left, p.leftKind = map[ownerKind][]resource.Resource{}, map[ownerKind][]resource.Resource{}, map[resource.Kind]int{}
	owners := map[string]bool{resource.HostOwner: true}
	for _, r := range slices.Concat(p.pendingPuts, p.pendingDeletes) {
		owners[r.Owner] = true
	}
	if len(p.pendingPuts)+len(p.pendingDeletes) == 0 {
		return
	}
	for id, want := range p.Desired.Present {
		if owners[want.Owner] {
			k := ownerKind{want.Owner, id.Kind}
			p.present[k] = append(p.present[k], want)
		}
	}
	for kind, d := range p.Observed {
		if d.Err != nil {
			continue
		}
		for _, have := range d.Items {
			if owners[have.Owner] {
				k := ownerKind{have.Owner, kind}
				p.left[k] = append(p.left[k], have)
			}
			if have.Owner != resource.RetainedOwner {
				p.leftKind[kind]++
			}
		}
		p.leftKind[kind] += len(d.Unreadable)
	}
}

// absent reports whether an observed resource is to go: its owner was compiled
// whole and asks neither for it nor for leaving it alone.
func (p *planner) absent(r resource.Resource) bool {
	want, wanted := p.Desired.Present[r.ID]
	if wanted && want.Owner != r.Owner {
		return false // a put takes it over, or fails on the other owner
	}
	return !wanted && !p.Desired.Held[r.ID] && p.Desired.Complete[r.Owner]
}

func (p *planner) block(r resource.Resource, v resource.Verb, format string, args ...any) {
	p.out.Blocked = append(p.out.Blocked, Blocked{r, v, fmt.Sprintf(format, args...)})
}

// masked reports whether a difference has to wait for a step in flight or a retry.
func (p *planner) masked(r resource.Resource, v resource.Verb) bool {
	if p.Busy[BusyKey(r)] || (v == resource.Put && p.claimsUnseen(r)) {
		p.block(r, v, "%s", UnderWay)
		return true
	}
	f, failed := p.Failures[r.ID]
	if !failed || (!f.RetryAt.IsZero() && !f.RetryAt.After(p.Now)) {
		return false
	}
	p.block(r, v, "%s", f.Message)
	if !f.RetryAt.IsZero() && (p.out.NextWake.IsZero() || f.RetryAt.Before(p.out.NextWake)) {
		p.out.NextWake = f.RetryAt
	}
	return true
}

// claimsUnseen reports whether a new claim has to wait until those in flight were
// observed: what they take (a slot, a port on every address) looks free until
// then, and would be given to a second one.
func (p *planner) claimsUnseen(r resource.Resource) bool {
	if r.Kind != resource.KindClaim || !p.Busy[Claiming] {
		return false
	}
	_, there, _ := p.Observed.Get(r.ID)
	return !there
}

// Claiming is the key of all claims in flight, whosever they are.
const Claiming = "claims"

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

func (p *planner) unknown(k resource.Kind) error {
	return p.Observed.Unknown(resource.ID{Kind: k})
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
