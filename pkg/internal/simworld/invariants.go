package simworld

import (
	"fmt"
	"time"

	"tekton.host/pkg/resource"
)

// check asserts, before a step is taken, what must hold at every moment.
func (w *World) check(s resource.Step) error {
	violated := func(invariant, format string, args ...any) error {
		return &Violation{invariant, s, fmt.Sprintf(format, args...)}
	}
	r := s.Resource
	old, exists := w.Things[r.ID]
	if s.Verb == resource.Delete && w.Foreign[r.ID] {
		return violated("I3 foreign-safe", "it is not ours")
	}
	if s.Verb == resource.Delete && exists && old.Owner != r.Owner && !takenOver(old, s) {
		return violated("I3 foreign-safe", "it belongs to %s", old.Owner)
	}
	switch v := r.Value.(type) {
	case resource.Instance:
		return w.checkInstance(s, v, violated)
	case resource.Access:
		if s.Verb == resource.Put && !w.ownsDatabase(r.Owner, v.Database) {
			return violated("I4 unique", "%s is given the database of somebody else", r.Owner)
		}
	case resource.Unit:
		if s.Verb == resource.Put {
			return w.checkStart(s, violated)
		}
		if s.Reason != "restart asked for" && w.isGated(r) {
			return violated("design §3", "the activator still sends requests to the machine")
		}
		if w.isRouted(r) {
			return violated("design §3", "a route still points to the machine of a deleted object")
		}
	case resource.Link:
		if s.Verb == resource.Put && !w.isolated(r) {
			return violated("I5 no early exposure", "the link exists before its firewall element")
		}
		return w.checkAddress(s, v, violated)
	case resource.Endpoint:
		if s.Verb == resource.Delete && w.runs(r.Instance) {
			return violated("design §3", "the firewall element goes while the machine runs")
		}
	case resource.GCRoot:
		if s.Verb == resource.Delete && w.runs(r.Instance) {
			return violated("design §3", "the garbage collector root goes while the machine runs")
		}
	case resource.Route:
		if s.Verb == resource.Put && v.Gate == "" && !w.backendAnswers(v.Backend.Addr()) {
			return violated("I5 no early exposure", "nothing at %s has answered", v.Backend)
		}
		if s.Verb == resource.Put && v.Gate != "" && !w.hasThing(resource.KindGate, v.Gate) {
			return violated("design §3", "the activator knows of no gate %s", v.Gate)
		}
	case resource.Gate:
		if s.Verb == resource.Put && v.Backend.IsValid() && !w.backendAnswers(v.Backend) {
			return violated("I5 no early exposure", "nothing at %s has answered", v.Backend)
		}
		if s.Verb == resource.Delete && w.has(resource.KindRoute, func(r resource.Resource) bool { return r.Value.(resource.Route).Gate == s.Resource.Name }) {
			return violated("design §3", "a route still leads to it")
		}
	case resource.Answer:
		if have, ok := w.Things[resource.ID{Kind: resource.KindSetup, Name: r.Name}].Value.(resource.Setup); ok && s.Verb == resource.Put && have.Run.Boot != v.Boot {
			return violated("I5 no early exposure", "it is probed before it was set up in this start")
		}
	case resource.Setup:
		return w.checkSetup(s, v, violated)
	case resource.Volume:
		return w.checkData(s, v.Policy, violated)
	case resource.Database:
		return w.checkData(s, v.Policy, violated)
	}
	return nil
}

type violatedFunc func(invariant, format string, args ...any) error

func (w *World) isolated(r resource.Resource) bool {
	_, endpoint := w.Things[resource.ID{Kind: resource.KindEndpoint, Name: r.Name}]
	any := func(resource.Resource) bool { return true }
	return endpoint && w.has(resource.KindTable, any) && w.has(resource.KindPolicy, any)
}

func (w *World) checkStart(s resource.Step, violated violatedFunc) error {
	r := s.Resource
	link := false
	u, _ := w.unit(r.Name)
	for id, x := range w.Things {
		if x.Instance != r.Instance {
			continue
		}
		if id.Kind == resource.KindAttachment && !u.Running { // else it is updated in place
			return violated("design §6", "the link is attached to an ended machine")
		}
		if id.Kind == resource.KindLink {
			link = true
			if !w.isolated(x) {
				return violated("I5 no early exposure", "the machine starts before its firewall element")
			}
		}
	}
	instance, prepared := w.Things[resource.ID{Kind: resource.KindInstance, Name: r.Name}]
	if !prepared || !link {
		return violated("design §3", "the machine starts without its directory or link")
	}
	// The simulated host is a NixOS one: its own userland lies in the store, too.
	if system := instance.Value.(resource.Instance).System; (system.Host || system.StorePath != "") && !w.hasThing(resource.KindGCRoot, r.Name) {
		return violated("design §3", "the machine starts before its garbage collector root")
	}
	return nil
}

func (w *World) runs(machine string) bool {
	return w.has(resource.KindUnit, func(u resource.Resource) bool { return u.Instance == machine && u.Value.(resource.Unit).Running })
}

