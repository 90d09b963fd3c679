package compile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/preview"
	"tekton.host/pkg/resource"
)

// Update strategies.
const (
	StrategyAuto     = "Auto"
	StrategyOverlap  = "Overlap"
	StrategyRecreate = "Recreate"
	// StrategyInPlace is that of containers of NixOS: the one instance is changed.
	StrategyInPlace = "InPlace"
)

// Strategy is how a change from one spec to another that needs a new start is
// rolled out: two instances side by side only where nothing writable and no
// host port is shared.
func Strategy(old, next *v1alpha1.ContainerSpec) string {
	if next.Update.Strategy == StrategyRecreate || old.NoOverlap() != "" || next.NoOverlap() != "" {
		return StrategyRecreate
	}
	return StrategyOverlap
}

func instanceKey(uid string, ordinal int) string {
	return fmt.Sprintf("%s%s/%d", instancePrefix, uid, ordinal)
}

func (c *compiler) incarnation(u *unitOf, r InstanceRecord) *Incarnation {
	return &Incarnation{InstanceRecord: r, Machine: c.Naming.Machine(u.Record.Name, r.Ordinal), Link: c.Naming.Link(r.Slot)}
}

// answeredBefore reports whether the incarnation is known to have answered ever.
func (c *compiler) answeredBefore(i *Incarnation) bool {
	_, present, _ := observed[resource.Answer](c, i.Machine)
	return present
}

// neverAnswered reports whether the incarnation is known to have never answered.
func (c *compiler) neverAnswered(i *Incarnation) bool {
	_, present, known := observed[resource.Answer](c, i.Machine)
	return known && !present
}

// chooseIncarnations sets Target, Former, Serving, draining and dropped from the ledger
// and the wanted fingerprint ("" keeps what is there).
func (c *compiler) chooseIncarnations(u *unitOf, want string) {
	var all []*Incarnation
	if u.waiting {
		want = "" // what it will be is not known
	}
	for _, r := range c.Claims.Instances[u.Record.UID] {
		if want != "" && r.RolledBack != nil && r.RolledBack.Fingerprint != u.update(want) {
			r.RolledBack = nil // that update is not wanted any more; should it be again, it is tried again
		}
		all = append(all, c.incarnation(u, r))
	}
	rolled, isRolled := c.Claims.RolledBack[u.Record.UID]
	n := len(all)
	if u.waiting && n > 0 {
		want = all[n-1].Fingerprint // it runs on, and is repaired, as it is
	}
	switch {
	case n == 0:
		if u.keep || u.noStart || want == "" {
			return
		}
		c.newIncarnation(u, 1, want)
	case isRolled && rolled.Fingerprint == u.update(want) && c.otherThan(all, want) != nil:
		good := c.otherThan(all, want)
		good.RolledBack = &rolled
		c.rolledBackTo(u, good, rolled)
		c.drop(u, slices.DeleteFunc(all, func(i *Incarnation) bool { return i == good }))
	case u.keep || u.noStart || want == "" || all[n-1].Fingerprint == want:
		u.Target = all[n-1]
		if u.Target.Fingerprint == want && !u.waiting && !u.keep && !u.noStart {
			// Hot changes are its own from now on, also while a next one is built or when that is taken back.
			u.Target.Served = c.served(u)
			u.Target.Object, u.Target.Revision = u.Record.Object, u.revision
		}
		c.confirm(u)
		c.chooseFormer(u, all[:n-1])
		c.rollBackIfFailed(u, want)
	case all[n-1].Container != "":
		c.updateInPlace(u, all[n-1], want)
	default:
		c.replace(u, all, want)
	}
	c.chooseServing(u)
	if u.waiting && u.Target != nil {
		u.effective = c.specOf(u, u.Target)
	}
}

// otherThan is the newest incarnation with another fingerprint.
func (c *compiler) otherThan(all []*Incarnation, fingerprint string) *Incarnation {
	for _, i := range slices.Backward(all) {
		if i.Fingerprint != fingerprint {
			return i
		}
	}
	return nil
}

// chooseFormer keeps, until the target has answered, the newest older
// incarnation that has: one that never did has nothing to go back to.
func (c *compiler) chooseFormer(u *unitOf, older []*Incarnation) {
	if c.answeredBefore(u.Target) {
		c.drop(u, older)
		return
	}
	c.keepServing(u, older)
}

// keepServing makes the newest of the incarnations that may serve the former,
// and drops the others.
func (c *compiler) keepServing(u *unitOf, is []*Incarnation) {
	for _, i := range slices.Backward(is) {
		if !c.neverAnswered(i) {
			u.Former = i
			u.Update = Strategy(c.specOf(u, i), u.Spec)
			break
		}
	}
	c.drop(u, slices.DeleteFunc(slices.Clone(is), func(i *Incarnation) bool { return i == u.Former }))
}

// replace makes the incarnation of a changed spec beside the one that serves.
func (c *compiler) replace(u *unitOf, all []*Incarnation, want string) {
	c.keepServing(u, all)
	c.newIncarnation(u, all[len(all)-1].Ordinal+1, want)
}

