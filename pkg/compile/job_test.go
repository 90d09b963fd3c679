package compile

import (
	"testing"
	"time"

	"tekton.host/pkg/resource"
)

// TestRetryAt: pauses double up to a bound, and do not grow by as much as the
// clock is set back.
func TestRetryAt(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &compiler{Input: Input{Now: now}}
	for failures, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 5: 160 * time.Second, 50: 30 * time.Minute} {
		if got := c.retryAt(resource.Job{EndedAt: now, Failures: failures}).Sub(now); got != want {
			t.Errorf("after %d failures in %s, want %s", failures, got, want)
		}
	}
	if got := c.retryAt(resource.Job{EndedAt: now.Add(time.Hour), Failures: 3}); !got.Equal(now) {
		t.Errorf("with the clock set back at %s", got)
	}
}