// checkAddress asserts I4 for a link's address.
func (w *World) checkAddress(s resource.Step, v resource.Link, violated violatedFunc) error {
	if s.Verb != resource.Put {
		return nil
	}
	for id, x := range w.Things {
		if id.Kind == resource.KindInstance && x.Instance != s.Resource.Instance && x.Value.(resource.Instance).Addr == v.Addr {
			return violated("I4 unique", "%s has the address of %s", s.Resource.Instance, x.Instance)
		}
	}
	return nil
}

// checkInstance asserts I4 for what is an instance's own: its slot, address,
// uid range and, between objects, its hostname.
func (w *World) checkInstance(s resource.Step, v resource.Instance, violated violatedFunc) error {
	if s.Verb != resource.Put {
		return nil
	}
	if p := v.System.StorePath; p != "" && v.Container == "" && !w.built(p) { // a container names its own
		return violated("design §3", "its system %s was not built", p)
	}
	for id, x := range w.Things {
		if id.Kind != resource.KindInstance || x.Name == s.Resource.Name {
			continue
		}
		y := x.Value.(resource.Instance)
		switch {
		case y.Slot == v.Slot, y.Addr == v.Addr, y.UIDBase == v.UIDBase && v.UIDBase != 0:
			return violated("I4 unique", "%s has slot %d, address %s and uids from %d", x.Name, y.Slot, y.Addr, y.UIDBase)
		case y.Hostname == v.Hostname && x.Owner != s.Resource.Owner:
			return violated("I4 unique", "%s of %s is named %s, too", x.Name, x.Owner, y.Hostname)
		}
	}
	return nil
}

func (w *World) ownsDatabase(owner, name string) bool {
	return w.Things[resource.ID{Kind: resource.KindDatabase, Name: name}].Owner == owner
}

// takenOver reports whether the thing went to another owner after the step was
// planned: the drivers then answer that it is stale.
func takenOver(now resource.Resource, s resource.Step) bool {
	return s.Seen != nil && s.Seen.Owner == s.Resource.Owner && now.Owner != s.Seen.Owner
}

// ownMark are the kinds of things that their drivers give to no other object,
// whatever the plan saw.
var ownMark = map[resource.Kind]bool{resource.KindVolume: true, resource.KindInstance: true, resource.KindUnit: true}

// refuse is the part of a driver's own checks that the engine relies on: the
// thing may be somebody else's by now.
func (w *World) refuse(s resource.Step) error {
	r := s.Resource
	if w.Foreign[r.ID] {
		return resource.Terminal("Conflict", fmt.Errorf("%s is there already and not ours; rename or remove it", r.ID))
	}
	if now, exists := w.Things[r.ID]; exists && now.Owner != r.Owner {
		seen := s.Seen != nil && s.Seen.Owner == now.Owner
		expected := s.Verb == resource.Put && (now.Owner == resource.RetainedOwner || seen)
		if seen && ownMark[r.Kind] && now.Owner != resource.RetainedOwner {
			return resource.Taken("Conflict", fmt.Errorf("%s belongs to %s", r.ID, now.Owner))
		}
		if !expected {
			return resource.ErrStale
		}
	}
	u, there := w.unit(r.Name)
	volume, _ := r.Value.(resource.Volume)
	switch {
	case s.Verb == resource.Put && volume.Clone.Commit != "" && !w.fetched(volume.Clone.URL, volume.Clone.Commit):
		return resource.Because("CloneFailed", fmt.Errorf("commit %s is not there", volume.Clone.Commit))
	case r.Kind == resource.KindUnit && s.Verb == resource.Put && !w.hasThing(resource.KindInstance, r.Name):
		return resource.ErrStale
	case r.Kind == resource.KindInstance && s.Verb == resource.Delete && there && u.Running:
		return resource.Because("StillRunning", fmt.Errorf("machine %s still runs", r.Name))
	case r.Kind == resource.KindRole && s.Verb == resource.Delete:
		d, left := w.Things[resource.ID{Kind: resource.KindDatabase, Name: r.Name}]
		if left && d.Owner != resource.RetainedOwner {
			return resource.Waiting("DatabaseStays", time.Second, fmt.Errorf("role %s still owns a database", r.Name))
		}
	}
	return nil
}

func (w *World) hasThing(kind resource.Kind, name string) bool {
	_, there := w.Things[resource.ID{Kind: kind, Name: name}]
	return there
}

// isRouted reports whether a route of a deleted object points to the unit.
func (w *World) isRouted(u resource.Resource) bool {
	if _, dead := w.Claims["tombstone/"+u.Owner]; !dead {
		return false
	}
	return w.has(resource.KindRoute, func(r resource.Resource) bool { return r.Owner == u.Owner })
}

// checkData asserts I6: data goes only for an object whose deletion was asked for.
func (w *World) checkData(s resource.Step, policy resource.DeletionPolicy, violated violatedFunc) error {
	if s.Verb != resource.Delete || policy != resource.DeleteData {
		return nil
	}
	if _, dead := w.Claims["tombstone/"+s.Resource.Owner]; !dead {
		return violated("I6 no lost data", "no deletion of %s was asked for", s.Resource.Owner)
	}
	return nil
}
