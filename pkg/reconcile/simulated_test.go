package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fault is what befalls one step.
type fault string

const (
	noFault          fault = ""
	crashBefore      fault = "crash before the step"
	crashAfter       fault = "crash after the step, before its record"
	failedStep       fault = "the step fails"
	timeoutEffect    fault = "the step times out and had its effect"
	timeoutNoEffect  fault = "the step times out without effect"
	daemonRestarts   fault = "the daemon restarts after the step"
	machineDies      fault = "the object's machine dies after the step"
	everythingReboot fault = "the host reboots after the step"
	powerCut         fault = "the power is cut after the step: what was not synced is lost"
)

var faults = []fault{crashBefore, crashAfter, failedStep, timeoutEffect, timeoutNoEffect, daemonRestarts, machineDies, everythingReboot, powerCut}

// invisible reports whether machines and services must not notice the fault (I8).
func (f fault) invisible() bool { return f != machineDies && f != everythingReboot && f != powerCut }

// local reports whether the fault befalls only the step's object (I7).
func (f fault) local() bool {
	return f == failedStep || f == timeoutEffect || f == timeoutNoEffect || f == machineDies
}

// sim is a whole daemon's logic over a simulated host: the Core of the engine,
// whose steps are under way for a while and land one by one.
type sim struct {
	t     tester
	world *simworld.World
	core  *Core
	conf  Config
	files map[string]specFile
	// unmarked: the directory has no .tekton-source; sourceErr: it cannot be read.
	unmarked  bool
	sourceErr error
	// secrets by name; the engine sees only their digests.
	secrets    map[string]string
	secretsErr error

	// endless builds do not come to their end by themselves.
	endless bool

	flying    []resource.Step
	cancelled map[resource.ID]bool
	rand      *rand.PCG // nil: the first step of the plan lands first
	later     []laterEvent
	events    []entry
	landed    int // steps
	faultAt   int
	fault     fault
	second    fault               // befalls the next step of another object than the first one's
	two       bool                // there is, or was, a second fault
	hit       string              // BusyKey of the step that had the fault
	hits      []resource.Resource // of its batch
	last      Result
}

// laterEvent happens when so many steps have landed.
type laterEvent struct {
	at int
	do func(*sim)
}

// entry of the history, formatted only for a failure.
type entry struct {
	note  string
	step  resource.Step
	fault fault
	err   error
}

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func newSim(t tester) *sim { return newSimIn(t, "10.99.0.0/24") }

func newSimIn(t tester, subnet string) *sim {
	s := &sim{
		t: t, world: simworld.New(epoch), conf: simConfig(), files: map[string]specFile{}, secrets: map[string]string{},
		cancelled: map[resource.ID]bool{}, faultAt: -1,
	}
	s.conf.Naming.Subnet = netip.MustParsePrefix(subnet)
	s.core = NewCore(s.conf)
	return s
}

func simConfig() Config {
	h := &v1alpha1.Host{Spec: v1alpha1.HostSpec{Subnet: "10.99.0.0/24"}}
	h.Default()
	return Config{
		Host: h.Spec, Layout: host.Layout{State: "/state", Run: "/run/tekton", Secrets: "/state/secrets"},
		Naming:       resource.Naming{Subnet: netip.MustParsePrefix("10.99.0.0/24")},
		Installation: "0123456789ab", NixOS: true, Decode: decodeSetup,
		HostKey: func(name string) string { return "ssh-ed25519 " + name },
	}
}

// clone goes its own way from here.
func (s *sim) clone() *sim {
	c := *s
	c.world, c.core = s.world.Clone(), s.core.clone()
	c.files, c.secrets, c.cancelled = maps.Clone(s.files), maps.Clone(s.secrets), maps.Clone(s.cancelled)
	c.flying, c.later, c.events = slices.Clone(s.flying), slices.Clone(s.later), slices.Clip(s.events)
	if s.rand != nil {
		r := *s.rand
		c.rand = &r
	}
	return &c
}

// clone copies what a pass changes in place.
func (c *Core) clone() *Core {
	out := *c
	out.failures, out.busy, out.specs, out.pending = maps.Clone(c.failures), maps.Clone(c.busy), maps.Clone(c.specs), maps.Clone(c.pending)
	return &out
}

