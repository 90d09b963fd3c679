package compile

import (
	"fmt"
	"slices"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/resource"
)

// update names an update to a fingerprint: with another revision to be set up it
// is another one, which may succeed where that one did not.
func (u *unitOf) update(fingerprint string) string {
	if u.Spec.Setup == nil {
		return fingerprint
	}
	return fmt.Sprintf("%s@%s#%d", fingerprint, u.Spec.Setup.Revision, u.Spec.Setup.Generation)
}

// rolledBackTo makes a former incarnation the target again, with the spec it was made for.
func (c *compiler) rolledBackTo(u *unitOf, i *Incarnation, why RolledBackRecord) {
	u.Target = i
	u.effective = c.specOf(u, i)
	u.note(v1alpha1.ConditionRolledBack, v1alpha1.ConditionTrue, why.Reason, "the latest change did not answer and was taken back: %s", why.Message)
	if u.refused(i) {
		u.note(v1alpha1.ConditionReady, v1alpha1.ConditionFalse, "SourcePolicy",
			"the latest change did not answer (%s), and what ran before is not admitted from its source any more; nothing runs until the spec changes", why.Message)
	}
}

// refused reports whether an incarnation may not run any more.
func (u *unitOf) refused(i *Incarnation) bool { return slices.Contains(u.object.Refused, i.Ordinal) }

// failuresBeforeRollback is how often a new incarnation may end before it has answered.
const failuresBeforeRollback = 3

// rollBackIfFailed gives up on a replacement that has ended too often or did
// not answer by its deadline, while a former incarnation can serve.
func (c *compiler) rollBackIfFailed(u *unitOf, want string) {
	inPlace := u.before(u.Target)
	if u.Former == nil && inPlace == nil || u.keep || want == "" {
		return
	}
	reason, message, failed := c.startFailed(u.Target)
	if !failed {
		return
	}
	record := RolledBackRecord{Fingerprint: u.update(want), Reason: reason, Message: message}
	if inPlace != nil { // one record is both: what it is again, and why
		inPlace.RolledBack = &record
		u.Update = ""
		c.rolledBackTo(u, inPlace, record)
		return
	}
	u.Former.RolledBack = &record
	if c.Claims.RolledBack[u.Record.UID].Fingerprint != record.Fingerprint {
		return // first the record, so that a crash cannot try the failed one again
	}
	failedOne := u.Target
	c.rolledBackTo(u, u.Former, record)
	u.Former, u.Update = nil, ""
	c.drop(u, []*Incarnation{failedOne})
}

func (c *compiler) startFailed(i *Incarnation) (reason, message string, failed bool) {
	// Only the probe's own verdict counts: what merely got in its way is tried again.
	if f, found := c.Failures[resource.ID{Kind: resource.KindAnswer, Name: i.Machine}]; found && f.Reason == resource.ReasonProbeFailed {
		return f.Reason, f.Message, true
	}
	unit, present, _ := observed[resource.Unit](c, i.Machine)
	// In place, ends of what the machine was before say nothing about what it is to be.
	another := unit.Fingerprint != "" && unit.Fingerprint != i.Fingerprint
	if present && !unit.Running && unit.Failures >= failuresBeforeRollback && !another {
		return "CrashLoop", exitMessage(unit), true
	}
	if f, found := c.Failures[resource.ID{Kind: resource.KindUnit, Name: i.Machine}]; found && (f.RetryAt.IsZero() || f.Attempts >= failuresBeforeRollback) {
		return f.Reason, f.Message, true
	}
	return c.setupFailed(i)
}

func exitMessage(u resource.Unit) string {
	msg := fmt.Sprintf("ended with exit code %d", u.ExitCode)
	if u.ExitCode > 128 {
		msg = fmt.Sprintf("killed by signal %d", u.ExitCode-128)
	}
	if n := len(u.LastLog); n > 0 {
		msg += "; last line: " + u.LastLog[n-1]
	}
	return msg
}
