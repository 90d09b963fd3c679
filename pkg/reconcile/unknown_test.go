package reconcile

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tekton.host/pkg/compile"
	"tekton.host/pkg/internal/simworld"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
)

// ignorance replaces a fact, or two, by Unknown.
type ignorance struct {
	name string
	of   func(*Facts)
	// owner of the one thing that it concerns; "" otherwise.
	owner string
}

var errUnknown = errors.New("nobody knows")

func unknownKind(kinds ...resource.Kind) ignorance {
	i := ignorance{of: func(f *Facts) {
		for _, k := range kinds {
			f.Observed[k] = resource.Unknown(errUnknown)
		}
	}}
	for _, k := range kinds {
		i.name += string(k) + " "
	}
	return i
}

func unknownSnapshot(name string, change func(*source.Snapshot)) ignorance {
	return ignorance{name: name, of: func(f *Facts) {
		snap := f.Snapshots["local"]
		change(&snap)
		f.Snapshots["local"] = snap
	}}
}

// lostClaims takes the entries of one sort out of the ledger. TestLostClaims goes
// on with what is left of it.
func lostClaims(prefix string) ignorance {
	return ignorance{name: "claims of " + prefix, of: func(f *Facts) {
		claims, items := []resource.Claim{}, resource.Set{}
		for _, c := range f.Claims {
			if !strings.HasPrefix(c.Key, prefix) {
				claims = append(claims, c)
				r := resource.New(c.Owner, "", c.Key, c)
				items[r.ID] = r
			}
		}
		f.Claims, f.Observed[resource.KindClaim] = claims, resource.Domain{Items: items}
	}}
}

// ignorances are all single ones; pairs are all pairs of kinds.
func ignorances() (single, pairs []ignorance) {
	for i, k := range simworld.AllKinds {
		single = append(single, unknownKind(k))
		for _, l := range simworld.AllKinds[:i] {
			pairs = append(pairs, unknownKind(k, l))
		}
	}
	single = append(single, unknownKind(simworld.AllKinds...),
		ignorance{name: "secrets", of: func(f *Facts) { f.Secrets, f.SecretsErr = nil, errUnknown }},
		ignorance{name: "source not read", of: func(f *Facts) { delete(f.Snapshots, "local") }},
		unknownSnapshot("source unreadable", func(s *source.Snapshot) {
			*s = source.Snapshot{Source: s.Source, ReadAt: s.ReadAt, Err: errUnknown}
		}),
		unknownSnapshot("source incomplete", func(s *source.Snapshot) { s.Complete, s.Objects, s.Files = false, nil, nil }),
		unknownSnapshot("source half read", func(s *source.Snapshot) { s.Complete, s.Objects = false, s.Objects[:len(s.Objects)/2] }),
		unknownSnapshot("source being written", func(s *source.Snapshot) { s.Unsettled, s.Objects = s.Files, nil }),
		unknownSnapshot(emptySource, func(s *source.Snapshot) { s.Marked, s.Objects, s.Files = false, nil, nil }))
	for _, prefix := range claimSorts { // last
		single = append(single, lostClaims(prefix))
	}
	return single, pairs
}

const emptySource = "source empty and unmarked"

// claimSorts are the sorts of entries that the ledger may lose. They are the last
// of the single ones: random histories leave them out.
var claimSorts = []string{"object/", "instance/", "slot/", "route/", "port/", "data/", "tombstone/"}

var singles, pairsOfKinds = ignorances()

