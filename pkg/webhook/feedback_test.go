package webhook

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
)

var (
	shopAt = forge.Repository{Owner: "acme", Name: "shop"}
	key7   = Key{Forge: "github", Repository: shopAt, Number: 1}
)

// lossy is a network that loses questions and answers.
type lossy struct{ question, answer bool }

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.question {
		return nil, errors.New("the question was lost")
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && l.answer && r.Method != http.MethodGet {
		resp.Body.Close()
		return nil, errors.New("the answer was lost")
	}
	return resp, err
}

// bench is a pull request of a forge that is told what becomes of it.
type bench struct {
	forge   *forgetest.Server
	client  forge.Client
	network *lossy
	state   string
	tell    *Feedback
}

func newBench(t testing.TB, service forge.Service) *bench {
	t.Helper()
	b := &bench{forge: forgetest.New(), network: &lossy{}, state: t.TempDir()}
	b.forge.AddRepository(shopAt)
	b.forge.AddToken("token", "tekton-bot")
	b.forge.Grant(shopAt, "tekton-bot", "write")
	url, stop, err := b.forge.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	b.client, err = forge.New(forge.Options{Service: service, URL: url, Transport: b.network, Token: func() (string, error) { return "token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"a", "b"} {
		b.forge.Open(shopAt, forge.PullRequest{Base: "main", Branch: c, Commit: commitOf(c), Author: "dev"})
	}
	b.restart(t)
	return b
}

func (b *bench) restart(t interface{ Fatal(...any) }) {
	f, err := NewFeedback(FeedbackOptions{State: b.state})
	if err != nil {
		t.Fatal(err)
	}
	b.tell = f
}

// ours are the comments by us, and the others.
func (b *bench) comments(number int) (ours, others []string) {
	for _, c := range b.forge.Comments(shopAt, number) {
		if c.Author == "tekton-bot" {
			ours = append(ours, c.Body)
		} else {
			others = append(others, c.Body)
		}
	}
	return ours, others
}

var outcomes = map[string]func(commit string) Outcome{
	"making": func(c string) Outcome {
		return shown(c, v1alpha1.PhaseStarting, nil, no("Ready", "NotStarted", "x"))
	},
	"ready": func(c string) Outcome { return shown(c, v1alpha1.PhaseReady, &v1alpha1.SetupStatus{Done: c}) },
	"failed": func(c string) Outcome {
		return shown(c, v1alpha1.PhaseFailed, &v1alpha1.SetupStatus{Log: []string{"@all"}}, no("Ready", "SetupFailed", "exit status 1"))
	},
	"unapproved": func(c string) Outcome {
		return Outcome{Verdict: Verdict{State: StateUnapproved, Commit: c, Message: "approve"}}
	},
	"draft": func(c string) Outcome {
		return Outcome{Verdict: Verdict{State: StateDraft, Commit: c, Message: "a draft"}}
	},
	"closed": func(c string) Outcome {
		return Outcome{Verdict: Verdict{State: StateClosed, Commit: c, Message: "closed"}, Preview: "shop-pr-7"}
	},
}

// TestAtMostOneComment: whatever is told one after another, with restarts, lost
// records, and a network and a forge that fail in between, there is at most one
// comment of ours, it tells the last news, and others are as they were written.
func TestAtMostOneComment(t *testing.T) {
	for _, service := range []forge.Service{forge.GitHub, forge.Forgejo} {
		t.Run(string(service), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				b := newBench(t, service)
				var said []string
				want, gone := "", false
				var last Outcome
				for range rapid.IntRange(1, 12).Draw(rt, "steps") {
					switch rapid.SampledFrom([]string{"tell", "tell", "tell", "again", "restart", "lost", "user", "copycat", "delete"}).Draw(rt, "step") {
					case "restart":
						b.restart(t)
					case "lost":
						if gone {
							continue // and with it that it was deleted
						}
						os.RemoveAll(b.state)
						b.restart(t)
					case "user":
						said = append(said, "I like it")
						b.forge.Say(shopAt, 1, "dev", "I like it")
					case "copycat":
						said = append(said, b.tell.marker+"\nowned")
						b.forge.Say(shopAt, 1, "dev", b.tell.marker+"\nowned")
					case "delete":
						for _, c := range b.forge.Comments(shopAt, 1) {
							if c.Author == "tekton-bot" && b.known(t) {
								b.forge.Unsay(shopAt, c.ID)
								gone, want = true, ""
							}
						}
						continue
					case "tell":
						last = outcomes[rapid.SampledFrom([]string{"making", "ready", "failed", "unapproved", "draft", "closed"}).Draw(rt, "outcome")](commitOf(rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "commit")))
						fallthrough
					case "again":
						if last.State == "" {
							continue
						}
						before, _ := b.tell.read(key7)
						b.tellLossy(rt, last)
						n := newsOf(last)
						switch held := n.state == newsMaking && before.Want == wanted(last) && (before.State == newsMaking || before.State == newsReady || before.State == newsFailed); {
						case held || gone:
						case n.state == newsGone && want == "":
						default:
							want = n.render(b.tell.marker, true)
						}
						if last.State == StateClosed {
							gone = false // with the record; another opening is told again
						}
					}
					ours, others := b.comments(1)
					if len(ours) > 1 || len(ours) == 0 && want != "" || len(ours) == 1 && ours[0] != want {
						rt.Fatalf("%d comments of ours, want %q: %q", len(ours), want, ours)
					}
					if !slices.Equal(others, said) {
						rt.Fatalf("others said %q, and now it is %q", said, others)
					}
				}
			})
		})
	}
}

