package reconcile

import "time"

// pacer decides when a pass is due, so that a burst of reports is few passes:
// what sets an object's next step free is acted on at once, anything else
// waits a moment for the looks that are under way. Passes take at most half of
// the time, however many objects there are.
type pacer struct {
	since  time.Time // of the first report that no pass has seen; zero: none
	urgent bool
	ended  time.Time // the last pass
	took   time.Duration
}

// note says that there is something new.
func (p *pacer) note(now time.Time) {
	if p.since.IsZero() {
		p.since = now
	}
}

// wait returns how long the next pass has to wait; not at all when it is a
// timer's.
func (p *pacer) wait(now time.Time, looking bool) time.Duration {
	if p.since.IsZero() {
		return 0
	}
	rest := p.ended.Add(p.took).Sub(now)
	if looking && !p.urgent {
		rest = max(rest, p.since.Add(burst).Sub(now))
	}
	return rest
}

// passed says when the last pass was.
func (p *pacer) passed(began, ended time.Time) {
	*p = pacer{ended: ended, took: min(ended.Sub(began), maxPause)}
}

// maxPause bounds what one slow pass delays the next.
const maxPause = time.Second
