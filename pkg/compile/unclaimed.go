package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// unclaimed are the machines that are on the host without their claim. Claims
// are made before what they are for and outlive it, so the ledger has lost
// entries: somebody restored an older one, or edited it. Until it is mended
// nothing that such a machine has, or stands on, goes or is given to another.
type unclaimed struct {
	machines map[string]string // by their object's name
	slots    map[int]bool
	addrs    map[netip.Addr]bool
}

// machineKinds show that there is a machine: its directory, its process and its
// link, for one of them may be gone or Unknown.
var machineKinds = []resource.Kind{resource.KindInstance, resource.KindUnit, resource.KindLink}

func (c *compiler) findUnclaimed() {
	u := unclaimed{machines: map[string]string{}, slots: map[int]bool{}, addrs: map[netip.Addr]bool{}}
	for _, k := range machineKinds {
		for _, r := range c.Observed[k].Items {
			if r.Owner == "" || r.Instance == "" || c.isClaimed(r) {
				continue
			}
			if i := strings.LastIndexByte(r.Instance, '-'); i > 0 {
				name := r.Instance[:i]
				u.machines[name] = min(r.Instance, cmp.Or(u.machines[name], r.Instance))
			}
			var slot int
			switch v := r.Value.(type) {
			case resource.Instance:
				slot = v.Slot
			case resource.Link:
				slot, _ = strconv.Atoi(strings.TrimPrefix(v.Name, c.Naming.LinkPrefix()))
			default: // a unit does not know its slot
				continue
			}
			u.slots[slot], u.addrs[c.Naming.Addr(slot)] = true, true
		}
	}
	// Something may be on the host for an instance that has no machine yet, too.
	for owner, records := range c.Claims.Instances {
		if c.objectName(owner) != "" {
			continue
		}
		for _, r := range records {
			u.slots[r.Slot], u.addrs[c.Naming.Addr(r.Slot)] = true, true
		}
	}
	c.unclaimed, c.out.Unclaimed = u, slices.Sorted(maps.Values(u.machines))
}

// isClaimed reports whether the ledger has the instance that a thing is of.
func (c *compiler) isClaimed(r resource.Resource) bool {
	name := c.objectName(r.Owner)
	for _, i := range c.Claims.Instances[r.Owner] {
		if name != "" && r.Instance == c.Naming.Machine(name, i.Ordinal) {
			return true
		}
	}
	return false
}

// keepUnclaimed leaves an object alone that has a machine without its claim, or
// whose name another one's has.
func (c *compiler) keepUnclaimed(u *unitOf) {
	machine, found := c.unclaimed.machines[u.Record.Name]
	if !found {
		return
	}
	u.keep = true
	u.note(v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "LedgerDamaged",
		"machine %s is there, but the ledger has lost its claim; nothing of it is touched; restore the ledger, or remove the machine by hand", machine)
}

// holdExceptions leaves the links of machines alone whose addresses are not claimed.
func (c *compiler) holdExceptions() {
	for id, r := range c.Observed[resource.KindException].Items {
		e := r.Value.(resource.Exception)
		if c.unclaimed.addrs[e.From] || c.unclaimed.addrs[e.To] {
			c.hold(id)
		}
	}
}
