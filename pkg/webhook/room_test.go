package webhook

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// several repositories of a forge, by name.
type several map[string]*fakeForge

func (s several) PullRequest(ctx context.Context, r forge.Repository, n int) (forge.PullRequest, error) {
	return s[r.Name].PullRequest(ctx, r, n)
}

func (s several) OpenPullRequests(ctx context.Context, r forge.Repository) ([]forge.PullRequest, error) {
	return s[r.Name].OpenPullRequests(ctx, r)
}

func (s several) Comments(ctx context.Context, r forge.Repository, n int) ([]forge.Comment, error) {
	return s[r.Name].Comments(ctx, r, n)
}

func (s several) MayWrite(ctx context.Context, r forge.Repository, user string) (bool, error) {
	return s[r.Name].MayWrite(ctx, r, user)
}

func (s several) SetComment(context.Context, forge.Repository, int, int64, string) (int64, error) {
	return 0, errors.New("the teller of these tests writes none")
}

func (s several) SetDeployment(context.Context, forge.Repository, forge.Deployment) error {
	return errors.New("the teller of these tests writes none")
}

// TestMaxOfHost: with the host's limit the oldest of all Repositories go first; one
// that waits for its own Repository's limit keeps those of others not waiting.
func TestMaxOfHost(t *testing.T) {
	w := newWorld(t, map[string]v1alpha1.RepositorySpec{
		"shop": {URL: shopURL, PullRequests: v1alpha1.PullRequestPolicy{Max: 1}}, "app": {URL: "https://github.com/team/app.git"},
	})
	w.settle()
	both := several{"shop": w.forge, "app": newFakeForge()}
	w.client, w.max = both, 2
	day := func(n int) time.Time { return time.Date(2030, 1, n, 0, 0, 0, 0, time.UTC) }
	open := func(repository string, n, opened int) {
		both[repository].change(n, func(pr *forge.PullRequest) { pr.Opened = day(opened) })
	}
	open("shop", 1, 1)
	open("shop", 2, 2)
	open("app", 50, 3)
	open("app", 10, 5)
	open("shop", 3, 4)
	w.restart()
	w.sweep()
	w.daemon.look()
	w.sweep()
	if got := w.numbers(); got != "[1 50]" {
		t.Fatalf("previews %s", got)
	}
	if w.teller.state(2) != StateWaiting || w.teller.state(3) != StateWaiting || w.teller.state(10) != StateWaiting {
		t.Errorf("told %s, %s, %s", w.teller.state(2), w.teller.state(3), w.teller.state(10))
	}
	shut := func(repository string, n int) {
		both[repository].shut(n)
		w.sweep()
		w.daemon.look()
		w.settle()
	}
	shut("app", 50) // of the shop, which has its own limit, two are older
	w.daemon.look()
	if got := w.numbers(); got != "[1 10]" {
		t.Fatalf("previews %s", got)
	}
	shut("shop", 1)
	w.daemon.look()
	if got := w.numbers(); got != "[2 10]" {
		t.Fatalf("previews %s", got)
	}
	open("app", 60, 6)
	w.sweep()
	shut("app", 10)
	if got := w.numbers(); got != "[2 60]" {
		t.Fatalf("previews %s: the shop has as many as it may", got)
	}
	w.daemon.look()
	shut("shop", 2)
	if got := w.numbers(); got != "[3 60]" {
		t.Fatalf("previews %s", got)
	}
}

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

