package checkout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/job"
	"tekton.host/pkg/resource"
)

// fetches are one checkout's attempts, which go on until they are told how they end.
type fetches interface {
	// ask for an attempt by somebody who saw another one (0: none).
	ask(attempt, seen int) error
	succeed()
	fail()
	// kill ends the attempt without it knowing.
	kill()
	remove()
	// restart the daemon.
	restart()
	// setBack sets the clock back by an hour, to before what was asked for.
	setBack()
	// see is the one checkout there is, nil for none, and its commits so far.
	see() (*resource.Checkout, []string)
}

// TestContract: the fetches of the simulated world, on which the engine's tests
// stand, go as those of the driver do.
func TestContract(t *testing.T) {
	for name, moves := range map[string]string{
		"asked twice":                        "ask1 ask1 succeed ask1",
		"an earlier one is asked for":        "ask2 succeed ask1",
		"asked for by who saw another":       "ask1 succeed ask3-2 ask2-1 fail",
		"nothing yet, then failure":          "ask1 fail ask2 fail ask3 succeed",
		"its result outlives failures":       "ask1 succeed ask2 fail ask3 fail ask4 succeed ask5 fail",
		"another one while one is under way": "ask1 ask2 succeed",
		"the same after failures":            "ask1 fail ask2 ask3 fail",
		"killed":                             "ask1 kill ask2 succeed",
		"killed with an earlier result":      "ask1 succeed ask2 kill ask3 kill ask4 succeed",
		"removed under way":                  "ask1 remove ask1 succeed",
		"removed after its end":              "ask1 fail remove ask1 succeed remove",
		"the daemon restarts":                "ask1 restart ask1 succeed restart ask2 restart fail restart ask3 kill restart",
		"the clock is set back, then killed": "ask1 setBack kill ask2 succeed",
		"the clock is set back, then failed": "ask1 setBack fail ask2 setBack succeed",
	} {
		t.Run(name, func(t *testing.T) {
			real, simulated := newRealFetches(t), newSimulatedFetches()
			for i, move := range strings.Fields(moves) {
				errs := [2]error{play(real, move), play(simulated, move)}
				if (errs[0] == nil) != (errs[1] == nil) || errors.Is(errs[0], resource.ErrStale) != errors.Is(errs[1], resource.ErrStale) {
					t.Fatalf("%s (%d of %s): the driver says %v, the simulated world %v", move, i+1, moves, errs[0], errs[1])
				}
				if have, want := outline(simulated.see()), outline(real.see()); have != want {
					t.Fatalf("after %s (%d of %s)\nthe driver has          %s\nthe simulated world has %s", move, i+1, moves, want, have)
				}
			}
		})
	}
}

func play(f fetches, move string) error {
	var attempt, seen int
	if n, _ := fmt.Sscanf(move, "ask%d-%d", &attempt, &seen); n > 0 {
		return f.ask(attempt, seen)
	}
	map[string]func(){"succeed": f.succeed, "fail": f.fail, "kill": f.kill, "remove": f.remove, "restart": f.restart, "setBack": f.setBack}[move]()
	return nil
}

// outline is what the engine decides by.
func outline(c *resource.Checkout, commits []string) string {
	if c == nil {
		return "nothing"
	}
	how, result := c.Fetch.Job, "nothing"
	for i, commit := range commits {
		if c.Fetch.Result.Commit == commit {
			result = fmt.Sprintf("commit %d", i+1)
		}
	}
	reason := how.Reason
	if c.Fetch.Result.Commit != "" && result == "nothing" {
		result = "an unknown commit"
	}
	return fmt.Sprintf("attempt %d, running %t, begun %t, ended %t, reason %q, told %t, failures %d, result %s, lost %t",
		c.Attempt, how.Running, !how.StartedAt.IsZero(), !how.EndedAt.IsZero(), reason, how.Message != "", how.Failures, result, c.Lost)
}

// realFetches has the driver fetch from a server that answers when it is told to.
type realFetches struct {
	*rig
	want    resource.Checkout
	release func()
	commits []string
}

func newRealFetches(t *testing.T) *realFetches {
	r := &realFetches{rig: newRig(t)}
	r.want = resource.Checkout{URL: r.server.Address(), Ref: "main", Deadline: resource.Duration(patience), MaxSize: 64 << 20}
	r.release = r.server.Hang()
	t.Cleanup(func() { r.release() })
	return r
}

