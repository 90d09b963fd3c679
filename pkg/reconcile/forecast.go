package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"tekton.host/pkg/resource"
)

// forecastRounds bounds a forecast. The longest order of steps has about a
// dozen stages, twice that with a replacement.
const forecastRounds = 100

// Forecast is what the engine would do if nothing failed: the same passes, on
// a copy of what was observed, with every step taken for done.
type Forecast struct {
	First Result // what the first pass decides
	Last  Result // what the last one decides: as it will be
	Steps []resource.Step
}

// forecast runs passes until nothing is left to do, or nobody waits for it any
// more: a pass is short, many are not.
func forecast(ctx context.Context, c Config, f Facts) (Forecast, error) {
	core := NewCore(c)
	v := &virtual{facts: f.clone(), claims: map[string]resource.Claim{}, checkouts: f.Observed[resource.KindCheckout].Items}
	for k, d := range v.facts.Observed {
		if d.Err == nil {
			v.facts.Observed[k] = resource.Domain{Items: cloneMap(d.Items), Unreadable: d.Unreadable}
		}
	}
	for _, e := range f.Claims {
		v.claims[e.Key] = e
	}
	var out Forecast
	for round := range forecastRounds {
		if err := ctx.Err(); err != nil {
			return Forecast{}, err
		}
		r, err := core.Pass(v.facts)
		if err != nil {
			return Forecast{}, err
		}
		if round == 0 {
			out.First = r
		}
		out.Last = r
		if len(r.Plan.Steps) == 0 {
			if !v.wait(r.NextWake) {
				return out, nil
			}
			continue
		}
		for _, s := range r.Plan.Steps {
			out.Steps = append(out.Steps, s)
			v.apply(s)
		}
		v.listClaims()
	}
	return out, fmt.Errorf("the plan does not come to an end within %d passes: please report this", forecastRounds)
}

// virtual is the host as it would be.
type virtual struct {
	facts  Facts
	claims map[string]resource.Claim
	boots  int
	// checkouts as they are.
	checkouts resource.Set
}

// forecastHorizon is how far ahead a forecast waits for timers: restarts and
// removals that wait seconds, but not a slot's cool-down.
const forecastHorizon = 30 * time.Second

// wait moves the clock to the next timer, and has sources read again by then.
func (v *virtual) wait(until time.Time) bool {
	if until.IsZero() || until.Sub(v.facts.Now) > forecastHorizon {
		return false
	}
	v.facts.Now = until.Add(time.Millisecond)
	for name, s := range v.facts.Snapshots {
		// A file that is being written is not finished by waiting for it here.
		s.ReadAt, s.RetryAfter = v.facts.Now, 0
		v.facts.Snapshots[name] = s
	}
	return true
}

func (v *virtual) apply(s resource.Step) {
	r := s.Resource
	items := v.facts.Observed[r.Kind].Items
	if items == nil {
		return
	}
	if s.Verb == resource.Put {
		v.put(items, r)
	} else {
		v.remove(items, r)
	}
}

// listClaims has the ledger's entries told as the steps of a round left them.
func (v *virtual) listClaims() {
	v.facts.Claims = make([]resource.Claim, 0, len(v.claims))
	for _, k := range slices.Sorted(maps.Keys(v.claims)) {
		v.facts.Claims = append(v.facts.Claims, v.claims[k])
	}
}

func (v *virtual) put(items resource.Set, r resource.Resource) {
	switch value := r.Value.(type) {
	case resource.Claim:
		v.claims[value.Key] = value
	case resource.Closure:
		value.Build = resource.Build{Job: resource.Job{EndedAt: v.facts.Now}}
		if value.Config == "" { // else what it will say of itself is not known
			value.Build.Result.StorePath = "/nix/store/" + r.Name + "-to-be-built"
		}
		r.Value = value
	case resource.Checkout:
		value.Fetch = resource.Fetch{Job: resource.Job{EndedAt: v.facts.Now}, Result: v.fetched(r.ID, value)}
		value.Lost = false
		r.Value = value
	case resource.Dump:
		value.MadeAt = v.facts.Now
		r.Value = value
	case resource.Setup:
		before, _ := items[r.ID].Value.(resource.Setup)
		value.Run = resource.SetupRun{Job: resource.Job{EndedAt: v.facts.Now}, Done: value.Revision, Boot: value.Boot, Started: before.Run.Started + 1}
		r.Value = value
	case resource.Unit:
		v.boots++
		value.Boot, value.Leader, value.StartedAt = fmt.Sprintf("forecast-%d", v.boots), 1, v.facts.Now
		r.Value = value
	}
	items[r.ID] = r
}

// fetched is what a fetch will bring: as far as anybody knows what there is, and of
// a reference that was never fetched the files of another one of its repository.
func (v *virtual) fetched(id resource.ID, want resource.Checkout) resource.Fetched {
	if have, there := v.checkouts[id].Value.(resource.Checkout); there && have.Fetch.Result.Commit != "" {
		return have.Fetch.Result
	}
	result := resource.Fetched{Commit: "to-be-fetched", Dir: "/to-be-fetched"}
	for _, r := range v.checkouts.Sorted() {
		if c := r.Value.(resource.Checkout); c.URL == want.URL && c.Fetch.Result.Commit != "" {
			result.Files = c.Fetch.Result.Files
		}
	}
	return result
}

func (v *virtual) remove(items resource.Set, r resource.Resource) {
	delete(items, r.ID)
	switch value := r.Value.(type) {
	case resource.Claim:
		delete(v.claims, value.Key)
	case resource.Volume:
		v.retain(items, r, value.Policy)
	case resource.Database:
		v.retain(items, r, value.Policy)
	case resource.Attachment:
		delete(v.facts.Observed[resource.KindLink].Items, resource.ID{Kind: resource.KindLink, Name: r.Name})
	case resource.Instance:
		delete(v.facts.Observed[resource.KindAnswer].Items, resource.ID{Kind: resource.KindAnswer, Name: r.Name})
	}
}

func (v *virtual) retain(items resource.Set, r resource.Resource, policy resource.DeletionPolicy) {
	if policy == resource.RetainData {
		r.Owner = resource.RetainedOwner
		items[r.ID] = r
	}
}
