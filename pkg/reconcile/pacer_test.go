package reconcile

import (
	"testing"
	"time"
)

func TestPacer(t *testing.T) {
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	for _, tt := range []struct {
		name    string
		pacer   pacer
		looking bool
		want    time.Duration // at 10 ms; at most 0: now
	}{
		{"a timer", pacer{}, true, 0},
		{"nothing else is looked at", pacer{since: at(9)}, false, 0},
		{"other looks are under way", pacer{since: at(9)}, true, 19 * time.Millisecond},
		{"they take too long", pacer{since: epoch.Add(-burst)}, true, 0},
		{"a step has ended", pacer{since: at(9), urgent: true}, true, 0},
		{"a long pass was just now", pacer{since: at(9), urgent: true, ended: at(5), took: 30 * time.Millisecond}, false, 25 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := max(tt.pacer.wait(at(10), tt.looking), 0); got != tt.want {
				t.Errorf("waits %s, want %s", got, tt.want)
			}
		})
	}
	p := pacer{since: at(1), urgent: true}
	p.passed(at(2), at(10_000))
	if want := (pacer{ended: at(10_000), took: maxPause}); p != want {
		t.Errorf("after a pass %+v, want %+v", p, want)
	}
}