func (r *realFetches) ask(attempt, seen int) error {
	r.want.Attempt = attempt
	s := resource.Step{Verb: resource.Put, Resource: resource.New(resource.HostOwner, "", nameOf(r.want), r.want)}
	if seen > 0 {
		was := s.Resource
		was.Value = resource.Checkout{URL: r.want.URL, Ref: r.want.Ref, Attempt: seen}
		s.Seen = &was
	}
	if err := r.Apply(context.Background(), []resource.Step{s})[0]; err != nil {
		return err
	}
	r.until(r.want, "asking the server, or over", func(c resource.Checkout) bool {
		return !c.Fetch.Running || c.Fetch.Progress == "asking the server"
	})
	return nil
}

// end lets the server answer, and holds the next ones up.
func (r *realFetches) end() {
	r.t.Helper()
	r.release()
	r.until(r.want, "over", func(c resource.Checkout) bool { return !c.Fetch.Running })
	r.release = r.server.Hang()
}

func (r *realFetches) succeed() {
	r.commits = append(r.commits, r.remote.Push(map[string]string{"a": fmt.Sprint(len(r.commits))}))
	r.end()
}

func (r *realFetches) fail() {
	if r.remote.Git("ls-remote", "origin", "refs/heads/main") != "" {
		r.remote.Git("push", "--quiet", "origin", ":main")
	}
	r.end()
}

func (r *realFetches) kill() {
	r.t.Helper()
	if err := r.manager.Signal(r.t.Context(), r.Dir(nameOf(r.want)), syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	r.until(r.want, "over", func(c resource.Checkout) bool { return !c.Fetch.Running })
}

func (r *realFetches) remove() { r.rig.remove(r.want) }

func (r *realFetches) restart() { r.Driver = r.another() }

// setBack has the description say that it was written in an hour: who reads a
// clock that was set back since finds the same.
func (r *realFetches) setBack() {
	path := filepath.Join(r.Dir(nameOf(r.want)), job.DescriptionFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		r.t.Fatal(err)
	}
	asked, err := time.Parse(time.RFC3339Nano, fields["askedAt"].(string))
	if err != nil {
		r.t.Fatal(err)
	}
	fields["askedAt"] = asked.Add(time.Hour)
	if raw, err = json.Marshal(fields); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realFetches) see() (*resource.Checkout, []string) {
	for _, c := range r.observe() {
		return &c, r.commits
	}
	return nil, r.commits
}

type simulatedFetches struct {
	world   *simworld.World
	want    resource.Checkout
	commits []string
}

func newSimulatedFetches() *simulatedFetches {
	return &simulatedFetches{world: simworld.New(time.Now()), want: resource.Checkout{URL: "https://git.example.org/a.git", Ref: "main"}}
}

func (s *simulatedFetches) ask(attempt, seen int) error {
	s.want.Attempt = attempt
	step := resource.Step{Verb: resource.Put, Resource: resource.New(resource.HostOwner, "", nameOf(s.want), s.want)}
	if seen > 0 {
		was := step.Resource
		was.Value = resource.Checkout{URL: s.want.URL, Ref: s.want.Ref, Attempt: seen}
		step.Seen = &was
	}
	return s.world.Apply(step)
}

func (s *simulatedFetches) succeed() {
	s.commits = append(s.commits, fmt.Sprintf("commit-%d", len(s.commits)))
	s.world.Repositories[s.want.URL] = s.commits[len(s.commits)-1]
	s.world.EndJobs()
}

func (s *simulatedFetches) fail() {
	s.world.Repositories[s.want.URL] = ""
	s.world.EndJobs()
}

func (s *simulatedFetches) kill() { s.world.Reboot() }

func (s *simulatedFetches) remove() {
	have := s.world.Things[resource.ID{Kind: resource.KindCheckout, Name: nameOf(s.want)}]
	if err := s.world.Apply(resource.Step{Verb: resource.Delete, Resource: have, Seen: &have}); err != nil {
		panic(err)
	}
}

func (s *simulatedFetches) restart() {}

func (s *simulatedFetches) setBack() { s.world.Now = s.world.Now.Add(-time.Hour) }

func (s *simulatedFetches) see() (*resource.Checkout, []string) {
	for _, r := range s.world.Observe()[resource.KindCheckout].Items.Sorted() {
		c := r.Value.(resource.Checkout)
		return &c, s.commits
	}
	return nil, s.commits
}