// TestMax: the oldest that wait go first, none that has one loses it.
func TestMax(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Max: 2}))
	for n := 5; n >= 1; n-- {
		w.forge.open(n)
	}
	w.forge.change(1, func(pr *forge.PullRequest) { pr.Draft = true })
	w.sweep()
	if got := w.numbers(); got != "[2 3]" {
		t.Fatalf("previews %s, want the oldest", got)
	}
	if w.teller.state(4) != StateWaiting || w.teller.state(1) != StateDraft {
		t.Errorf("told %s and %s", w.teller.state(4), w.teller.state(1))
	}
	w.daemon.look()
	w.forge.change(1, func(pr *forge.PullRequest) { pr.Draft = false })
	w.event(1)
	w.settle()
	if got := w.numbers(); got != "[2 3]" {
		t.Fatalf("previews %s: one that had one lost it", got)
	}
	w.forge.shut(3)
	w.event(3)
	w.settle()
	if got := w.numbers(); got != "[2]" {
		t.Fatalf("previews %s: another came before the old one had gone", got)
	}
	w.daemon.look()
	w.settle()
	if got := w.numbers(); got != "[1 2]" {
		t.Fatalf("previews %s, want the oldest that waited", got)
	}
	w.daemon.look()
	w.restart()
	w.forge.shut(2)
	w.sweep()
	w.daemon.look()
	w.sweep()
	if got := w.numbers(); got != "[1 4]" {
		t.Errorf("after a restart: previews %s", got)
	}
}

// sweepAmid sweeps and returns once some were told of, while the forge does not
// answer for the slow ones before answer is called.
func (w *world) sweepAmid(slow []int, told ...int) (answer func()) {
	w.t.Helper()
	wait := make(chan struct{})
	w.forge.mu.Lock()
	w.forge.slow = map[int]chan struct{}{}
	for _, n := range slow {
		w.forge.slow[n] = wait
	}
	w.forge.mu.Unlock()
	if err := w.server.sweep(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, n := range told {
		for ; w.teller.state(n) == ""; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				w.t.Fatalf("#%d was not looked at", n)
			}
		}
	}
	return func() {
		close(wait)
		w.settle()
	}
}

// TestOldestFirst: a younger one takes no room while an older one is still to be looked at.
func TestOldestFirst(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Max: 1}))
	w.settle()
	w.forge.open(2)
	w.forge.open(5)
	answer := w.sweepAmid([]int{2}, 5)
	if got := w.numbers(); got != "[]" || w.teller.state(5) != StateWaiting {
		t.Errorf("previews %s, #5 was told %s", got, w.teller.state(5))
	}
	answer()
	if got := w.numbers(); got != "[2]" {
		t.Errorf("previews %s", got)
	}
}

// TestSweepCountsOnce: in the midst of a sweep a preview takes the room of one, and
// what there is room for has it at once.
func TestSweepCountsOnce(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Max: 3}))
	w.forge.open(1)
	w.forge.open(2)
	w.sweep()
	w.daemon.look()
	w.settle()
	w.forge.open(3)
	w.forge.open(4)
	answer := w.sweepAmid([]int{1, 2}, 3, 4)
	if got := w.numbers(); got != "[1 2 3]" || w.teller.state(3) != StateShown || w.teller.state(4) != StateWaiting {
		t.Errorf("previews %s, #3 was told %s, #4 %s", got, w.teller.state(3), w.teller.state(4))
	}
	answer()
	if got := w.numbers(); got != "[1 2 3]" {
		t.Errorf("previews %s", got)
	}
}

// TestReopenedLeavesRoom: one that is opened again while its preview goes waits behind
// those that are older, and they have the room at once that it leaves.
func TestReopenedLeavesRoom(t *testing.T) {
	w := newWorld(t, shop(v1alpha1.PullRequestPolicy{Max: 1}))
	w.forge.open(5)
	w.sweep()
	w.daemon.look()
	w.forge.open(3)
	w.event(3)
	w.settle()
	w.forge.shut(5)
	w.event(5)
	w.settle()
	w.forge.open(5)
	w.event(5)
	w.settle()
	if got := w.numbers(); got != "[]" {
		t.Fatalf("previews %s: the old one has not gone", got)
	}
	w.daemon.look()
	w.settle()
	if got := w.numbers(); got != "[3]" || w.teller.state(5) != StateWaiting {
		t.Errorf("previews %s, #5 was told %s", got, w.teller.state(5))
	}
}
