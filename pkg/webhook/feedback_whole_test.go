package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
)

// whole is a server between a forge that speaks HTTP both ways and a daemon.
type whole struct {
	*world
	at  *forgetest.Server
	url string
	in  http.Handler // swapped at a restart
}

func newWhole(t *testing.T) *whole {
	t.Helper()
	w := &whole{at: forgetest.New()}
	w.at.AddRepository(shopAt)
	w.at.AddToken("token", "tekton-bot")
	w.at.Grant(shopAt, "tekton-bot", "write")
	url, stop, err := w.at.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w.url = url
	dir := t.TempDir()
	w.world = &world{t: t, specs: filepath.Join(dir, "specs"), state: filepath.Join(dir, "state")}
	if err := os.Mkdir(w.specs, 0o755); err != nil {
		t.Fatal(err)
	}
	w.daemon = newFakeDaemon(w.specs, map[string]v1alpha1.RepositorySpec{"shop": {URL: url + "/acme/shop.git"}})
	w.start(t)
	t.Cleanup(func() { w.stop() })
	receiver := httptest.NewServer(http.HandlerFunc(func(a http.ResponseWriter, r *http.Request) { w.in.ServeHTTP(a, r) }))
	t.Cleanup(receiver.Close)
	w.at.AddHook(forgetest.Hook{URL: receiver.URL + "/webhook/github", Secret: secret})
	return w
}