// ignorant asserts that less knowledge adds no delete, stop or restart to what
// is known now. Nothing of the simulation changes.
func (s *sim) ignorant(is ...ignorance) {
	s.t.Helper()
	f := s.facts()
	known, err := s.core.clone().Pass(f)
	if err != nil {
		s.t.Fatalf("pass: %v", err)
	}
	allowed := removals(known.Plan)
	news := s.news(known)
	for _, i := range is {
		g := f.clone()
		i.of(&g)
		r, err := s.core.clone().Pass(g)
		if err != nil {
			s.t.Fatalf("pass: %v", err)
		}
		for id := range removals(r.Plan) {
			// Lost entries of the ledger may take others along: it is restored whole.
			lost := strings.HasPrefix(i.name, "claims of") && strings.HasPrefix(id, "claim/")
			// With no object known at all, an empty directory is just that.
			nobodys := i.name == emptySource && s.ofHost(id) && !s.knowsObjects()
			unheard := strings.HasPrefix(i.name, "source") && (news[s.owner(id)] || len(news) > 0 && s.ofHost(id))
			// What another object has given up goes, though nobody takes it over now.
			givenUp := i.owner != "" && i.owner != s.owner(id) && !s.ofHost(id)
			if !allowed[id] && !lost && !nobodys && !unheard && !givenUp && !s.idle(id) {
				s.t.Fatalf("with %s unknown the plan removes %s; history:\n%s", i.name, id, s.history())
			}
		}
	}
}

// news are the objects of which the sources say what the ledger does not have
// yet. Without them the last good spec is what holds, and what it asks for.
func (s *sim) news(r Result) map[string]bool {
	claims, err := compile.ReadClaims(s.world.Entries())
	if err != nil {
		s.t.Fatalf("read the ledger: %v", err)
	}
	out := map[string]bool{}
	for _, o := range r.Compiled.Objects {
		_, entombed := claims.Tombstones[o.Record.UID]
		if o.Verdict == compile.Gone && !entombed || o.Verdict == compile.Wanted && !reflect.DeepEqual(claims.ByUID[o.Record.UID], o.Record) {
			out[o.Record.UID] = true
		}
	}
	return out
}

// owner of what the host or the ledger has.
func (s *sim) owner(id string) string {
	if key, isClaim := strings.CutPrefix(id, "claim/"); isClaim {
		return s.world.Claims[key].Owner
	}
	for have, r := range s.world.Things {
		if have.String() == id {
			return r.Owner
		}
	}
	return ""
}

// knowsObjects reports whether the ledger has an object.
func (s *sim) knowsObjects() bool {
	for key := range s.world.Claims {
		if strings.HasPrefix(key, "object/") {
			return true
		}
	}
	return false
}

func (s *sim) ofHost(id string) bool { return s.owner(id) == resource.HostOwner }

// idle reports whether what would go is a slot, an instance's claim or an open
// link for an instance that is not there: nobody notices.
func (s *sim) idle(id string) bool {
	there := map[string]bool{}
	for _, r := range s.world.Things {
		if i, ok := r.Value.(resource.Instance); ok {
			there[fmt.Sprintf("claim/slot/%d", i.Slot)] = true
			there[fmt.Sprintf("claim/instance/%s/%d", r.Owner, i.Ordinal)] = true
			there[i.Addr.String()] = true
		}
	}
	for have, r := range s.world.Things {
		if e, ok := r.Value.(resource.Exception); ok && have.String() == id {
			return !there[e.From.String()] || !there[e.To.String()]
		}
	}
	return (strings.HasPrefix(id, "claim/slot/") || strings.HasPrefix(id, "claim/instance/")) && !there[id]
}

// TestUnknownNeverRemoves replaces every fact by Unknown at every step of every
// scenario, also after a fault: that never adds a delete, a stop or a restart.
// Pairs of kinds take turns.
func TestUnknownNeverRemoves(t *testing.T) {
	for n, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := newSim(t)
			s.rand = seed(sc.name)
			turn := 0
			for i, change := range sc.changes {
				change(s)
				for {
					s.ignorant(singles...)
					s.unreadable()
					for range 8 {
						s.ignorant(pairsOfKinds[turn%len(pairsOfKinds)])
						turn++
					}
					if (turn/8)%7 == n%7 { // a fault now and then
						s.fault, s.faultAt = faults[(turn/8+i)%len(faults)], s.landed
					}
					if !s.tick() && !s.wait() {
						break
					}
				}
			}
		})
	}
}
