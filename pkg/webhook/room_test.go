package webhook

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// TestBrokenHoldsNoRoom: an older one whose looks fail for good keeps none of the
// younger ones waiting; once it can be looked at, it goes first again.
func TestBrokenHoldsNoRoom(t *testing.T) {
	for name, failure := range map[string]error{
		"for good":         errors.New("it cannot be read"),
		"for a long time":  &forge.RetryError{After: time.Second, Err: errors.New("502 Bad Gateway")},
		"and for a moment": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Max: 1}))
				w.settle()
				w.forge.open(2)
				w.forge.open(5)
				w.forge.open(6)
				want := "[5]"
				if w.forge.spoil(2, failure); failure == nil {
					w.forge.spoil(2, &forge.RetryError{After: time.Second, Err: errors.New("502 Bad Gateway")})
					want = "[2]"
				}
				for range 2 {
					if err := w.server.sweep(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second / 2)
				}
				if failure == nil {
					w.forge.spoil(2, nil)
				}
				time.Sleep(30 * time.Minute)
				w.sweep()
				if got := w.numbers(); got != want {
					t.Fatalf("previews %s, want %s", got, want)
				}
				if failure == nil {
					return
				}
				w.daemon.look()
				w.forge.spoil(2, nil)
				time.Sleep(10 * time.Minute) // whatever waits for a retry is over
				w.sweep()
				w.forge.shut(5)
				w.event(5)
				w.settle()
				w.daemon.look()
				w.settle()
				if got := w.numbers(); got != "[2]" {
					t.Errorf("previews %s, want the oldest", got)
				}
			})
		})
	}
}
