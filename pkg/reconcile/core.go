package reconcile

import (
	"slices"
	"time"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/host"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// Config is what a Core is told once.
type Config struct {
	Host         v1alpha1.HostSpec // defaulted
	Layout       host.Layout
	Naming       resource.Naming
	Installation string
	NixOS        bool // the host's own userland lies in the Nix store
	// HostKey is the public half of the ssh host key of a name.
	HostKey func(name string) string
	// Decode reads a stored object of a kind (spec.FromJSON).
	Decode func(kind string, data []byte) (v1alpha1.Object, error)
}

// Facts are what a pass is told: all that was read since the last one.
type Facts struct {
	Now time.Time
	// Snapshots by source. A configured source that was not read yet is missing:
	// then nothing of it is taken for gone.
	Snapshots map[string]source.Snapshot
	// Claims are the ledger's entries.
	Claims   []resource.Claim
	Observed resource.Observed
	// Secrets is the keyed digest of each secret on the host.
	Secrets    map[string]string
	SecretsErr error
}

// Result is what a pass decided.
type Result struct {
	Compiled compile.Output
	Plan     plan.Plan
	Items    []v1alpha1.Item
	Sources  []v1alpha1.SourceStatus
	Problems []Problem
	// Busy says that steps are in flight, or were and are not observed yet: what
	// else is to be done shows when they have ended.
	Busy bool
	// NextWake is when to pass again if nothing happens; zero: never.
	NextWake time.Time
	// Reread sources at RereadAt: a removal or a half-written file is waited for.
	Reread   []string
	RereadAt time.Time
}

// Core decides. It is not safe for concurrent use.
type Core struct {
	Config
	failures failures
	busy     map[string]int // BusyKey → steps in flight
	missing  absence.State
	items    map[string]v1alpha1.Item // by UID, of the last pass
	gens     map[string]int64         // generation by UID, of the last pass
	claims   claimCache
	specs    map[string]v1alpha1.Object // decoded specs by digest
	// given is what completing previews came to in the last pass, nextGiven in this one.
	given, nextGiven map[givenKey]given
	// pending are the UIDs of new objects until the ledger has them: a UID must
	// not change between two passes.
	pending map[objectKey]string
}

// NewCore returns a Core that remembers nothing yet.
func NewCore(c Config) *Core {
	return &Core{
		Config: c, failures: failures{}, busy: map[string]int{},
		items: map[string]v1alpha1.Item{}, gens: map[string]int64{}, specs: map[string]v1alpha1.Object{},
		pending: map[objectKey]string{},
	}
}

// Pass compares what is wanted with what is and says what to do now.
func (c *Core) Pass(f Facts) (Result, error) {
	claims, err := c.claims.read(f.Claims, c.Host.Sources)
	if err != nil {
		return Result{}, err
	}
	wanted := c.resolve(f, claims)
	c.missing = wanted.missing
	c.forgetSpecs(wanted.objects)
	out := compile.Compile(compile.Input{
		Host: c.Host, Layout: c.Layout, Naming: c.Naming, Installation: c.Installation, NixOS: c.NixOS, HostKey: c.HostKey, Now: f.Now,
		Objects: wanted.objects, Unread: c.unread(f), Claims: claims, Observed: f.Observed,
		Secrets: f.Secrets, SecretsErr: f.SecretsErr, Failures: c.failures.facts(),
	})
	c.failures.forget(out.Desired, f.Observed, c.changed(wanted.objects))
	p := plan.Make(plan.Input{
		Desired: out.Desired, Observed: f.Observed, Failures: c.failures.facts(), Busy: c.busySet(), Now: f.Now,
	})
	r := Result{Compiled: out, Plan: p, Sources: wanted.sources, Problems: wanted.problems, Busy: len(c.busy) > 0}
	for _, machine := range out.Unclaimed {
		r.Problems = append(r.Problems, Problem{Problem: spec.Problem{
			Position: spec.Position{File: c.Layout.Ledger()}, Reason: "LedgerDamaged",
			Message: "the claim of machine " + machine + " is lost; nothing of it is touched; next step: restore the ledger, or remove the machine by hand",
		}})
	}
	r.Items = c.status(f, wanted, out, p)
	r.Reread, r.RereadAt = wanted.reread, wanted.nextWake
	r.NextWake = earliest(out.NextWake, p.NextWake, wanted.nextWake)
	return r, nil
}

// forgetSpecs drops decoded specs that no object has any more, once they are many.
func (c *Core) forgetSpecs(objects []compile.Object) {
	if len(c.specs) <= 2*len(objects)+100 {
		return
	}
	used := make(map[string]v1alpha1.Object, len(objects))
	for _, o := range objects {
		if s, decoded := c.specs[o.Record.Digest]; decoded {
			used[o.Record.Digest] = s
		}
	}
	c.specs = used
}

// unread reports whether a source was not read whole. One that is empty and
// without our mark may be an empty mount point; it was read all the same: what it
// had declared is held by the ledger's objects, and with none of them known the
// host's own things are nobody's, and go.
func (c *Core) unread(f Facts) bool {
	return slices.ContainsFunc(c.Host.Sources, func(s v1alpha1.SourceConfig) bool {
		snap, read := f.Snapshots[s.Name]
		return !read || !snap.Complete || len(snap.Unsettled) > 0
	})
}

// Begin says that a step is under way: its object is left alone until End.
func (c *Core) Begin(s resource.Step) {
	c.busy[plan.BusyKey(s.Resource)]++
	if s.Resource.Kind == resource.KindClaim {
		c.busy[plan.Claiming]++
	}
}

// End says that a step has ended and that what it touched was observed anew.
func (c *Core) End(s resource.Step) {
	c.end(plan.BusyKey(s.Resource))
	if s.Resource.Kind == resource.KindClaim {
		c.end(plan.Claiming)
	}
}

func (c *Core) end(key string) {
	if c.busy[key]--; c.busy[key] <= 0 {
		delete(c.busy, key)
	}
}

// Finish records how a step went. It chooses when a failed one is tried again.
func (c *Core) Finish(s resource.Step, err error, now time.Time) { c.failures.finish(s, err, now) }

func (c *Core) busySet() map[string]bool {
	out := make(map[string]bool, len(c.busy))
	for k := range c.busy {
		out[k] = true
	}
	return out
}

// changed reports the objects whose spec is another one than in the last pass:
// their failures may have been cured.
func (c *Core) changed(objects []compile.Object) map[string]bool {
	out, gens := map[string]bool{}, make(map[string]int64, len(objects))
	for _, o := range objects {
		uid, gen := o.Record.UID, o.Record.Generation+o.Record.Restart
		gens[uid] = gen
		if old, known := c.gens[uid]; known && old != gen {
			out[uid] = true
		}
	}
	c.gens = gens
	return out
}

func earliest(ts ...time.Time) time.Time {
	var first time.Time
	for _, t := range ts {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// claimCache indexes the ledger only when it has changed.
type claimCache struct {
	entries []resource.Claim
	index   compile.Claims
	valid   bool
}

func (c *claimCache) read(entries []resource.Claim, sources []v1alpha1.SourceConfig) (compile.Claims, error) {
	// The ledger hands out the same slice until it changes.
	same := c.valid && len(entries) == len(c.entries) && (len(entries) == 0 || &entries[0] == &c.entries[0])
	if same {
		return c.index, nil
	}
	index, err := c.index.Next(entries)
	if err != nil {
		return compile.Claims{}, err
	}
	renamed(index, sources)
	*c = claimCache{entries: entries, index: index, valid: true}
	return index, nil
}
