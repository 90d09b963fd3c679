package compile

import (
	"slices"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// keptDumps of an object from before its revisions: enough that the one from
// before a broken migration is still there after some attempts to mend it.
const keptDumps = 5

// history completes a wanted database with what was done with it: what it tells
// itself, and what the object's machines have done since.
func (c *compiler) history(u *unitOf, want resource.Database) resource.Database {
	have, present, _ := observed[resource.Database](c, want.Name)
	want.Revision, want.Seeded = have.Revision, have.Seeded
	if !present {
		return want
	}
	for _, s := range c.setupsOf(u) {
		if s.Run.With == have.OID && s.Run.With != 0 {
			want.Revision = s.Run.Done
		}
		want.Seeded = want.Seeded || s.Run.Seeded == have.OID && s.Run.Seeded != 0
	}
	return want
}

// setupsOf are those of all incarnations of an object, the newest last.
func (c *compiler) setupsOf(u *unitOf) []resource.Setup {
	var all []resource.Setup
	for _, r := range c.Claims.Instances[u.Record.UID] {
		if v, present, _ := observed[resource.Setup](c, c.Naming.Machine(u.Record.Name, r.Ordinal)); present {
			all = append(all, v)
		}
	}
	return all
}

// keepHistory leaves what removed incarnations were set up for until the
// databases tell that themselves.
func (c *compiler) keepHistory(u *unitOf) {
	for _, d := range u.Spec.Databases {
		name := c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, d.Name)
		have, present, known := observed[resource.Database](c, name)
		if known && (!present || c.history(u, have).Equal(have)) {
			continue
		}
		for _, i := range u.dropped {
			c.hold(resource.ID{Kind: resource.KindSetup, Name: i.Machine})
		}
	}
}

// setupDatabase is the database that the wanted setup works with. known is false
// while nobody can tell which that is, or what was done with it.
func (c *compiler) setupDatabase(u *unitOf) (d *resource.SetupDatabase, known bool) {
	s := u.Spec.Setup
	if s.Database == "" {
		return nil, true
	}
	name := c.Naming.DatabaseName(u.Record.Kind, u.Record.Name, s.Database)
	have, present, _ := observed[resource.Database](c, name)
	if !present {
		return nil, false
	}
	d = &resource.SetupDatabase{Name: name, OID: have.OID}
	if !c.history(u, have).Seeded {
		d.Seed = s.Seed
	}
	return d, true
}

// readyFor reports whether the wanted setup may begin: its database is known, and
// dumped where it has to be.
func (c *compiler) readyFor(u *unitOf) bool {
	dump, needed := c.dumpFor(u)
	_, known := c.setupDatabase(u)
	return known && (!needed || c.dumped(dump))
}

// dumped reports whether a wanted dump is made. One from before another revision
// was set up is not that: the database has been written to since.
func (c *compiler) dumped(want resource.Resource) bool {
	have, present, _ := c.Observed.Get(want.ID)
	return present && want.Value.Equal(have.Value)
}

// dumpFor is the dump that has to be made before the target is set up for what the
// spec asks for: there is one each time that the revision changes, none of the
// first, and none between attempts.
func (c *compiler) dumpFor(u *unitOf) (r resource.Resource, needed bool) {
	if !u.asWanted || u.Spec.Setup == nil || u.Spec.Disabled() {
		return r, false
	}
	d, _ := c.setupDatabase(u)
	if d == nil {
		return r, false
	}
	have, _, _ := observed[resource.Database](c, d.Name)
	was, next := c.history(u, have).Revision, u.Spec.Setup.Revision
	begun, _, _ := observed[resource.Setup](c, u.Target.Machine)
	if was == "" || was == next || begun.Revision == next {
		return r, false
	}
	var after time.Time
	for _, s := range c.setupsOf(u) {
		if s.Run.With == have.OID && s.Run.Done != next && s.Run.DoneAt.After(after) {
			after = s.Run.DoneAt
		}
	}
	return resource.New(u.Record.UID, "", d.Name+"@"+next, resource.Dump{Database: d.Name, Revision: next, After: after}), true
}

// emitDump wants that dump.
func (c *compiler) emitDump(u *unitOf) {
	if r, needed := c.dumpFor(u); needed {
		c.want(r)
	}
}

// noteDump says how the dump before a setup goes, once one is due.
func (c *compiler) noteDump(u *unitOf) bool {
	r, needed := c.dumpFor(u)
	if !needed || c.dumped(r) {
		return false
	}
	note := Note{Type: v1alpha1.ConditionSetUp, Status: v1alpha1.ConditionFalse, Reason: "Dumping"}
	note.Message = "the database is dumped to the trash before another revision is set up"
	if f, failed := c.Failures[r.ID]; failed {
		note.Reason, note.Message, note.NextRetry = f.Reason, "nothing is set up before the database is dumped: "+f.Message, f.RetryAt
	}
	u.Notes = append(u.Notes, note)
	return true
}

// holdDumps leaves dumps to the trash, which keeps them for its time: of a live
// object the newest ones, of others all.
func (c *compiler) holdDumps(units []*unitOf) {
	byOwner := map[string][]resource.Resource{}
	for _, r := range c.Observed[resource.KindDump].Items {
		byOwner[r.Owner] = append(byOwner[r.Owner], r)
	}
	for _, u := range units {
		dumps := byOwner[u.Record.UID]
		if !u.live || u.keep || len(dumps) <= keptDumps {
			continue
		}
		slices.SortFunc(dumps, func(a, b resource.Resource) int {
			if n := b.Value.(resource.Dump).MadeAt.Compare(a.Value.(resource.Dump).MadeAt); n != 0 {
				return n
			}
			return a.Compare(b.ID)
		})
		byOwner[u.Record.UID] = dumps[:keptDumps]
	}
	for _, dumps := range byOwner {
		for _, r := range dumps {
			if !c.wanted(r.Kind, r.Name) {
				c.hold(r.ID)
			}
		}
	}
}