// known reports whether the comment is on record.
func (b *bench) known(t *testing.T) bool {
	r, err := b.tell.read(key7)
	if err != nil {
		t.Fatal(err)
	}
	return r.Comment != 0
}

// tellLossy tells over a bad network, until it is told.
func (b *bench) tellLossy(t *rapid.T, o Outcome) {
	for range rapid.IntRange(0, 2).Draw(t, "failures") {
		b.network.question = rapid.Bool().Draw(t, "question is lost")
		b.network.answer = !b.network.question
		if b.tell.Tell(t.Context(), b.client, key7, o) != nil && rapid.Bool().Draw(t, "killed") {
			b.restart(t)
		}
	}
	*b.network = lossy{}
	if err := b.tell.Tell(t.Context(), b.client, key7, o); err != nil {
		t.Fatal(err)
	}
}

// TestOneEditAState: the same news cost nothing, however often they are told,
// also after a restart; steps on the way and retries are no news.
func TestOneEditAState(t *testing.T) {
	b := newBench(t, forge.GitHub)
	a := commitOf("a")
	count := func(o Outcome) (edits, all int) {
		b.forge.Requests()
		for i := range 20 {
			if i%5 == 4 {
				b.restart(t)
			}
			if err := b.tell.Tell(t.Context(), b.client, key7, o); err != nil {
				t.Fatal(err)
			}
		}
		requests := b.forge.Requests()
		for _, r := range requests {
			if strings.Contains(r, "comments") && !strings.HasPrefix(r, "GET") {
				edits++
			}
		}
		return edits, len(requests)
	}
	for i, step := range []struct {
		o     Outcome
		edits int
		most  int // requests: comment, deployment and its statuses
	}{
		{outcomes["draft"](a), 0, 40}, // nothing is known of it, so it is looked for
		{outcomes["making"](a), 1, 8},
		{shown(a, v1alpha1.PhaseFetching, nil, no("Ready", "Fetching", "43 %")), 0, 0},
		{outcomes["failed"](a), 1, 5},
		{outcomes["making"](a), 0, 0}, // tried again
		{outcomes["failed"](a), 0, 0},
		{outcomes["ready"](a), 1, 6},
		{outcomes["making"](a), 0, 0}, // the daemon began anew
		{outcomes["ready"](a), 0, 0},
	} {
		if edits, all := count(step.o); edits != step.edits || all > step.most {
			t.Errorf("%d: %d edits and %d requests, want %d and at most %d", i, edits, all, step.edits, step.most)
		}
	}
	d := b.forge.Deployments(shopAt)
	ours := b.forge.Comments(shopAt, 1)
	if len(d) != 1 || d[0].State != forge.DeploymentSuccess || d[0].URL != "https://shop-pr-7.preview.example.org" || d[0].Environment != "preview/shop-pr-7" ||
		!strings.HasSuffix(d[0].LogURL, "/acme/shop/pull/1#issuecomment-"+strconv.FormatInt(ours[0].ID, 10)) {
		t.Errorf("%+v", d)
	}
	if keys, err := b.tell.Told(); err != nil || !slices.Equal(keys, []Key{key7}) {
		t.Errorf("told of %v, %v", keys, err)
	}
	if err := b.tell.Tell(t.Context(), b.client, key7, outcomes["closed"](a)); err != nil {
		t.Fatal(err)
	}
	if d := b.forge.Deployments(shopAt); len(d) != 1 || d[0].State != forge.DeploymentInactive {
		t.Errorf("%+v", d)
	}
	if keys, err := b.tell.Told(); err != nil || len(keys) != 0 {
		t.Errorf("closed, and told of: %v, %v", keys, err)
	}
	if files, _ := filepath.Glob(filepath.Join(b.state, "told", "*")); len(files) != 0 {
		t.Errorf("kept of a closed one: %v", files)
	}
}

