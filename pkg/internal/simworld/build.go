package simworld

import (
	"strings"

	"tekton.host/pkg/resource"
)

// beginBuild starts the wanted attempt, unless it was begun already.
func (w *World) beginBuild(r resource.Resource, v resource.Closure) error {
	old, there := w.Things[r.ID]
	if there {
		have := old.Value.(resource.Closure)
		if have.Attempt >= v.Attempt {
			return nil
		}
		v.Build = resource.Build{Job: resource.Job{Failures: have.Build.Failures}, Result: have.Build.Result}
	}
	w.Builds[v.Flake]++
	v.Build.Running, v.Build.StartedAt = true, w.Now
	r.Value = v
	w.Things[r.ID] = r
	return nil
}

// EndBuilds lets all builds that run come to their end; false: none ran.
func (w *World) EndBuilds() bool {
	return w.endBuilds(func(v *resource.Closure) {
		b := &v.Build
		path, fails := w.Flakes[v.Flake]
		if !fails {
			path = StorePath(v.Flake)
		}
		if path == "" {
			b.Reason, b.Message = "BuildFailed", "builder failed with exit code 1"
			b.Failures++
			return
		}
		b.Failures, b.Result = 0, resource.Built{StorePath: path, Locked: v.Flake + "?locked", LockedAt: w.Now}
	})
}

// Building reports whether a build runs: its end is seen.
func (w *World) Building() bool {
	return w.has(resource.KindClosure, func(r resource.Resource) bool { return r.Value.(resource.Closure).Build.Running })
}

// interruptBuilds is what a reboot does to them.
func (w *World) interruptBuilds() {
	w.endBuilds(func(v *resource.Closure) {
		v.Build.Reason, v.Build.Message = "Interrupted", "the host was restarted"
		v.Build.Failures++
	})
}

func (w *World) endBuilds(how func(*resource.Closure)) bool {
	any := false
	for id, r := range w.Things {
		v, ok := r.Value.(resource.Closure)
		if !ok || !v.Build.Running {
			continue
		}
		any = true
		v.Build.Running, v.Build.EndedAt = false, w.Now
		how(&v)
		r.Value = v
		w.Things[id] = r
	}
	return any
}

// StorePath is what a flake builds to where Flakes does not say otherwise.
func StorePath(flake string) string {
	return "/nix/store/" + resource.ClosureName(flake, false) + "-" + flake[strings.LastIndexByte(flake, '#')+1:]
}

// built reports whether a closure's latest build, or that of an instance, gave the path.
func (w *World) built(path string) bool {
	return w.has(resource.KindClosure, func(r resource.Resource) bool { return r.Value.(resource.Closure).Build.Result.StorePath == path }) ||
		w.has(resource.KindInstance, func(r resource.Resource) bool { return r.Value.(resource.Instance).System.StorePath == path })
}
