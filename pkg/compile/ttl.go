package compile

import (
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// ttlPrefix: ttl/UID → TTLRecord
const ttlPrefix = "ttl/"

// TTLRecord is how far the time of an object with a ttl has come.
type TTLRecord struct {
	// Began is when it was created, as the clock says now: one that was set back
	// beyond that makes it later.
	Began time.Time `json:"began"`
	// Warned is when it was said that the end is near.
	Warned time.Time `json:"warned,omitzero"`
}

// warnLeast is how long before its end a warning comes at least, where the ttl is
// long enough for that.
const warnLeast = 5 * time.Minute

// warnAhead is how long before its end an object is warned of it: a tenth of the
// ttl, at least five minutes, of a short one half of it.
func warnAhead(ttl time.Duration) time.Duration {
	return min(max(ttl/10, warnLeast), ttl/2)
}

// expire decides whether the object's time is over. It counts from the creation
// by the clock, which may be set: no object goes without that a warning was
// durable for its whole time before, and none stays for more than its ttl from now.
func (c *compiler) expire(u *unitOf) {
	if u.Spec.TTL == nil || u.Spec.TTL.Duration <= 0 || u.Spec.Paused {
		return
	}
	ttl := u.Spec.TTL.Duration
	have, known := c.Claims.TTL[u.Record.UID]
	r := have
	if !known {
		r.Began = c.createdAt(u)
	}
	now := c.Now.UTC().Truncate(time.Millisecond)
	if r.Began.After(now) {
		r.Began = now
	}
	end := r.Began.Add(ttl)
	warn := end.Add(-warnAhead(ttl))
	switch {
	case now.Before(warn):
		r.Warned = time.Time{}
		c.wake(warn)
	case r.Warned.IsZero() || r.Warned.After(now):
		r.Warned = now
	}
	if !r.Warned.IsZero() {
		end = later(end, r.Warned.Add(warnAhead(ttl)))
	}
	u.ttl, u.ExpiresAt = &r, end
	if r.Warned.IsZero() || r != have {
		return // first it is written down
	}
	u.note(v1alpha1.ConditionExpiring, v1alpha1.ConditionTrue, "ExpiresSoon",
		"its ttl of %s is nearly over; then it is removed, and its data by policy. To give it more time, make spec.ttl longer; 0s lets it stay", u.Spec.TTL)
	if now.Before(end) {
		c.wake(end)
		return
	}
	// A document that cannot be read just now may give it more time.
	if u.Verdict != Wanted {
		return
	}
	u.Expired = true
	stopped := *u.Spec
	stopped.Enabled = new(false)
	u.Spec, u.effective = &stopped, &stopped
}

// createdAt is when the ledger first had the object.
func (c *compiler) createdAt(u *unitOf) time.Time {
	e, found := c.Claims.All[ObjectKey(u.Record.Kind, u.Record.Name)]
	if !found || e.Owner != u.Record.UID || e.Since.IsZero() {
		return c.Now.UTC().Truncate(time.Millisecond)
	}
	return e.Since.UTC().Truncate(time.Millisecond)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
