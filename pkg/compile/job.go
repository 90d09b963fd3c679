package compile

import (
	"fmt"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// Failed jobs are tried again, after 10 s doubling to 30 min.
const (
	retryFirst = 10 * time.Second
	retryMost  = 30 * time.Minute
)

// job is something of the host that objects share, and that attempts make.
type job struct {
	id             resource.ID
	have           resource.Worked // as observed, zero where there is none
	present, known bool
	// lost: the result of the latest success is not there any more.
	lost bool
	// refresh after so long, zero: never; stale: at once.
	refresh time.Duration
	stale   bool
	// parallel jobs of the kind at most.
	parallel int
	// value that asks for an attempt; lost as the value of what is there has it.
	value func(attempt int, lost bool) resource.Worked
}

func newJob[T resource.Worked](c *compiler, name string) (v T, j job) {
	var present, known bool
	v, present, known = observed[T](c, name)
	return v, job{id: resource.ID{Kind: v.Kind(), Name: name}, have: v, present: present, known: known}
}

// wantJob wants a job as it is, or another attempt of it.
func (c *compiler) wantJob(j job) {
	have, how := j.have.Work()
	due := c.due(j)
	attempt, begin := max(have, 1), !j.present || have == 0
	if j.present && !how.Running && (j.stale || j.lost && how.Reason == "" || !due.IsZero() && !due.After(c.Now)) {
		attempt, begin = attempt+1, true
	}
	asked := 0
	shared, isShared := c.out.Desired.Present[j.id]
	if isShared {
		asked, _ = shared.Value.(resource.Worked).Work()
	}
	switch {
	case asked >= attempt: // another object asks for as much
	case !begin, j.known && c.takeTurn(j):
		c.want(resource.New(resource.HostOwner, "", j.id.Name, j.value(attempt, j.lost && !begin)))
	case j.present && !isShared:
		c.hold(j.id)
	}
	if !due.IsZero() && due.After(c.Now) && !how.Running {
		c.wake(due)
	}
}

// due is when another attempt is: after a failure, or to look again; zero: never.
func (c *compiler) due(j job) time.Time {
	_, how := j.have.Work()
	switch {
	case how.EndedAt.IsZero():
		return time.Time{}
	case how.Failures > 0:
		return c.retryAt(how)
	case j.refresh > 0:
		return c.after(how, j.refresh)
	}
	return time.Time{}
}

// retryAt is when a job that has failed is due again.
func (c *compiler) retryAt(j resource.Job) time.Time {
	return c.after(j, min(retryFirst<<min(max(j.Failures, 1)-1, 16), retryMost))
}

// after is a pause from the end of an attempt on. One that ended in the future
// did so before the clock was set back, nobody knows when: the pause is over.
func (c *compiler) after(j resource.Job, pause time.Duration) time.Time {
	if j.EndedAt.After(c.Now) {
		return c.Now
	}
	return j.EndedAt.Add(pause)
}

// takeTurn reports whether one more job of a kind may run, and counts it.
func (c *compiler) takeTurn(j job) bool {
	running := c.running[j.id.Kind]
	if running == nil {
		running = map[resource.ID]bool{}
		for _, r := range c.Observed[j.id.Kind].Items {
			if _, how := r.Value.(resource.Worked).Work(); how.Running {
				running[r.ID] = true
			}
		}
		c.running[j.id.Kind] = running
	}
	if !running[j.id] && len(running) >= max(j.parallel, 1) {
		return false
	}
	running[j.id] = true
	return true
}

// holdJobs leaves what objects share alone, where nothing of one of them may change.
func (c *compiler) holdJobs() {
	for _, k := range []resource.Kind{resource.KindClosure, resource.KindCheckout} {
		for id := range c.Observed[k].Items {
			if _, wanted := c.out.Desired.Present[id]; !wanted {
				c.hold(id)
			}
		}
	}
}

// noteJob completes a note that says why there is no result yet: it is under way.
// queued is its reason and message while it waits for its turn.
func (c *compiler) noteJob(u *unitOf, j job, note, queued Note) {
	_, how := j.have.Work()
	_, wanted := c.out.Desired.Present[j.id]
	switch f, failed := c.Failures[j.id]; {
	case !j.known:
		note.Status, note.Reason, note.Message = v1alpha1.ConditionUnknown, "Unknown", fmt.Sprintf("cannot look at it: %v", c.Observed.Unknown(j.id))
	case how.Running:
	case failed:
		note.Reason, note.Message, note.NextRetry = f.Reason, f.Message, f.RetryAt
	case how.Reason != "":
		note.Reason, note.Message, note.NextRetry = how.Reason, how.Message, c.due(j)
		if n := len(how.Log); n > 0 && !strings.Contains(how.Message, how.Log[n-1]) {
			note.Message += "; its log ends: " + strings.Join(how.Log[max(n-3, 0):], " | ")
		}
	case !wanted:
		note.Reason, note.Message = queued.Reason, queued.Message
	}
	u.Notes = append(u.Notes, note)
}

// noteStale says that a result is used although a later attempt failed; that holds
// until another one has succeeded.
func (c *compiler) noteStale(u *unitOf, j job, typ, stays string) {
	switch _, how := j.have.Work(); {
	case how.Reason != "":
		u.note(typ, v1alpha1.ConditionTrue, how.Reason, "%s; the latest attempt: %s", stays, how.Message)
		u.Notes[len(u.Notes)-1].NextRetry = c.due(j)
	case how.Failures > 0:
		u.note(typ, v1alpha1.ConditionTrue, "Retrying", "%s; the latest attempt failed, the next one is under way", stays)
	}
}
