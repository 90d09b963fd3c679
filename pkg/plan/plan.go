package plan

import (
	"fmt"
	"slices"
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

func (p *planner) unknown(k resource.Kind) error {
	return p.Observed.Unknown(resource.ID{Kind: k})
}
