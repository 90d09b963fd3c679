package simworld

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tekton.host/pkg/resource"
)

// Image is what a machine's userland does when it is started.
type Image string

const (
	Works   Image = ""
	Crashes Image = "ends at once"
	Mute    Image = "runs and never answers"
)

// service is a process of the host's own that can be down while its files stay.
type service struct {
	// down and stuck: it does not run; it does not come up either.
	down, stuck bool
}

// services by the kind that stands for the process.
var services = []resource.Kind{resource.KindCluster, resource.KindProxy, resource.KindResolver, resource.KindActivator}

// Stop ends a service (PostgreSQL, Caddy, the resolver); stuck: it does not
// come up again until Repair.
func (w *World) Stop(kind resource.Kind, stuck bool) {
	w.services[kind] = service{down: true, stuck: stuck}
}

// Repair lets all services come up again.
func (w *World) Repair() {
	for k, s := range w.services {
		w.services[k] = service{down: s.down}
	}
}

// observeServices shows what the drivers show of a service that does not run:
// its files as they are, itself and what only it can tell as different or Unknown.
func (w *World) observeServices(o resource.Observed) {
	// What PostgreSQL retains is shown to nobody, be it up or not.
	for _, k := range []resource.Kind{resource.KindRole, resource.KindDatabase} {
		maps.DeleteFunc(o[k].Items, func(_ resource.ID, r resource.Resource) bool { return r.Owner == resource.RetainedOwner })
	}
	for kind, s := range w.services {
		if d := o[kind]; !s.down || d.Err != nil || len(d.Items) == 0 {
			continue
		}
		for id, r := range o[kind].Items {
			r.Value = stopped(r.Value)
			o[kind].Items[id] = r
		}
		switch kind {
		case resource.KindCluster:
			err := fmt.Errorf("PostgreSQL does not answer")
			o[resource.KindRole], o[resource.KindDatabase] = resource.Unknown(err), resource.Unknown(err)
		case resource.KindProxy:
			for id, r := range o[resource.KindRoute].Items {
				r.Value = stopped(r.Value)
				o[resource.KindRoute].Items[id] = r
			}
		}
	}
}

func stopped(v resource.Value) resource.Value {
	switch v := v.(type) {
	case resource.Cluster:
		return resource.Cluster{}
	case resource.Resolver:
		return resource.Resolver{}
	case resource.Activator:
		return resource.Activator{}
	case resource.Proxy:
		v.HTTPPort = 0
		return v
	case resource.Route:
		v.Backend = netip.AddrPort{}
		return v
	}
	return v
}

// serve puts or deletes a service, or refuses what needs one that does not run.
func (w *World) serve(s resource.Step) error {
	kind := s.Resource.Kind
	switch kind {
	case resource.KindRole, resource.KindDatabase, resource.KindDump:
		if s.Verb == resource.Delete && kind == resource.KindDump {
			return nil // a file
		}
		if w.services[resource.KindCluster].down || !w.has(resource.KindCluster, func(resource.Resource) bool { return true }) {
			return resource.Because("PostgresUnavailable", fmt.Errorf("%s: PostgreSQL does not answer", s))
		}
	case resource.KindRoute:
		if w.services[resource.KindProxy].stuck {
			return fmt.Errorf("%s: Caddy does not answer", s)
		}
	case resource.KindGate:
		if s.Verb == resource.Put && w.services[resource.KindActivator].down {
			return resource.Waiting("ActivatorDown", time.Second, fmt.Errorf("%s: the activator does not run", s))
		}
	}
	if !slices.Contains(services, kind) {
		return nil
	}
	if s.Verb == resource.Put && w.services[kind].stuck {
		return fmt.Errorf("%s: it does not come up", s)
	}
	delete(w.services, kind)
	return nil
}

// unsynced kinds are written without fsync: a power cut may take their latest
// writes back (answers, status files of machines, generations of the proxy).
var unsynced = map[resource.Kind]bool{
	resource.KindAnswer: true, resource.KindUnit: true, resource.KindRoute: true, resource.KindProxy: true,
}