func (w *whole) start(t *testing.T) {
	t.Helper()
	tell, err := NewFeedback(FeedbackOptions{State: w.state})
	if err != nil {
		t.Fatal(err)
	}
	client, err := forge.New(forge.Options{Service: forge.GitHub, URL: w.url, Token: func() (string, error) { return "token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Specs: w.specs, State: w.state, Daemon: w.daemon, Teller: tell, Sweep: time.Hour,
		Forges: []Forge{{Name: "github", URL: w.url, Client: client, Secrets: func() ([][]byte, error) { return [][]byte{[]byte(secret)}, nil }}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.watcher.again = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		s.Run(ctx)
		close(done)
	}()
	w.server, w.in = s, s.Handler()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		s.Close()
	})
}

// deliverAll sends what is there, shuffled, some of it twice, and what comes of it.
func (w *whole) deliverAll(t *testing.T, random *rand.Rand) {
	t.Helper()
	for {
		some := w.at.Deliveries()
		if len(some) == 0 {
			return
		}
		for _, d := range some {
			if random.IntN(5) == 0 {
				some = append(some, d)
			}
		}
		random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		var senders sync.WaitGroup
		for i := range 8 {
			senders.Go(func() {
				for j := i; j < len(some); j += 8 {
					if code, err := some[j].Send(t.Context()); err != nil || code/100 != 2 {
						t.Errorf("delivery: %d, %v", code, err)
					}
				}
			})
		}
		senders.Wait()
		w.settle()
		w.daemon.look()
		w.settle()
	}
}

// commentEdits that were asked of the forge.
func (w *whole) commentEdits() int {
	n := 0
	for _, r := range w.at.Requests() {
		if strings.Contains(r, "comments") && !strings.HasPrefix(r, "GET") {
			n++
		}
	}
	return n
}

// TestBurstIsTold: a thousand deliveries, shuffled and repeated, end with the specs
// that the forge's truth asks for, and one comment edit a pull request and state.
func TestBurstIsTold(t *testing.T) {
	const pulls, pushes = 20, 50
	w := newWhole(t)
	random := rand.New(rand.NewPCG(1, 2))
	for n := range pulls {
		w.at.Open(shopAt, forge.PullRequest{Base: "main", Branch: fmt.Sprint("b", n), Commit: fmt.Sprintf("%040x", n), Author: "dev"})
	}
	for range pushes - 1 {
		for n := range pulls {
			w.at.Push(shopAt, n+1, fmt.Sprintf("%040x", random.Uint64()))
		}
	}
	w.deliverAll(t, random)
	for _, p := range w.at.PullRequests(shopAt) {
		if got := w.previews()[p.Number].Spec.Commit; got != p.Commit {
			t.Errorf("%d shows %s, want %s", p.Number, got, p.Commit)
		}
		ours := w.at.Comments(shopAt, p.Number)
		if len(ours) != 1 || !strings.Contains(ours[0].Body, "is ready") || !strings.Contains(ours[0].Body, p.Commit[:12]) {
			t.Errorf("%d: %+v", p.Number, ours)
		}
	}
	if n := w.commentEdits(); n != 2*pulls {
		t.Errorf("%d edits of comments, want one for each being made and one for each ready: %d", n, 2*pulls)
	}

	// A restart tells nothing again, and what is closed is told once.
	w.stop()
	w.start(t)
	w.sweep()
	if n := w.commentEdits(); n != 0 {
		t.Errorf("%d edits after a restart", n)
	}
	for n := range pulls {
		w.at.Close(shopAt, n+1)
	}
	w.deliverAll(t, random)
	w.sweep()
	if got := w.previews(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	for n := range pulls {
		if ours := w.at.Comments(shopAt, n+1); len(ours) != 1 || !strings.Contains(ours[0].Body, "**No preview**") {
			t.Errorf("%d: %+v", n+1, ours)
		}
	}
	for _, d := range w.at.Deployments(shopAt) {
		if d.State != forge.DeploymentInactive {
			t.Errorf("live: %+v", d)
		}
	}
	if n := w.commentEdits(); n != pulls {
		t.Errorf("%d edits for %d that were closed", n, pulls)
	}
}

// TestForgeInTrouble: while the forge is limited or broken, what can be told
// waits, and is told afterwards; specs do not wait for comments.
func TestForgeInTrouble(t *testing.T) {
	w := newWhole(t)
	random := rand.New(rand.NewPCG(3, 4))
	w.at.SetFault(func(a http.ResponseWriter, r *http.Request) bool {
		broken := r.Method != http.MethodGet
		return broken && forgetest.Unavailable(http.StatusBadGateway)(a, r)
	})
	w.at.Open(shopAt, forge.PullRequest{Base: "main", Branch: "b", Commit: commitOf("a"), Author: "dev"})
	w.deliverAll(t, random)
	if got := w.numbers(); got != "[1]" {
		t.Errorf("the spec waits for the comment: %s", got)
	}
	w.at.SetFault(nil)
	w.stop()
	w.start(t)
	w.sweep()
	if ours := w.at.Comments(shopAt, 1); len(ours) != 1 || !strings.Contains(ours[0].Body, "is ready") {
		t.Errorf("%+v", ours)
	}
}

// TestHistoriesAreTold: whatever happens to pull requests, with deliveries that
// are shuffled, repeated, lost and replayed, and restarts in between, after a
// sweep the specs are what the truth asks for, and each pull request has at most
// one comment of ours, which says so.
func TestHistoriesAreTold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWhole(t)
		defer w.stop()
		w.at.Grant(shopAt, "ann", "write")
		seed := rapid.Uint64().Draw(rt, "seed")
		random := rand.New(rand.NewPCG(seed, seed))
		var past []forgetest.Delivery
		said := map[int]int{}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			all := w.at.PullRequests(shopAt)
			n := 0
			if len(all) > 0 {
				n = rapid.IntRange(1, len(all)).Draw(rt, "number")
			}
			step := rapid.SampledFrom([]string{"open", "push", "close", "reopen", "draft", "ready", "base", "down", "up", "stranger", "deliver", "lose", "replay", "restart"}).Draw(rt, "step")
			if n == 0 && step != "restart" {
				step = "open"
			}
			switch step {
			case "open":
				w.at.Open(shopAt, forge.PullRequest{Base: "main", Branch: "b", Commit: fmt.Sprintf("%040x", random.Uint64()), Author: "dev", Fork: random.IntN(4) == 0})
			case "push":
				w.at.Push(shopAt, n, fmt.Sprintf("%040x", random.Uint64()))
			case "close":
				w.at.Close(shopAt, n)
			case "reopen":
				w.at.Reopen(shopAt, n)
			case "draft", "ready":
				w.at.SetDraft(shopAt, n, step == "draft")
			case "base":
				w.at.Rebase(shopAt, n, rapid.SampledFrom([]string{"main", "next"}).Draw(rt, "base"))
			case "down", "up", "stranger":
				author, body := "ann", map[string]string{"down": "/preview down", "up": "/preview", "stranger": "/preview down"}[step]
				if step == "stranger" {
					author = "dev"
				}
				w.at.Say(shopAt, n, author, body)
				said[n]++
			case "deliver":
				w.deliverAll(t, random)
			case "lose":
				past = append(past, w.at.Deliveries()...)
			case "replay":
				for _, d := range past {
					d.Send(t.Context())
				}
			case "restart":
				w.stop()
				w.start(t)
			}
		}
		for range 2 { // the first one tells, and reads what the daemon did
			w.sweep()
			w.daemon.look()
			w.settle()
		}
		previews := w.previews()
		policy := v1alpha1.PullRequestPolicy{}
		for _, p := range w.at.PullRequests(shopAt) {
			var ours []string
			var others []forge.Comment
			for _, c := range w.at.Comments(shopAt, p.Number) {
				if c.Author == "tekton-bot" {
					ours = append(ours, c.Body)
				} else {
					others = append(others, c)
				}
			}
			if len(others) != said[p.Number] || len(ours) > 1 {
				rt.Fatalf("%d: %d comments of others, want %d, and of ours %q", p.Number, len(others), said[p.Number], ours)
			}
			v := Decide(policy, p, slices.DeleteFunc(Commands(others), func(c Command) bool { return c.Author != "ann" }))
			got, has := previews[p.Number]
			if has != v.Shown() || has && got.Spec.Commit != p.Commit {
				rt.Fatalf("%d: %s, and its preview is at %q", p.Number, v.State, got.Spec.Commit)
			}
			want := "**No preview"
			if v.Shown() {
				want = "**The preview is ready** · commit ` " + p.Commit[:12] + " `"
			}
			if len(ours) == 0 && v.Shown() || len(ours) == 1 && !strings.Contains(ours[0], want) {
				rt.Fatalf("%d is %s, and told: %q", p.Number, v.State, ours)
			}
		}
	})
}