// TestFirstTimeStays: how long a commit took is told once; when its preview wakes
// or the host is started again, nothing is edited.
func TestFirstTimeStays(t *testing.T) {
	b := newBench(t, forge.GitHub)
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ready := func(c string, took time.Duration) Outcome {
		return shown(commitOf(c), v1alpha1.PhaseReady, &v1alpha1.SetupStatus{Done: commitOf(c), StartedAt: start, EndedAt: start.Add(took)})
	}
	if b.tell.Text(ready("a", time.Minute)) != b.tell.Text(ready("a", time.Second)) {
		t.Error("another time is news")
	}
	for _, step := range []struct {
		o    Outcome
		want string
	}{
		{ready("a", 3*time.Minute), "took 3m0s"},
		{ready("a", 2*time.Second), "took 3m0s"},
		{outcomes["making"](commitOf("a")), "took 3m0s"},
		{ready("a", 2*time.Second), "took 3m0s"},
		{ready("b", 4*time.Second), "took 4s"},
	} {
		if err := b.tell.Tell(t.Context(), b.client, key7, step.o); err != nil {
			t.Fatal(err)
		}
		b.restart(t)
		if ours, _ := b.comments(1); len(ours) != 1 || !strings.Contains(ours[0], step.want) {
			t.Errorf("%q, want %s", ours, step.want)
		}
	}
}

// TestDeletedIsRespected: who deletes our comment gets no other.
func TestDeletedIsRespected(t *testing.T) {
	b := newBench(t, forge.GitHub)
	tell := func(name, c string) {
		t.Helper()
		if err := b.tell.Tell(t.Context(), b.client, key7, outcomes[name](commitOf(c))); err != nil {
			t.Fatal(err)
		}
	}
	tell("making", "a")
	if err := b.forge.Unsay(shopAt, b.forge.Comments(shopAt, 1)[0].ID); err != nil {
		t.Fatal(err)
	}
	tell("ready", "a")
	b.restart(t)
	tell("making", "b")
	if ours, _ := b.comments(1); len(ours) != 0 {
		t.Errorf("%q", ours)
	}
	if d := b.forge.Deployments(shopAt); len(d) != 2 || d[0].State != forge.DeploymentSuccess || d[1].State != forge.DeploymentInProgress {
		t.Errorf("deployments go on: %+v", d)
	}
}

// TestHiddenIsNotDeleted: a forge that shows nothing has not deleted a comment.
func TestHiddenIsNotDeleted(t *testing.T) {
	b := newBench(t, forge.GitHub)
	a := commitOf("a")
	if err := b.tell.Tell(t.Context(), b.client, key7, outcomes["making"](a)); err != nil {
		t.Fatal(err)
	}
	b.forge.SetFault(forgetest.Unavailable(http.StatusNotFound))
	if err := b.tell.Tell(t.Context(), b.client, key7, outcomes["ready"](a)); err != nil {
		t.Errorf("what is hidden is tried again for ever: %v", err)
	}
	b.forge.SetFault(nil)
	if err := b.tell.Tell(t.Context(), b.client, key7, outcomes["failed"](a)); err != nil {
		t.Fatal(err)
	}
	if ours, _ := b.comments(1); len(ours) != 1 || !strings.Contains(ours[0], "failed") {
		t.Errorf("%q", ours)
	}
}

// TestRefusalIsNoTrouble: what the app may not do, and what the forge does not
// accept, is left out, and not tried again and again.
func TestRefusalIsNoTrouble(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity} {
		b := newBench(t, forge.GitHub)
		b.forge.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
			refused := strings.Contains(r.URL.Path, "/deployments")
			return refused && forgetest.Unavailable(status)(w, r)
		})
		if err := b.tell.Tell(t.Context(), b.client, key7, outcomes["ready"](commitOf("a"))); err != nil {
			t.Error(err)
		}
		if ours, _ := b.comments(1); len(ours) != 1 {
			t.Errorf("%q", ours)
		}
	}
	b := newBench(t, forge.GitHub)
	if err := b.tell.Tell(t.Context(), b.client, key7, outcomes["ready"](commitOf("f"))); err != nil { // no such commit there
		t.Error(err)
	}
}

// TestLimitIsWaitedFor: the error says how long.
func TestLimitIsWaitedFor(t *testing.T) {
	b := newBench(t, forge.GitHub)
	b.forge.SetLimit(0, time.Now().Add(10*time.Minute))
	err := b.tell.Tell(t.Context(), b.client, key7, outcomes["ready"](commitOf("a")))
	if retry, ok := errors.AsType[*forge.RetryError](err); !ok || retry.After < 9*time.Minute {
		t.Errorf("%v", err)
	}
}

func TestInstances(t *testing.T) {
	for _, bad := range []string{"a b", "-->", "a--b", "<x>", strings.Repeat("x", 101)} {
		if _, err := NewFeedback(FeedbackOptions{State: t.TempDir(), Instance: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
		c := &Config{Instance: bad}
		c.setDefaults()
		if err := c.validate().ToAggregate(); err == nil || !strings.Contains(err.Error(), "instance: ") {
			t.Errorf("%q is taken of a configuration: %v", bad, err)
		}
	}
	b := newBench(t, forge.GitHub)
	for _, name := range []string{"one.example", "two.example", "one.example"} {
		f, err := NewFeedback(FeedbackOptions{State: t.TempDir(), Instance: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Tell(t.Context(), b.client, key7, outcomes["ready"](commitOf("a"))); err != nil {
			t.Fatal(err)
		}
	}
	if ours, _ := b.comments(1); len(ours) != 2 {
		t.Errorf("%q", ours)
	}
}
