package reconcile

import (
	"context"
	"errors"
	"hash/fnv"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

const (
	backoffFirst = time.Second
	backoffMost  = 5 * time.Minute
)

// failures remembers what steps ended with, to choose when they are tried again.
type failures map[resource.ID]failure

type failure struct {
	resource.Failure
	step resource.Step // that failed
}

// finish records how a step ended.
func (fs failures) finish(step resource.Step, err error, now time.Time) {
	id := step.Resource.ID
	switch {
	case err == nil:
		delete(fs, id)
		return
	case errors.Is(err, resource.ErrStale), errors.Is(err, context.Canceled):
		return // look again and plan anew; that is no failure
	}
	f := failure{step: step, Failure: resource.Failure{Reason: resource.Reason(err, "StepFailed"), Message: err.Error(), Attempts: fs[id].Attempts + 1}}
	if errors.Is(err, context.DeadlineExceeded) {
		f.Reason = resource.Reason(err, "Timeout")
	}
	if _, terminal := errors.AsType[*resource.TerminalError](err); terminal {
		fs[id] = f
		return
	}
	if w, waiting := errors.AsType[*resource.WaitingError](err); waiting {
		f.Attempts = fs[id].Attempts
		f.RetryAt = now.Add(w.After)
	} else {
		f.RetryAt = now.Add(backoff(id, f.Attempts))
	}
	fs[id] = f
}

// explainFull gives a condition its reason when what it tells of is want of space,
// and says what to do. Of other programs only what they said is known,
// PostgreSQL's begins with a capital.
func explainFull(c *v1alpha1.Condition) {
	if strings.Contains(strings.ToLower(c.Message), syscall.ENOSPC.Error()) {
		c.Reason = "DiskFull"
		c.Message += "; next step: free space or inodes there (df -h, df -i); it is tried again by itself, at once on SIGHUP"
	}
}

// Hurry has failed steps tried again now, not when their pause is over; also
// those that nothing seemed to help, for a person may know better.
func (c *Core) Hurry(now time.Time) { c.failures.hurry(now) }

func (fs failures) hurry(now time.Time) {
	for id, f := range fs {
		if f.RetryAt.IsZero() || f.RetryAt.After(now) {
			f.RetryAt = now
			fs[id] = f
		}
	}
}

// backoff is 1 s doubling to 5 min, with ±20 % of jitter so that what failed
// together is not tried together. The jitter is a function of the resource and
// the attempt: a pass stays free of randomness.
func backoff(id resource.ID, attempts int) time.Duration {
	d := min(backoffFirst<<min(attempts-1, 16), backoffMost)
	h := fnv.New32a()
	h.Write([]byte(id.String() + strconv.Itoa(attempts)))
	return d*4/5 + time.Duration(h.Sum32()%1000)*(d*2/5)/1000
}

// forget drops failures whose step is not asked for any more: another value is
// desired, the object has a new spec, or the difference is gone.
func (fs failures) forget(d resource.Desired, o resource.Observed, changed map[string]bool) {
	for id, f := range fs {
		want, wanted := d.Present[id]
		have, present, known := o.Get(id)
		switch {
		case changed[f.step.Resource.Owner]:
			delete(fs, id)
		case f.step.Verb == resource.Put:
			if !wanted || !want.Value.Equal(f.step.Resource.Value) || (known && present && want.Equal(have)) {
				delete(fs, id)
			}
		case wanted, known && (!present || have.Owner != f.step.Resource.Owner):
			delete(fs, id) // also: retained, and no longer the object's
		}
	}
}

// facts are the failures as compile and plan see them.
func (fs failures) facts() map[resource.ID]resource.Failure {
	out := make(map[resource.ID]resource.Failure, len(fs))
	for id, f := range fs {
		out[id] = f.Failure
	}
	return out
}
