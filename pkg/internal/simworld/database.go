package simworld

import (
	"cmp"
	"fmt"
	"time"

	"tekton.host/pkg/resource"
)

// putDatabase makes a database, or changes what it tells of itself: what was done
// with it stays known.
func (w *World) putDatabase(r resource.Resource, v resource.Database) error {
	old, there := w.Things[r.ID].Value.(resource.Database)
	if !there && v.Template != "" && !w.Templates[v.Template] {
		// For so long that a run comes to its end without it.
		return resource.Waiting("TemplateMissing", time.Hour, fmt.Errorf("there is no template %s", v.Template))
	}
	w.making(r.ID)
	if v.Template, v.OID = "", old.OID; !there { // the template is not observed
		w.revision++
		v.OID = uint32(w.revision)
	}
	v.Revision, v.Seeded = cmp.Or(v.Revision, old.Revision), v.Seeded || old.Seeded
	r.Value = v
	w.Things[r.ID] = r
	return nil
}

// checkSetup asserts that a database is dumped before another revision is set up with it.
func (w *World) checkSetup(s resource.Step, v resource.Setup, violated violatedFunc) error {
	if v.Database == nil || s.Verb != resource.Put {
		return nil
	}
	db, _ := w.Things[resource.ID{Kind: resource.KindDatabase, Name: v.Database.Name}].Value.(resource.Database)
	old, _ := w.Things[s.Resource.ID].Value.(resource.Setup)
	dump := resource.ID{Kind: resource.KindDump, Name: v.Database.Name + "@" + v.Revision}
	made, _ := w.Things[dump].Value.(resource.Dump)
	if db.Revision != "" && db.Revision != v.Revision && old.Revision != v.Revision && (w.Dumps[dump] == 0 || made.MadeAt.Before(old.Run.DoneAt)) {
		return violated("I6 no lost data", "%s is set up before the database of %s was dumped", v.Revision, db.Revision)
	}
	return nil
}