// newIncarnation claims a slot for the next incarnation.
func (c *compiler) newIncarnation(u *unitOf, ordinal int, fingerprint string) {
	machine := c.Naming.Machine(u.Record.Name, ordinal)
	slot, ok := c.slots.take(machine)
	if !ok {
		u.Target = u.Former
		u.Former = nil
		u.Update = ""
		if u.Target != nil {
			u.effective = c.specOf(u, u.Target)
		}
		u.note(v1alpha1.ConditionNetworkReady, v1alpha1.ConditionFalse, "NoFreeSlot",
			"all %d slots of subnet %s are taken or cooling down; delete an object or widen Host.spec.subnet", c.Naming.Slots(), c.Naming.Subnet)
		return
	}
	r := InstanceRecord{Ordinal: ordinal, Slot: slot, Fingerprint: fingerprint, Object: u.Record.Object, Revision: u.revision}
	r.builtFor(u)
	if u.Spec.Runtime == v1alpha1.RuntimeNixOSContainer {
		r.Container = c.containerName(u.Record)
	}
	u.Target = c.incarnation(u, r)
}

// drop leaves incarnations to be removed. Their claims stay until nothing of them is left.
func (c *compiler) drop(u *unitOf, is []*Incarnation) {
	for _, i := range is {
		switch {
		case c.answersUnknown():
			// It may be the one that serves: nothing of it goes.
			c.holdInstance(u, i)
			u.dropped = append(u.dropped, *i)
		case c.draining(u, i):
			u.draining = append(u.draining, *i)
		case c.leftovers(u, i):
			u.dropped = append(u.dropped, *i)
		}
	}
}

// drainFor is how long an incarnation runs on after the last route has left it:
// the proxy's old configuration has requests in hand that it has yet to send.
// Without, a busy host lost one request in some thousands.
const drainFor = 2 * time.Second

// draining reports whether the proxy may still send requests to an incarnation
// that runs.
func (c *compiler) draining(u *unitOf, i *Incarnation) bool {
	if c.neverAnswered(i) {
		return false
	}
	unit, _, known := observed[resource.Unit](c, i.Machine)
	if known && !unit.Running {
		return false
	}
	if c.Observed[resource.KindRoute].Err != nil {
		return len(c.specOf(u, i).Routes) > 0
	}
	draining := false
	addr := c.Naming.Addr(i.Slot)
	owned, _ := c.ownedBy(u)
	for _, r := range owned {
		var backend netip.Addr
		var movedAt time.Time
		switch v := r.Value.(type) {
		case resource.Route:
			backend, movedAt = v.Backend.Addr(), v.MovedAt
		case resource.Gate:
			backend, movedAt = v.Backend, v.MovedAt
		default:
			continue
		}
		until, moving := c.waits(movedAt, drainFor)
		if moving {
			c.wake(until)
		}
		draining = draining || moving || backend == addr
	}
	return draining
}

func (c *compiler) leftovers(u *unitOf, i *Incarnation) bool {
	left, known := c.ownedBy(u)
	return !known || slices.ContainsFunc(left, func(r resource.Resource) bool { return r.Instance == i.Machine })
}

// chooseServing picks the incarnation that routes point to: the newest that has answered.
func (c *compiler) chooseServing(u *unitOf) {
	for _, i := range []*Incarnation{u.Target, u.Former} {
		if i == nil {
			continue
		}
		if c.answeredBefore(i) {
			u.Serving = i
			return
		}
	}
}

// served is the revision that the target serves until its setup for the wanted
// one has succeeded; nil: it serves that, or none yet.
func (c *compiler) served(u *unitOf) *preview.Revision {
	was := cmp.Or(u.Target.Served, u.Target.Revision)
	if was == nil || u.revision == nil || was.Commit == u.revision.Commit {
		return nil
	}
	if have, _, known := observed[resource.Setup](c, u.Target.Machine); known && have.Run.Done != was.Commit {
		return nil
	}
	return was
}

// specOf is the spec that an incarnation was made for, of a preview at the
// revision whose services it runs.
func (c *compiler) specOf(u *unitOf, i *Incarnation) *v1alpha1.ContainerSpec {
	revision := cmp.Or(i.Served, i.Revision)
	if string(i.Object) == string(u.Record.Object) && (i.Flake == "" || i.StorePath == u.Spec.System.StorePath) && reflect.DeepEqual(revision, u.revision) {
		return u.Spec
	}
	key := string(i.Object) + i.StorePath
	if revision != nil {
		key += revision.Commit + revision.StorePath
	}
	if spec, decoded := c.specs[key]; decoded {
		return spec
	}
	spec := u.Spec
	if o := v1alpha1.New(u.Record.Kind); o != nil && json.Unmarshal(i.Object, o) == nil {
		spec = c.revised(u, o.Machine(), revision)
		if i.Flake != "" {
			spec.System.StorePath = i.StorePath
		}
		c.specs[key] = spec
	}
	return spec
}
