package absence

import (
	"cmp"
	"slices"
)

// recall adds what vanished from this source within the last Window and is not
// known any more: it still counts, or a directory could drain away file by file.
func (t *trial) recall() {
	for uid, m := range t.State.Missing {
		_, open := t.missing[uid]
		_, decided := t.out.Verdicts[uid]
		if open || decided {
			continue
		}
		if m.Source != t.config.Name || !m.LetGo || !m.Vanished {
			continue
		}
		if m.Clear.IsZero() {
			// Nobody has looked since: what is missing now may have followed at once.
			m.Since, m.Clear = t.at, t.at
		}
		if t.at.Sub(m.Since) <= Window {
			t.missing[uid] = m
			t.former++
		}
	}
}

// brake holds objects that vanished together with too many others: a
// directory that lost a third of its files within seconds is more likely a
// wrong mount, a failed sync or a mistyped rm than a decision.
//
// Objects with a doubt count, too: were they left out, one more problem could
// bring the others below the limit.
func (t *trial) brake() {
	var events []string
	for uid, m := range t.missing {
		if m.Vanished && !t.Releases[t.config.Name][uid] {
			events = append(events, uid)
		}
	}
	since := func(i int) int64 { return t.missing[events[i]].Since.UnixNano() }
	slices.SortFunc(events, func(a, b string) int {
		return cmp.Or(t.missing[a].Since.Compare(t.missing[b].Since), cmp.Compare(a, b))
	})
	first := 0
	for last := range events {
		for since(last)-since(first) > int64(Window) {
			first++
		}
		if last-first+1 <= t.limit() {
			continue
		}
		for _, uid := range events[first : last+1] {
			m := t.missing[uid]
			m.Braked = true
			t.missing[uid] = m
		}
	}
}

// total of the source's objects, with those that vanished just now.
func (t *trial) total() int { return len(t.known) + t.former }

// limit is how many may vanish within Window.
func (t *trial) limit() int {
	return max(BrakeMin, t.total()*cmp.Or(t.config.Percent, DirectoryPercent)/100)
}
