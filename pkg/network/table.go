package network

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// table is one reading of our nft table.
type table struct {
	generation uint32
	present    bool
	comment    string
	notes      []string // of the set "about"
	digest     string   // of the chains and constant sets
	machines   map[netip.Addr][]element
	links      map[identity]element
	published  map[identity]netip.Addr // to whom
}

func newTable() *table {
	return &table{machines: map[netip.Addr][]element{}, links: map[identity]element{}, published: map[identity]netip.Addr{}}
}

// elements are all that machines may do.
func (t *table) elements() []element {
	out := slices.Collect(maps.Values(t.links))
	for _, es := range t.machines {
		out = append(out, es...)
	}
	slices.SortFunc(out, func(a, b element) int {
		return cmp.Or(cmp.Compare(a.Set.name, b.Set.name), cmp.Compare(a.Key, b.Key), cmp.Compare(a.End, b.End))
	})
	return out
}

func (t *table) insert(e element) {
	a, ok := e.owner()
	if !ok {
		t.links[e.identity()] = e
		return
	}
	t.machines[a] = append(t.machines[a], e)
	if e.Set.data != nil {
		t.published[e.identity()] = a
	}
}

// with is the table after a change. What is not changed is shared.
func (t *table) with(c change, generation uint32) *table {
	next := *t
	next.generation = generation
	next.machines, next.links, next.published = maps.Clone(t.machines), maps.Clone(t.links), maps.Clone(t.published)
	for _, e := range c.remove {
		a, ok := e.owner()
		if !ok {
			delete(next.links, e.identity())
			continue
		}
		delete(next.published, e.identity())
		rest := slices.DeleteFunc(slices.Clone(next.machines[a]), func(o element) bool { return o == e })
		if next.machines[a] = rest; len(rest) == 0 {
			delete(next.machines, a)
		}
	}
	for _, e := range c.add {
		if a, ok := e.owner(); ok {
			next.machines[a] = slices.Clip(next.machines[a]) // shared with t until it grows
		}
		next.insert(e)
	}
	return &next
}

// take adds what was found in a set.
func (t *table) take(spec *setSpec, found []nftables.SetElement) {
	for _, f := range found {
		e := element{Set: spec, Key: string(f.Key), Data: string(f.Val), Comment: f.Comment}
		if spec.interval {
			if e.End = string(f.KeyEnd); e.End == "" {
				e.End = e.Key
			}
		}
		t.insert(e)
	}
}
