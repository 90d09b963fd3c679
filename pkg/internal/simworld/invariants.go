package simworld

import (
	"fmt"

	"tekton.host/pkg/resource"
)

// check asserts, before a step is taken, what must hold at every moment.
func (w *World) check(s resource.Step) error {
	violated := func(invariant, format string, args ...any) error {
		return &Violation{invariant, s, fmt.Sprintf(format, args...)}
	}
	r := s.Resource
	old, exists := w.Things[r.ID]
	if s.Verb == resource.Delete && exists && old.Owner != r.Owner {
		return violated("I3 foreign-safe", "it belongs to %s", old.Owner)
	}
	switch v := r.Value.(type) {
	case resource.Unit:
		if s.Verb == resource.Put {
			return w.checkStart(s, violated)
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
		if s.Verb == resource.Delete && w.has(resource.KindUnit, func(u resource.Resource) bool {
			return u.Instance == r.Instance && u.Value.(resource.Unit).Running
		}) {
			return violated("design §3", "the firewall element goes while the machine runs")
		}
	case resource.Route:
		if s.Verb == resource.Put && !w.backendAnswers(v.Backend.Addr()) {
			return violated("I5 no early exposure", "nothing at %s has answered", v.Backend)
		}
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
	for id, x := range w.Things {
		if x.Instance != r.Instance {
			continue
		}
		if id.Kind == resource.KindAttachment {
			return violated("design §6", "the link is attached to an ended machine")
		}
		if id.Kind == resource.KindLink {
			link = true
			if !w.isolated(x) {
				return violated("I5 no early exposure", "the machine starts before its firewall element")
			}
		}
	}
	if _, prepared := w.Things[resource.ID{Kind: resource.KindInstance, Name: r.Name}]; !prepared || !link {
		return violated("design §3", "the machine starts without its directory or link")
	}
	return nil
}

// checkAddress asserts I4 for what a slot gives: link, address, uid range.
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
