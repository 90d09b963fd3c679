package simworld

import "tekton.host/pkg/resource"

// beginSetup starts the wanted attempt, unless it was begun already.
func (w *World) beginSetup(r resource.Resource, v resource.Setup) error {
	u, there := w.unit(r.Name)
	if !there || !u.Running || u.Boot != v.Boot {
		return resource.ErrStale
	}
	if old, there := w.Things[r.ID].Value.(resource.Setup); there {
		if old.Equal(v) {
			return nil
		}
		v.Run.Done, v.Run.DoneAt, v.Run.Boot, v.Run.Started = old.Run.Done, old.Run.DoneAt, old.Run.Boot, old.Run.Started
		v.Run.With, v.Run.Seeded = old.Run.With, old.Run.Seeded
		if old.SameWork(v) {
			v.Run.Failures = old.Run.Failures
		}
	}
	if v.Run.Done != v.Revision {
		w.Setups[v.Revision]++
	}
	v.Run.Running, v.Run.StartedAt = true, w.Now
	r.Value = v
	w.Things[r.ID] = r
	return nil
}

// EndSetups lets all setups that run come to their end; false: none ran.
func (w *World) EndSetups() bool {
	return w.endSetups(func(resource.Resource) bool { return true }, func(v *resource.Setup) {
		run := &v.Run
		if run.Done != "" && run.Boot != v.Boot {
			run.Boot = v.Boot // what was set up before is started first
			run.Started++
		}
		if reason := w.SetupFails[v.Revision]; reason != "" {
			run.Reason, run.Message = reason, "the setup failed"
			run.Failures++
			return
		}
		if db := v.Database; db != nil && (run.Done != v.Revision || run.With != db.OID) && db.Seed != "" && run.Seeded != db.OID {
			if w.SeedFails {
				run.Reason, run.Message = "SeedFailed", "the seed failed"
				run.Failures++
				return
			}
			w.Seeds[db.OID]++
			run.Seeded = db.OID
		}
		if run.Done != v.Revision {
			run.DoneAt = w.Now
		}
		run.Started++
		if run.Failures, run.Done, run.Boot = 0, v.Revision, v.Boot; v.Database != nil {
			run.With = v.Database.OID
		}
	})
}

// interruptSetups is what the end of machines, or of the host, does to them.
func (w *World) interruptSetups(which func(resource.Resource) bool, reason string) {
	w.endSetups(which, func(v *resource.Setup) {
		v.Run.Reason, v.Run.Message = reason, "it was cut short"
		v.Run.Failures++
	})
}

func (w *World) endSetups(which func(resource.Resource) bool, how func(*resource.Setup)) bool {
	any := false
	for id, r := range w.Things {
		v, ok := r.Value.(resource.Setup)
		if !ok || !v.Run.Running || !which(r) {
			continue
		}
		any = true
		v.Run.Running, v.Run.EndedAt = false, w.Now
		how(&v)
		r.Value = v
		w.Things[id] = r
	}
	return any
}

// SettingUp reports whether a setup runs: its end is seen.
func (w *World) SettingUp() bool {
	return w.has(resource.KindSetup, func(r resource.Resource) bool { return r.Value.(resource.Setup).Run.Running })
}
