package absence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/source"
)

// Judge decides on every known object.
func Judge(in Input) Output {
	j := &judge{Input: in, bySource: map[string][]Known{}, out: Output{
		Verdicts: make(map[string]Verdict, len(in.Known)), Holds: map[string]SourceHold{}, Lapsed: map[string][]string{},
		State: State{Missing: map[string]Missing{}},
	}}
	for _, k := range in.Known {
		j.bySource[k.Source] = append(j.bySource[k.Source], k)
	}
	configured := map[string]bool{}
	for _, s := range in.Sources {
		configured[s.Name] = true
		j.source(s)
	}
	for name, known := range j.bySource {
		if !configured[name] {
			j.remember(name)
			j.hold(name, known, ReasonSourceGone, fmt.Sprintf(
				"the source %s is no longer configured; nothing of it is deleted; next step: configure it again, `tekton delete` the objects, or `tekton release-deletes %s`", name, name), true)
		}
	}
	j.lapse()
	slices.Sort(j.out.Reread)
	return j.out
}

type judge struct {
	Input
	bySource map[string][]Known
	out      Output
}

// source judges the objects of one configured source.
func (j *judge) source(s Source) {
	known := j.bySource[s.Name]
	snap, read := j.Snapshots[s.Name]
	if !read {
		j.remember(s.Name)
		j.hold(s.Name, known, ReasonSourceUnread, fmt.Sprintf("the source %s was not read yet", s.Name), false)
		return
	}
	t := &trial{judge: j, config: s, view: newView(snap, known), at: snap.ReadAt, known: known, missing: map[string]Missing{}, doubts: map[string]*Verdict{}}
	if t.at.IsZero() {
		t.at = j.Now
	}
	t.run()
}

// decide enters a verdict.
func (j *judge) decide(uid string, d Decision, reason, message string) {
	j.out.Verdicts[uid] = Verdict{d, reason, message}
}

// asked decides on what was asked for by UID.
func (j *judge) asked(k Known) bool {
	if j.Requests[k.UID] {
		j.decide(k.UID, Absent, ReasonRequested, "its deletion was asked for")
	}
	return j.Requests[k.UID]
}

func (j *judge) released(k Known) bool {
	if j.Releases[k.Source][k.UID] {
		j.decide(k.UID, Absent, ReasonReleased, "its hold was released")
	}
	return j.Releases[k.Source][k.UID]
}

// hold holds objects that nothing is known about. report says that the
// operator is told, and may release them.
func (j *judge) hold(name string, known []Known, reason, message string, report bool) {
	var uids []string
	for _, k := range known {
		if j.asked(k) || report && j.released(k) {
			continue
		}
		j.decide(k.UID, Hold, reason, message)
		uids = append(uids, k.UID)
	}
	if report && len(uids) > 0 {
		slices.Sort(uids)
		j.out.Holds[name] = SourceHold{UIDs: uids, Reason: reason, Message: message}
	}
}

// remember keeps of a source that could not be judged what must not be
// forgotten; all other clocks start anew when it can be read again.
func (j *judge) remember(name string) {
	known := map[string]bool{}
	for _, k := range j.bySource[name] {
		known[k.UID] = true
	}
	for uid, m := range j.State.Missing {
		if m.Source == name && (known[uid] && m.Braked || m.LetGo) && !j.Requests[uid] {
			j.out.State.Missing[uid] = m.asleep()
		}
	}
}

// wake asks for another read of a source.
func (j *judge) wake(name string, t time.Time) {
	if j.out.NextWake.IsZero() || t.Before(j.out.NextWake) {
		j.out.NextWake = t
	}
	if !slices.Contains(j.out.Reread, name) {
		j.out.Reread = append(j.out.Reread, name)
	}
}

// lapse names the releases that did their work or lost their object.
func (j *judge) lapse() {
	for name, uids := range j.Releases {
		for uid := range uids {
			if v, known := j.out.Verdicts[uid]; !known || v.Decision == Present {
				j.out.Lapsed[name] = append(j.out.Lapsed[name], uid)
			}
		}
		slices.Sort(j.out.Lapsed[name])
	}
}

// trial is the judgement of one source that was read.
type trial struct {
	*judge
	config  Source
	view    *view
	at      time.Time // when it was read
	known   []Known
	missing map[string]Missing  // of this source
	doubts  map[string]*Verdict // of missing objects
	former  int                 // how many of missing are not known any more
}

