package webhook

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// history is a random one of pull requests, and of the way their deliveries take.
type history struct {
	*world
	r      *rapid.T
	policy v1alpha1.PullRequestPolicy
	queue  []int // deliveries on their way: pull requests
	sent   []int // deliveries that may come again
}

// TestHistories: whatever happens to pull requests, deliveries, forge, daemon
// and ourselves, in the end the specs are what the forge shows.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		policy := v1alpha1.PullRequestPolicy{
			Trigger: rapid.SampledFrom([]string{"Open", "Comment"}).Draw(r, "trigger"),
			Forks:   rapid.SampledFrom([]string{"Never", "Approved"}).Draw(r, "forks"),
			Label:   rapid.SampledFrom([]string{"", "", "preview"}).Draw(r, "label"),
			Bases:   rapid.SampledFrom([][]string{nil, nil, {"main"}}).Draw(r, "bases"),
			Max:     rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(r, "max"),
		}
		h := &history{world: newWorld(t, shop(policy)), r: r, policy: policy}
		defer func() { h.stop() }()
		if max := rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(r, "max of the host"); max > 0 {
			h.max = max
			h.restart()
		}
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			h.step()
		}
		h.forge.fail(nil)
		h.daemon.goAway(false)
		h.queue = nil // what was not delivered by now is lost
		for range 3 { // a preview makes room for the next when it has gone
			h.sweep()
			h.daemon.look()
		}
		h.settle()
		h.check()
	})
}

func (h *history) step() {
	n := rapid.IntRange(1, 4).Draw(h.r, "number")
	switch rapid.SampledFrom([]string{"forge", "forge", "forge", "forge", "deliver", "deliver", "deliver", "daemon", "restart", "outage", "away", "sweep"}).Draw(h.r, "step") {
	case "forge":
		h.change(n)
		h.queue = append(h.queue, n)
	case "deliver":
		h.deliverSome()
	case "daemon":
		h.daemon.look()
	case "restart":
		h.restart()
	case "outage":
		var err error
		if rapid.Bool().Draw(h.r, "outage") {
			err = errors.New("the forge is down")
		}
		h.forge.fail(err)
	case "away":
		h.daemon.goAway(rapid.Bool().Draw(h.r, "away"))
	case "sweep":
		h.settle()
		h.server.sweep(h.t.Context()) // with the forge or the daemon away it fails
	}
}

// change the truth.
func (h *history) change(n int) {
	h.forge.change(n, func(*forge.PullRequest) {})
	switch rapid.SampledFrom([]string{"push", "close", "reopen", "draft", "label", "fork", "base", "say", "say", "say", "reword", "unsay"}).Draw(h.r, "change") {
	case "push":
		commit := rapid.SampledFrom([]string{commitA, commitB}).Draw(h.r, "commit")
		h.forge.change(n, func(pr *forge.PullRequest) { pr.Commit = commit })
	case "close":
		h.forge.shut(n)
	case "reopen":
		h.forge.open(n)
	case "draft":
		h.forge.change(n, func(pr *forge.PullRequest) { pr.Draft = !pr.Draft })
	case "label":
		h.forge.change(n, func(pr *forge.PullRequest) {
			if pr.Labels = []string{"preview"}; rapid.Bool().Draw(h.r, "unlabel") {
				pr.Labels = nil
			}
		})
	case "fork":
		h.forge.change(n, func(pr *forge.PullRequest) { pr.Fork = true })
	case "base":
		base := rapid.SampledFrom([]string{"main", "next"}).Draw(h.r, "base")
		h.forge.change(n, func(pr *forge.PullRequest) { pr.Base = base })
	case "reword":
		h.forge.reword(n, rapid.SampledFrom([]string{"/preview", "/preview down", "never mind"}).Draw(h.r, "words"))
	case "unsay":
		h.forge.unsay(n)
	case "say":
		h.forge.say(n, rapid.SampledFrom([]string{"ann", "ann", "mallory"}).Draw(h.r, "author"),
			rapid.SampledFrom([]string{"/preview", "/preview down", "/preview rebuild", "/preview approve " + commitA, "nice"}).Draw(h.r, "comment"))
	}
}

// deliverSome of what is on its way: in any order, twice, never, or once more.
func (h *history) deliverSome() {
	if len(h.queue) == 0 {
		h.queue = append(h.queue, h.sent...)
	}
	if len(h.queue) == 0 {
		return
	}
	i := rapid.IntRange(0, len(h.queue)-1).Draw(h.r, "delivery")
	n := h.queue[i]
	h.queue = slices.Delete(h.queue, i, i+1)
	for range rapid.IntRange(0, 2).Draw(h.r, "times") {
		h.event(n)
	}
	h.sent = append(h.sent, n)
}

func (h *history) check() {
	got, want := h.previews(), h.forge.wanted(h.policy)
	for n, p := range got {
		v, ok := want[n]
		if !ok {
			h.r.Fatalf("#%d has a preview of %s, and ought to have none", n, p.Spec.Commit)
		}
		if s := p.Spec; s.Commit != v.Commit || s.Fork != v.Fork || s.Rebuild != v.Rebuilds || s.PullRequest != n {
			h.r.Fatalf("#%d: preview %+v, want %+v", n, s, v)
		}
		if told := h.teller.state(n); told != StateShown {
			h.r.Fatalf("#%d was told %s", n, told)
		}
	}
	room := len(want)
	for _, max := range []int{h.policy.Max, h.max} {
		if max > 0 {
			room = min(room, max)
		}
	}
	if len(got) != room {
		h.r.Fatalf("previews of %v, want %d of %v", slices.Sorted(maps.Keys(got)), room, slices.Sorted(maps.Keys(want)))
	}
	for n := range want {
		if _, has := got[n]; !has && h.teller.state(n) != StateWaiting {
			h.r.Fatalf("#%d waits, and was told %s", n, h.teller.state(n))
		}
	}
	for n, pr := range h.forge.pulls {
		if told := h.teller.state(n); !pr.Open && told != "" && told != StateClosed {
			h.r.Fatalf("#%d is closed, and was told %s", n, told)
		}
	}
	if len(h.daemon.lost) > 0 {
		h.r.Fatalf("files vanished with their documents in them: %v", h.daemon.lost)
	}
	h.checkLeftovers(want)
}

// checkLeftovers: of what has no preview nothing is kept.
func (h *history) checkLeftovers(want map[int]Verdict) {
	old := time.Now().Add(-time.Minute)
	for file, p := range h.daemon.read() {
		if p == nil {
			os.Chtimes(file, old, old)
		}
	}
	h.sweep()
	refs, err := h.server.store.Refs()
	if err != nil {
		h.r.Fatal(err)
	}
	for _, ref := range refs {
		if _, wanted := want[ref.Number]; !wanted {
			h.r.Fatalf("something is kept of %s", fmt.Sprint(ref))
		}
	}
	if n := h.server.journal.Len(); n != 0 {
		h.r.Fatalf("%d keys are still pending", n)
	}
}