// writeback is how long the kernel may keep written pages in memory only
// (vm.dirty_expire_centisecs and the flusher's interval: 30 s + 5 s).
const writeback = 35 * time.Second

// write is what an unsynced write replaced.
type write struct {
	at  time.Time
	id  resource.ID
	old resource.Resource
	had bool
}

// remember notes what a write to an unsynced thing replaces.
func (w *World) remember(id resource.ID) {
	if !unsynced[id.Kind] {
		return
	}
	w.dirty = slices.DeleteFunc(w.dirty, func(x write) bool { return w.Now.Sub(x.at) > writeback })
	old, had := w.Things[id]
	w.dirty = append(w.dirty, write{w.Now, id, old, had})
}

// PowerCut is a reboot that also loses what was not on the disk yet.
func (w *World) PowerCut() {
	for _, x := range slices.Backward(w.dirty) {
		// Their directory was synced: what is gone with it stays gone.
		// A new one of the same name has no files of the former.
		i, dir := w.Things[resource.ID{Kind: resource.KindInstance, Name: x.id.Name}]
		dir = dir && i.Owner == x.old.Owner
		perMachine := x.id.Kind == resource.KindAnswer || x.id.Kind == resource.KindUnit
		switch {
		case w.Now.Sub(x.at) > writeback:
		case x.had && (dir || !perMachine):
			w.Things[x.id] = x.old
		default:
			delete(w.Things, x.id)
		}
	}
	w.dirty = nil
	if !w.has(resource.KindProxy, func(resource.Resource) bool { return true }) {
		maps.DeleteFunc(w.Things, func(id resource.ID, _ resource.Resource) bool { return id.Kind == resource.KindRoute })
	}
	w.Reboot()
}

// Reboot ends all processes; links and rules are gone, files stay.
func (w *World) Reboot() {
	w.interruptJobs()
	w.interruptSetups(func(resource.Resource) bool { return true }, "Interrupted")
	for id, r := range w.Things {
		switch id.Kind {
		case resource.KindAttachment, resource.KindLink, resource.KindEndpoint, resource.KindException,
			resource.KindTable, resource.KindPolicy, resource.KindAddress, resource.KindSysctl:
			delete(w.Things, id)
		case resource.KindCluster, resource.KindProxy, resource.KindResolver, resource.KindActivator:
			w.services[id.Kind] = service{down: true, stuck: w.services[id.Kind].stuck}
		case resource.KindUnit:
			// The end of the host is none of the machine's own: as if we had stopped it.
			if r.Value.(resource.Unit).Running {
				delete(w.Things, id)
			}
		}
	}
}

// ended is a unit that has ended by itself.
func ended(u resource.Unit, now time.Time, code int) resource.Unit {
	if now.Sub(u.StartedAt) >= resource.StableAfter {
		u.Failures = 0
	} else {
		u.Failures++
	}
	u.Running, u.Leader, u.ExitedAt, u.ExitCode = false, 0, now, code
	return u
}

// Clone returns a world that goes its own way from here.
func (w *World) Clone() *World {
	c := *w
	c.Things, c.Claims, c.Unknown = maps.Clone(w.Things), maps.Clone(w.Claims), maps.Clone(w.Unknown)
	c.Images, c.Starts, c.Made = maps.Clone(w.Images), maps.Clone(w.Starts), maps.Clone(w.Made)
	c.Flakes, c.Builds = maps.Clone(w.Flakes), maps.Clone(w.Builds)
	c.Texts = maps.Clone(w.Texts)
	c.Repositories, c.Fetches, c.Clones = maps.Clone(w.Repositories), maps.Clone(w.Fetches), maps.Clone(w.Clones)
	c.Templates, c.Seeds, c.Dumps = maps.Clone(w.Templates), maps.Clone(w.Seeds), maps.Clone(w.Dumps)
	c.SetupFails, c.Setups = maps.Clone(w.SetupFails), maps.Clone(w.Setups)
	c.Foreign, c.services = maps.Clone(w.Foreign), maps.Clone(w.services)
	c.Trash, c.dirty = slices.Clone(w.Trash), slices.Clone(w.dirty)
	return &c
}
