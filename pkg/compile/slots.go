package compile

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"tekton.host/pkg/resource"
)

// slotPool gives out slots: the lowest that is unclaimed and unseen on the
// host; when there is none, the one that has cooled down longest.
type slotPool struct {
	c     *compiler
	total int
	taken map[int]bool   // in use, or seen on the host
	used  map[int]string // slot → machine that keeps it
	next  int
	// claimed slots by machine.
	claimed map[string]int
	cool    []int // cooling slots, longest first
}

func newSlotPool(c *compiler) *slotPool {
	p := &slotPool{c: c, total: c.Naming.Slots(), taken: map[int]bool{}, used: map[int]string{}, claimed: map[string]int{}, next: 1}
	for n, r := range c.Claims.Slots {
		p.taken[n] = true
		if r.Freed.IsZero() {
			p.claimed[r.Machine] = n
		} else {
			p.cool = append(p.cool, n)
		}
	}
	// An instance's own record counts as much: the slot's claim may not have been
	// written yet. Records of no known object are on their way out.
	for _, o := range c.Objects {
		for _, r := range c.Claims.Instances[o.Record.UID] {
			p.taken[r.Slot] = true
			p.claimed[c.Naming.Machine(o.Record.Name, r.Ordinal)] = r.Slot
		}
	}
	slices.SortFunc(p.cool, func(a, b int) int {
		return cmp.Or(c.Claims.Slots[a].Freed.Compare(c.Claims.Slots[b].Freed), cmp.Compare(a, b))
	})
	maps.Copy(p.taken, c.unclaimed.slots)
	// A slot without a claim may still be seen on the host: a link or an address of an older life.
	for _, k := range []resource.Kind{resource.KindLink, resource.KindAttachment, resource.KindEndpoint} {
		for _, r := range c.Observed[k].Items {
			if n, err := strconv.Atoi(r.Name[min(len(c.Naming.LinkPrefix()), len(r.Name)):]); err == nil {
				p.taken[n] = true
			}
		}
	}
	return p
}

// keep says that a machine still has its slot.
func (p *slotPool) keep(n int, machine string) { p.used[n], p.taken[n] = machine, true }

// take gives a slot to a machine: the one that it has claimed already, should
// only the rest of its claims be missing, else a free one.
func (p *slotPool) take(machine string) (int, bool) {
	if n, claimed := p.claimed[machine]; claimed && p.used[n] == "" {
		p.keep(n, machine)
		return n, true
	}
	for ; p.next <= p.total; p.next++ {
		if !p.taken[p.next] {
			p.keep(p.next, machine)
			return p.next, true
		}
	}
	for i, n := range p.cool {
		if p.used[n] == "" && n <= p.total {
			p.cool = slices.Delete(p.cool, i, i+1)
			p.keep(n, machine)
			return n, true
		}
	}
	return 0, false
}

// release emits the claims of all slots: in use, freed now, or cooling down.
// Those that have cooled down are left out and thereby given back.
func (p *slotPool) release() {
	cooldown := 5 * time.Minute
	if d := p.c.Host.SlotCooldown; d != nil {
		cooldown = d.Duration
	}
	for n, machine := range p.used {
		p.c.wantRecord(slotKey(n), resource.HostOwner, SlotRecord{Machine: machine})
	}
	for _, n := range slices.Sorted(maps.Keys(p.c.Claims.Slots)) {
		r := p.c.Claims.Slots[n]
		if p.used[n] != "" {
			continue
		}
		if p.c.holdsSlot(n, r.Machine) || p.c.unclaimed.slots[n] {
			p.c.hold(resource.ID{Kind: resource.KindClaim, Name: slotKey(n)})
			continue
		}
		// Freed in the future is a clock that was set back.
		if r.Freed.IsZero() || r.Freed.After(p.c.Now) {
			r.Freed = p.c.Now
		}
		if due := r.Freed.Add(cooldown); due.After(p.c.Now) {
			p.c.wantRecord(slotKey(n), resource.HostOwner, r)
			p.c.wake(due)
		}
	}
}

// holder is a machine with the slot that it has.
type holder struct {
	machine string
	slot    int
}

// holdsSlot reports whether a claimed instance still names the machine and the
// slot: its object is paused or an input is unknown, so nobody spoke for the
// slot. By name alone an object that comes again, in another slot, would hold
// that of its earlier life for good.
func (c *compiler) holdsSlot(n int, machine string) bool {
	if c.machines == nil {
		c.machines = map[holder]bool{}
		for uid, records := range c.Claims.Instances {
			for _, r := range records {
				c.machines[holder{c.Naming.Machine(c.objectName(uid), r.Ordinal), r.Slot}] = true
			}
		}
	}
	return c.machines[holder{machine, n}]
}

// objectName is the name that a UID was claimed under.
func (c *compiler) objectName(uid string) string {
	if t, gone := c.Claims.Tombstones[uid]; gone {
		return t.Name
	}
	return c.Claims.ByUID[uid].Name
}

func slotKey(n int) string { return slotPrefix + strconv.Itoa(n) }
