package simworld

import (
	"time"

	"tekton.host/pkg/resource"
)

// gate is what becomes of a gate that is put: who is asleep, the activator knows better.
func (w *World) gate(r resource.Resource, v resource.Gate) resource.Gate {
	v.Asleep, v.Since, v.MovedAt = false, time.Time{}, time.Time{}
	if v.Backend.IsValid() {
		v.MovedAt = w.Now
	}
	if have, there := w.Things[r.ID]; there && have.Owner == r.Owner {
		old := have.Value.(resource.Gate)
		if old.Asleep && v.Generation <= old.Generation {
			v.Asleep, v.Since = true, old.Since
		}
		if old.Backend == v.Backend {
			v.MovedAt = old.MovedAt
		}
	}
	return v
}

// Idle lets an object fall asleep, if the activator would: nobody asks for it.
func (w *World) Idle(name string) bool {
	r, there := w.Things[resource.ID{Kind: resource.KindGate, Name: name}]
	if !there || w.services[resource.KindActivator].down {
		return false
	}
	g := r.Value.(resource.Gate)
	if g.SleepAfter == 0 || !g.Backend.IsValid() {
		return false
	}
	g.Asleep, g.Since = true, w.Now
	r.Value = g
	w.Things[r.ID] = r
	return true
}

// Request asks for an object through the activator. served: a machine answers it now.
func (w *World) Request(name string) (served bool) {
	r, there := w.Things[resource.ID{Kind: resource.KindGate, Name: name}]
	if !there {
		return false
	}
	g := r.Value.(resource.Gate)
	g.Asleep, g.Since = false, time.Time{}
	r.Value = g
	w.Things[r.ID] = r
	return w.has(resource.KindInstance, func(i resource.Resource) bool {
		return i.Value.(resource.Instance).Addr == g.Backend && w.runs(i.Instance)
	})
}

// isGated reports whether the activator sends requests to a unit's machine.
func (w *World) isGated(u resource.Resource) bool {
	i, there := w.Things[resource.ID{Kind: resource.KindInstance, Name: u.Name}]
	return there && w.has(resource.KindGate, func(r resource.Resource) bool {
		return r.Value.(resource.Gate).Backend == i.Value.(resource.Instance).Addr
	})
}