// choose picks one of n.
func (s *sim) choose(n int) int {
	if s.rand == nil || n < 2 {
		return 0
	}
	return int(s.rand.Uint64() % uint64(n))
}

// restart begins a new life of the daemon: all that it remembered is gone, but
// for what it has written down. Each step under way may have had its effect.
func (s *sim) restart() {
	s.drop()
	missing := s.core.missing.Durable()
	s.core = NewCore(s.conf)
	s.core.missing = missing
	s.note("the daemon starts", resource.Step{}, nil)
}

// drop ends what is under way: some of it has had its effect, nobody knows which.
func (s *sim) drop() {
	committed := s.choose(2) == 1 // the ledger's batch is one transaction
	for _, step := range s.flying {
		if isClaim := step.Resource.Kind == resource.KindClaim; isClaim && committed || !isClaim && s.choose(2) == 1 {
			s.note("lands behind the daemon's back", step, s.apply(step))
		}
	}
	s.flying, s.cancelled = nil, map[resource.ID]bool{}
}

func (s *sim) facts() Facts {
	digests := make(map[string]string, len(s.secrets))
	for name, value := range s.secrets {
		digests[name] = digest(value)
	}
	f := Facts{
		Now: s.world.Now, Snapshots: map[string]source.Snapshot{s.source(): s.snapshot()}, Claims: s.world.Entries(),
		Observed: s.world.Observe(), Secrets: digests, SecretsErr: s.secretsErr,
	}
	if f.SecretsErr != nil {
		f.Secrets = nil
	}
	return f
}

func digest(v string) string {
	sum := sha256.Sum256([]byte(v))
	return hex.EncodeToString(sum[:8])
}

func object(file string, index int, c v1alpha1.Container) spec.Object {
	h := simConfig().Host
	c.Default(&h)
	lowerSetup(&c)
	raw, _ := json.Marshal(c)
	return spec.Object{Object: &c, Position: spec.Position{File: file, Line: 1 + 10*index, Column: 1}, Digest: digest(string(raw))}
}

// pass has the Core decide and starts its steps.
func (s *sim) pass() Result {
	s.t.Helper()
	for len(s.later) > 0 && s.landed >= s.later[0].at {
		do := s.later[0].do
		s.later = s.later[1:]
		do(s)
	}
	r, err := s.core.Pass(s.facts())
	if err != nil {
		s.t.Fatalf("pass: %v\nhistory:\n%s", err, s.history())
	}
	s.last = r
	s.explained(r)
	s.cancelUnwanted(r.Compiled.Desired)
	for _, step := range r.Plan.Steps {
		s.core.Begin(step)
	}
	s.flying = append(s.flying, r.Plan.Steps...)
	return r
}

// cancelUnwanted asks the engine's workers which steps they would cut short.
func (s *sim) cancelUnwanted(d resource.Desired) {
	if len(s.flying) == 0 {
		return
	}
	w := workers{inFlight: map[resource.ID]flight{}}
	for _, step := range s.flying {
		if id := step.Resource.ID; !groupOf(id.Kind, 1).batch {
			w.inFlight[id] = flight{step, func() { s.cancelled[id] = true }}
		}
	}
	w.cancelUnwanted(d)
}

// tick passes once and lands one step; false: nothing is under way.
func (s *sim) tick() bool {
	s.t.Helper()
	s.pass()
	if len(s.flying) == 0 {
		return false
	}
	s.land(s.choose(len(s.flying)))
	return true
}

const horizon = 10 * time.Minute

// settle goes on until nothing is left to do and no timer is near.
func (s *sim) settle() {
	s.t.Helper()
	for range 3000 {
		if !s.tick() && !s.wait() {
			return
		}
	}
	s.t.Fatalf("no end state after 3000 steps; the last ones:\n%s\nblocked: %v", s.history(), s.last.Plan.Blocked)
}

// wait moves the clock to the next timer; false: none is near.
func (s *sim) wait() bool {
	r := s.last
	if len(s.later) > 0 {
		s.later[0].at = s.landed
		return true
	}
	if !s.endless {
		if jobs, setups := s.world.EndJobs(), s.world.EndSetups(); jobs || setups {
			return true
		}
	}
	if r.NextWake.IsZero() || r.NextWake.Sub(s.world.Now) > horizon {
		return false
	}
	if r.NextWake.After(s.world.Now) {
		s.world.Now = r.NextWake
	}
	s.world.Now = s.world.Now.Add(time.Millisecond)
	return true
}

