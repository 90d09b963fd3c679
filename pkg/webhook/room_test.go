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
