package compile

import (
	"cmp"
	"net/netip"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// ReasonAsleep is why something is not done for an object now.
const ReasonAsleep = "Asleep"

// gated reports whether requests to the object go through the activator: it may sleep.
func (u *unitOf) gated() bool {
	s := u.Spec
	return s.SleepAfter != nil && s.SleepAfter.Duration > 0 && len(s.Routes) > 0 && !s.Disabled()
}

// rest follows the activator: an object that is asleep there has no machine
// that runs, and all else of it stays.
func (c *compiler) rest(u *unitOf) {
	if !u.gated() {
		return
	}
	id := resource.ID{Kind: resource.KindGate, Name: u.Record.Name}
	r, present, known := c.Observed.Get(id)
	gate, _ := r.Value.(resource.Gate)
	asleep := present && r.Owner == u.Record.UID && gate.Asleep
	if known && asleep && c.answersUnknown() {
		id, known = resource.ID{Kind: resource.KindAnswer}, false
	}
	switch {
	case !known:
		u.keep = true
		u.note(v1alpha1.ConditionStarted, v1alpha1.ConditionUnknown, "Unknown",
			"cannot look at whether it is asleep (%v); until then nothing of it is changed", c.Observed.Unknown(id))
	case asleep:
		u.Asleep, u.AsleepSince = true, gate.Since
	}
}

// rouse starts what is asleep and has no answer any more (a power cut takes back
// what was not synced): without, it has neither route nor gate to be woken by.
func (u *unitOf) rouse() {
	if u.Serving == nil && !u.keep {
		u.Asleep, u.AsleepSince = false, time.Time{}
	}
}

// emitGate tells the activator where the requests go of an object that has answered.
func (c *compiler) emitGate(u *unitOf) {
	if !u.gated() || u.Serving == nil && !c.answersUnknown() {
		return
	}
	backend, known := c.gateBackend(u)
	if !known {
		c.hold(resource.ID{Kind: resource.KindGate, Name: u.Record.Name})
		return
	}
	u.Waking = !u.Asleep && !backend.IsValid()
	gate := resource.Gate{Label: u.Record.Kind + "/" + u.Record.Name, Backend: backend, Generation: u.Record.Restart}
	if p := probe(c.servingSpec(u)); p.HTTPPath != "" {
		gate.HealthPath, gate.HealthPort = p.HTTPPath, p.Port
	}
	if !c.changing(u) {
		gate.SleepAfter = resource.Duration(u.Spec.SleepAfter.Duration)
	}
	c.want(resource.New(u.Record.UID, "", u.Record.Name, gate))
}

// gateBackend is the machine that answers now; the zero address while there is none.
func (c *compiler) gateBackend(u *unitOf) (addr netip.Addr, known bool) {
	if c.answersUnknown() {
		return addr, false
	}
	i := u.Serving
	if u.Asleep || c.givesWay(u, i) || u.refused(i) {
		return addr, true
	}
	unit, running, known := observed[resource.Unit](c, i.Machine)
	answer, answered, answerKnown := observed[resource.Answer](c, i.Machine)
	if running && unit.Running && answered && answer.Boot == unit.Boot {
		addr = c.Naming.Addr(i.Slot)
	}
	return addr, known && answerKnown
}

// givesWay reports whether an incarnation stops for its successor, which cannot
// run beside it.
func (c *compiler) givesWay(u *unitOf, i *Incarnation) bool {
	isFormer := u.Target != nil && i.Machine != u.Target.Machine
	return isFormer && u.Update == StrategyRecreate && c.prepared(u.Target)
}

// changing reports whether something is under way in the object's machines that
// falling asleep would cut off.
func (c *compiler) changing(u *unitOf) bool {
	i := cmp.Or(u.Target, u.Serving)
	if i == nil {
		return true
	}
	setup, _, _ := observed[resource.Setup](c, i.Machine)
	return u.Update != "" || setup.Run.Running
}