func (t *trial) run() {
	var open []Known
	for _, k := range t.known {
		if t.asked(k) {
			continue
		}
		found, doubt := t.view.find(k)
		if found != nil {
			t.decide(k.UID, Present, "", "")
			continue
		}
		t.doubts[k.UID] = doubt
		t.note(k, doubt)
		open = append(open, k)
	}
	switch {
	case !t.view.whole():
		t.holdOpen(open, ReasonSourceUnreadable, unreadable(t.view.snap))
	case !t.same():
		t.holdOpen(open, ReasonSourceEmpty, fmt.Sprintf(
			"the source %s has neither the marker %s nor any of the %d objects that it had, as if it were not mounted; nothing is deleted; next step: mount it, or `tekton release-deletes %s`",
			t.config.Name, source.Marker, len(t.known), t.config.Name))
	default:
		t.recall()
		t.brake()
		t.judgeOpen(open)
		maps.Copy(t.out.State.Missing, t.missing)
	}
}

// note remembers since when an object is missing.
func (t *trial) note(k Known, doubt *Verdict) {
	vanished := !t.view.files[k.File]
	m := t.State.Missing[k.UID]
	slept := m.LetGo && m.Clear.IsZero()
	if m.Since.IsZero() || m.Source != k.Source || m.Vanished != vanished || slept {
		m = Missing{Source: k.Source, Since: t.at, Vanished: vanished, Braked: m.Braked && m.Source == k.Source}
	}
	m.LetGo = false
	// A file that comes back empty or broken lifts no hold; one that was read
	// and does not have the document is an explicit removal.
	m.Braked = m.Braked && (vanished || doubt != nil)
	switch {
	case doubt != nil:
		m.Clear = time.Time{}
	case m.Clear.IsZero():
		m.Clear = t.at
	}
	switch {
	case len(t.view.unsettled) == 0:
		m.Writing = time.Time{}
	case m.Writing.IsZero():
		m.Writing = t.at
	}
	t.missing[k.UID] = m
}

// same reports whether this is evidently the directory that it was.
func (t *trial) same() bool {
	return t.view.snap.Marked || slices.ContainsFunc(t.known, func(k Known) bool {
		return t.view.files[k.File] || t.out.Verdicts[k.UID].Decision == Present
	})
}

// holdOpen holds what is missing from a source that as a whole cannot account for it.
func (t *trial) holdOpen(open []Known, reason, message string) {
	var rest []Known
	for _, k := range open {
		if d := t.doubts[k.UID]; d != nil && d.Reason != ReasonSourceUnreadable {
			t.decide(k.UID, Hold, d.Reason, d.Message)
		} else {
			rest = append(rest, k)
		}
	}
	t.remember(t.config.Name)
	t.hold(t.config.Name, rest, reason, message, true)
}

// judgeOpen decides on missing objects of a source that was read whole.
func (t *trial) judgeOpen(open []Known) {
	var braked []Known
	for _, k := range open {
		m := t.missing[k.UID]
		switch d := t.doubts[k.UID]; {
		case d != nil:
			t.decide(k.UID, Hold, d.Reason, d.Message)
		case t.released(k):
		case m.Braked:
			braked = append(braked, k)
		default:
			t.missingFor(k, m)
		}
	}
	if len(braked) > 0 {
		t.hold(t.config.Name, braked, ReasonMassDelete, fmt.Sprintf(
			"%s vanished from the source %s at once, more than %d of %d; nothing of them is deleted until they are back or `tekton release-deletes %s`",
			list(braked), t.config.Name, t.limit(), t.total(), t.config.Name), true)
	}
}

// missingFor decides by how long an object has been missing.
func (t *trial) missingFor(k Known, m Missing) {
	reason, message, after := ReasonRemoved, "its document was removed from "+k.File, time.Duration(0)
	switch {
	case m.Vanished:
		reason, message, after = ReasonVanished, k.File+" was removed", VanishAfter
	case k.Data:
		after = ConfirmAfter
	}
	due := m.Clear.Add(after)
	if moving := m.Writing.Add(Window); !m.Writing.IsZero() && moving.After(due) {
		due = moving
	}
	if t.at.Before(due) {
		t.decide(k.UID, Hold, ReasonConfirming, message+"; waiting whether it comes back")
		t.wake(k.Source, due)
		return
	}
	m.LetGo = true
	t.missing[k.UID] = m
	t.decide(k.UID, Absent, reason, message)
}

// list names objects for a message, at most a few.
func list(known []Known) string {
	const most = 5
	var names []string
	for _, k := range known {
		names = append(names, k.Kind+"/"+k.Name)
	}
	slices.Sort(names)
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
