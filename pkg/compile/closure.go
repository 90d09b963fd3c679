package compile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// Failed builds are tried again, after 10 s doubling to 30 min.
const (
	rebuildFirst = 10 * time.Second
	rebuildMost  = 30 * time.Minute
)

// resolveSystem turns a flake into the store path that it builds to, and wants
// its closure. Until that is known, what is there of the object runs on.
func (c *compiler) resolveSystem(u *unitOf) {
	flake := u.Spec.System.Flake
	if flake == "" {
		return
	}
	u.Closure = resource.ClosureName(flake, u.Spec.Trust == "trusted")
	have, present, known := observed[resource.Closure](c, u.Closure)
	u.Build = have.Build
	if !u.Spec.Disabled() && !u.Spec.Paused {
		c.wantClosure(u, have, present, known)
	} else if present {
		c.hold(resource.ID{Kind: resource.KindClosure, Name: u.Closure})
	}
	path := have.Build.Result.StorePath
	if path == "" {
		path = c.builtBefore(u, flake)
	}
	if path == "" {
		u.building = true
		c.noteBuild(u, known)
		return
	}
	resolved := *u.Spec
	resolved.System.StorePath = path
	u.Spec, u.effective = &resolved, &resolved
	if have.Build.Reason != "" {
		u.note(v1alpha1.ConditionBuilt, v1alpha1.ConditionTrue, have.Build.Reason, "what was built before stays; the latest attempt: %s", have.Build.Message)
		u.Notes[len(u.Notes)-1].NextRetry = c.rebuildAt(u, have.Build)
	}
}

// builtFor remembers what the flake of the wanted spec was built to.
func (r *InstanceRecord) builtFor(u *unitOf) {
	r.Flake, r.StorePath = "", ""
	if f := u.Spec.System.Flake; f != "" {
		r.Flake, r.StorePath = f, u.Spec.System.StorePath
	}
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

// wantClosure wants the closure as it is, or another attempt to build it.
func (c *compiler) wantClosure(u *unitOf, have resource.Closure, present, known bool) {
	v := resource.Closure{
		Flake: u.Spec.System.Flake, Trusted: u.Spec.Trust == "trusted", Attempt: max(have.Attempt, 1),
		Deadline: resource.Duration(c.Host.Nix.BuildTimeout.Duration),
	}
	if m := c.Host.Nix.MemoryMax; m != nil {
		v.Limits.MemoryMax = m.Bytes
	}
	v.Limits.CPUQuota, _ = v1alpha1.ParseCPUQuota(c.Host.Nix.CPUQuota)
	want := resource.New(resource.HostOwner, "", u.Closure, v)
	due := c.rebuildAt(u, have.Build)
	begin := !present || have.Attempt == 0
	if present && !have.Build.Running && (have.Unrooted && have.Build.Reason == "" || !due.IsZero() && !due.After(c.Now)) {
		v.Attempt++
		want.Value, begin = v, true
	}
	shared, isShared := c.out.Desired.Present[want.ID]
	switch {
	case isShared && shared.Value.(resource.Closure).Attempt >= v.Attempt: // another object asks for as much
	case !begin, known && c.takeBuild(want.ID):
		c.want(want)
	case present && !isShared:
		c.hold(want.ID)
	}
	if !due.IsZero() && due.After(c.Now) && !have.Build.Running {
		c.wake(due)
	}
}

// rebuildAt is when a build is due again: after a failure, or to look what the
// reference is by now; zero: never.
func (c *compiler) rebuildAt(u *unitOf, b resource.Build) time.Time {
	switch {
	case b.EndedAt.IsZero():
		return time.Time{}
	case b.Failures > 0:
		return b.EndedAt.Add(min(rebuildFirst<<min(b.Failures-1, 16), rebuildMost))
	case u.Spec.System.Refresh != nil:
		return b.EndedAt.Add(u.Spec.System.Refresh.Duration)
	}
	return time.Time{}
}

// takeBuild reports whether one more build may run, and counts it.
func (c *compiler) takeBuild(id resource.ID) bool {
	if c.builds == nil {
		c.builds = map[resource.ID]bool{}
		for _, r := range c.Observed[resource.KindClosure].Items {
			if r.Value.(resource.Closure).Build.Running {
				c.builds[r.ID] = true
			}
		}
	}
	if !c.builds[id] && len(c.builds) >= max(c.Host.Nix.ParallelBuilds, 1) {
		return false
	}
	c.builds[id] = true
	return true
}

// noteBuild says why there is no system yet.
func (c *compiler) noteBuild(u *unitOf, known bool) {
	b := u.Build
	id := resource.ID{Kind: resource.KindClosure, Name: u.Closure}
	_, wanted := c.out.Desired.Present[id]
	note := Note{Type: v1alpha1.ConditionBuilt, Status: v1alpha1.ConditionFalse, Reason: "Building", Message: "the build begins"}
	switch f, failed := c.Failures[id]; {
	case !known:
		note.Status, note.Reason = v1alpha1.ConditionUnknown, "Unknown"
		note.Message = fmt.Sprintf("cannot look at builds: %v", c.Observed[resource.KindClosure].Err)
	case b.Running:
		note.Message = buildMessage(b.Progress)
	case failed:
		note.Reason, note.Message, note.NextRetry = f.Reason, f.Message, f.RetryAt
	case b.Reason != "":
		note.Reason, note.Message, note.NextRetry = b.Reason, b.Message, c.rebuildAt(u, b)
		if n := len(b.Log); n > 0 && !strings.Contains(b.Message, b.Log[n-1]) {
			note.Message += "; its log ends: " + strings.Join(b.Log[max(n-3, 0):], " | ")
		}
	case !wanted:
		note.Reason, note.Message = "BuildQueued", fmt.Sprintf("waits until fewer than %d builds run (Host.spec.nix.parallelBuilds)", c.Host.Nix.ParallelBuilds)
	}
	u.Notes = append(u.Notes, note)
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

// holdClosures leaves what belongs to a flake alone, where nothing of the object may change.
func (c *compiler) holdClosures() {
	for id := range c.Observed[resource.KindClosure].Items {
		if _, wanted := c.out.Desired.Present[id]; !wanted {
			c.hold(id)
		}
	}
}
