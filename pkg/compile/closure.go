package compile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// build wants a closure, and returns what is known of it.
func (c *compiler) build(u *unitOf, want resource.Closure, refresh time.Duration) (resource.Closure, job) {
	u.Closure = want.Name()
	have, j := newJob[resource.Closure](c, u.Closure)
	u.Build = have.Build
	j.lost, j.parallel, j.refresh = have.Unrooted, c.Host.Nix.ParallelBuilds, refresh
	j.value = func(attempt int, lost bool) resource.Worked {
		v := want
		v.Attempt, v.Unrooted, v.Deadline = attempt, lost, resource.Duration(c.Host.Nix.BuildTimeout.Duration)
		if m := c.Host.Nix.MemoryMax; m != nil {
			v.Limits.MemoryMax = m.Bytes
		}
		v.Limits.CPUQuota, _ = v1alpha1.ParseCPUQuota(c.Host.Nix.CPUQuota)
		return v
	}
	if !u.Spec.Disabled() && !u.Spec.Paused {
		c.wantJob(j)
	} else if j.present {
		c.hold(j.id)
	}
	return have, j
}

// noteBuilding says why there is no result yet.
func (c *compiler) noteBuilding(u *unitOf, j job) {
	c.noteJob(u, j, Note{Type: v1alpha1.ConditionBuilt, Status: v1alpha1.ConditionFalse, Reason: "Building", Message: buildMessage(u.Build.Progress)},
		Note{Reason: "BuildQueued", Message: fmt.Sprintf("waits until fewer than %d builds run (Host.spec.nix.parallelBuilds)", c.Host.Nix.ParallelBuilds)})
}

// noteBuilt says how a later attempt went than the one whose result is used.
func (c *compiler) noteBuilt(u *unitOf, j job) {
	c.noteStale(u, j, v1alpha1.ConditionBuilt, "what was built before stays")
}

// resolveSystem turns a flake into the store path that it builds to, and wants
// its closure. Until that is known, what is there of the object runs on.
func (c *compiler) resolveSystem(u *unitOf) {
	flake := u.Spec.System.Flake
	if flake == "" {
		return
	}
	have, j := c.build(u, resource.Closure{Flake: flake, Trusted: u.Spec.Trust == "trusted"}, refreshOf(u.Spec.System.Refresh))
	path := have.Build.Result.StorePath
	if path == "" {
		path = c.builtBefore(u, flake)
	}
	if path == "" {
		u.waiting = true
		c.noteBuilding(u, j)
		return
	}
	resolved := *u.Spec
	resolved.System.StorePath = path
	u.Spec, u.effective = &resolved, &resolved
	c.noteBuilt(u, j)
}

// builtFor remembers what the flake of the wanted spec was built to.
func (r *InstanceRecord) builtFor(u *unitOf) {
	r.Flake, r.StorePath = "", ""
	if f := u.Spec.System.Flake; f != "" {
		r.Flake, r.StorePath = f, u.Spec.System.StorePath
	}
}

func refreshOf(d *v1alpha1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

// builtBefore is the store path that the newest incarnation of the same flake
// runs: what is known of the build may be lost.
func (c *compiler) builtBefore(u *unitOf, flake string) string {
	for _, r := range slices.Backward(c.Claims.Instances[u.Record.UID]) {
		if r.Flake == flake && r.StorePath != "" {
			return r.StorePath
		}
	}
	return ""
}

func buildMessage(p resource.Progress) string {
	msg := p.Phase
	if msg == "" {
		return "the build begins"
	}
	if len(p.Building) > 0 {
		msg += " " + strings.Join(p.Building, ", ")
	}
	if p.Expected > 0 {
		msg += fmt.Sprintf(" (%d of %d done)", p.Done, p.Expected)
	}
	return msg
}