// land ends one step that is under way, with the fault if it is its turn. All
// claims land together: the ledger commits them at once.
func (s *sim) land(i int) {
	s.t.Helper()
	step := s.flying[i]
	batch := []resource.Step{step}
	if step.Resource.Kind == resource.KindClaim {
		batch = slices.DeleteFunc(slices.Clone(s.flying), func(x resource.Step) bool { return x.Resource.Kind != resource.KindClaim })
		s.flying = slices.DeleteFunc(slices.Clone(s.flying), func(x resource.Step) bool { return x.Resource.Kind == resource.KindClaim })
	} else {
		s.flying = slices.Delete(slices.Clone(s.flying), i, i+1)
	}
	f := noFault
	switch {
	case s.landed == s.faultAt:
		f, s.hit = s.fault, plan.BusyKey(step.Resource)
		for _, x := range batch {
			s.hits = append(s.hits, x.Resource)
		}
	case s.second != noFault && s.hit != "" && plan.BusyKey(step.Resource) != s.hit:
		f, s.second, s.two = s.second, noFault, true
	}
	s.landed++
	s.world.Now = s.world.Now.Add(time.Millisecond)
	s.finish(batch, f)
}

// finish ends the steps of one call of a driver.
func (s *sim) finish(batch []resource.Step, f fault) {
	s.t.Helper()
	errs := make([]error, len(batch))
	for i, step := range batch {
		switch f {
		case failedStep:
			errs[i] = errors.New("injected")
		case timeoutNoEffect:
			errs[i] = fmt.Errorf("injected: %w", context.DeadlineExceeded)
		case crashBefore:
		default:
			errs[i] = s.apply(step)
		}
		if f == timeoutEffect {
			errs[i] = fmt.Errorf("injected: %w", context.DeadlineExceeded)
		}
		s.events = append(s.events, entry{step: step, fault: f, err: errs[i]})
	}
	switch f {
	case crashBefore, crashAfter:
		s.restart()
		return
	case machineDies:
		s.world.Kill(batch[0].Resource.Instance, 137)
	case everythingReboot:
		s.reboot(s.world.Reboot)
		return
	case powerCut:
		s.reboot(s.world.PowerCut)
		return
	}
	for i, step := range batch {
		s.core.Finish(step, errs[i], s.world.Now)
		s.core.End(step)
	}
	if f == daemonRestarts {
		s.restart()
	}
}

// reboot ends the daemon and everything else, then starts the daemon.
func (s *sim) reboot(how func()) {
	s.drop()
	how()
	s.restart()
}

// apply takes a step on the host, or what is left of it when it was cut short.
func (s *sim) apply(step resource.Step) error {
	s.t.Helper()
	if s.cancelled[step.Resource.ID] {
		delete(s.cancelled, step.Resource.ID)
		if s.choose(2) == 0 {
			return context.Canceled
		}
	}
	err := s.world.Apply(step)
	if v := (*simworld.Violation)(nil); errors.As(err, &v) {
		s.t.Fatalf("%v\nhistory:\n%s", v, s.history())
	}
	return err
}

func (s *sim) note(note string, step resource.Step, err error) {
	s.events = append(s.events, entry{note: note, step: step, err: err})
}

// history is what has happened, the last 60 events.
func (s *sim) history() string {
	var b strings.Builder
	for i, e := range s.events {
		if i < len(s.events)-60 {
			continue
		}
		fmt.Fprintf(&b, "%4d %s", i, e.note)
		if e.step.Verb != "" {
			fmt.Fprintf(&b, " %s of %s (%s)", e.step, e.step.Resource.Owner, e.step.Reason)
		}
		if e.fault != noFault {
			fmt.Fprintf(&b, " | %s", e.fault)
		}
		if e.err != nil {
			fmt.Fprintf(&b, " | %v", e.err)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// take has a step land that the caller planned.
func (s *sim) take(step resource.Step) {
	s.t.Helper()
	s.finish([]resource.Step{step}, noFault)
}
