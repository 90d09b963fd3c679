package activator

import "time"

// gate is one object's place in the process. The server's lock guards it.
type gate struct {
	entry
	asleep *sleep // nil: awake
	gone   bool   // the table has it no more
	open   int    // requests under way that count
	// quiet since then: no request that counts, or something about the gate changed.
	quiet time.Time
	timer *time.Timer
	// changed is closed when those who wait are to look again.
	changed chan struct{}
}

// change takes over what the table says of the gate now.
func (g *gate) change(e entry, now time.Time) {
	if g.asleep != nil && e.Value.Generation > g.asleep.Generation {
		g.asleep = nil
	}
	if g.entry == e {
		return
	}
	g.entry, g.quiet = e, now
	close(g.changed)
	g.changed = make(chan struct{})
}

// sleepsIn is how long it is until the gate may fall asleep; never reports that
// nothing but a change brings it there.
func (g *gate) sleepsIn(now time.Time) (d time.Duration, never bool) {
	after := time.Duration(g.Value.SleepAfter)
	if g.asleep != nil || after <= 0 || !g.Value.Backend.IsValid() {
		return 0, true
	}
	if g.open > 0 {
		return after, false
	}
	return g.quiet.Add(after).Sub(now), false
}

// begin counts a request and wakes the gate for it. woken reports whether it slept.
func (g *gate) begin() (woken bool) {
	g.open++
	woken = g.asleep != nil
	g.asleep = nil
	return woken
}

// end of a request that was counted.
func (g *gate) end(now time.Time) {
	g.open--
	g.quiet = now
}

// fallAsleep at now.
func (g *gate) fallAsleep(now time.Time) {
	g.asleep = &sleep{Owner: g.Owner, Since: now.UTC().Truncate(time.Second), Generation: g.Value.Generation}
}
