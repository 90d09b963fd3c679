package webhook

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// TestSweepBacksOff: however many sweeps are asked for while the forge has
// trouble, one is tried again, later each time; the forge's own pause counts;
// and after one that was whole there is none before the next is due.
func TestSweepBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shop(v1alpha1.PullRequestPolicy{}))
		w.settle()
		start := time.Now()
		listed := func() []time.Duration {
			synctest.Wait()
			w.forge.mu.Lock()
			defer w.forge.mu.Unlock()
			var at []time.Duration
			for _, l := range w.forge.listed {
				at = append(at, l.Sub(start))
			}
			w.forge.listed = nil
			return at
		}
		check := func(want string) {
			t.Helper()
			if got := fmt.Sprint(listed()); got != want {
				t.Errorf("swept at %s, want %s", got, want)
			}
		}
		listed()
		w.forge.fail(errors.New("internal error"))
		w.server.requestSweep()
		time.Sleep(30 * time.Second)
		start = start.Add(30 * time.Second)
		w.server.requestSweep() // it fails, too, and its retry takes the other's place
		time.Sleep(20 * time.Minute)
		check("[-30s 0s 2m0s 6m0s 14m0s]")
		w.forge.fail(nil)
		w.server.requestSweep()
		synctest.Wait()
		listed()
		w.forge.fail(&forge.RetryError{After: 10 * time.Minute, Err: errors.New("rate limit")})
		start = time.Now()
		w.server.requestSweep()
		time.Sleep(9 * time.Minute)
		check("[0s]")
		w.forge.fail(nil)
		time.Sleep(10 * time.Minute)
		check("[10m0s]")
	})
}
