package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"tekton.host/pkg/resource"
)

// pending is one endpoint or exception step, with what it changes.
type pending struct {
	index  int
	change change
	have   []ipRule
	want   []ipRule
}

// applyElements applies the endpoint and exception steps at the given indexes:
// all elements in one transaction, then the ip rules. When the transaction is
// refused each step has one of its own, so that one cannot harm another.
func (d *Driver) applyElements(ctx context.Context, steps []resource.Step, indexes []int, errs []error) {
	if len(indexes) == 0 {
		return
	}
	fail := func(err error) {
		for _, i := range indexes {
			errs[i] = err
		}
	}
	if err := ctx.Err(); err != nil {
		fail(err)
		return
	}
	t, err := d.rules.read()
	if err == nil {
		err = d.tableConflict(t)
	}
	if err != nil {
		fail(err)
		return
	}
	rules, err := readRules()
	if err != nil {
		fail(err)
		return
	}
	view := newView(d, t, rules)
	var all []pending
	for _, i := range indexes {
		p, err := view.plan(steps[i])
		if err == nil && !t.present && len(p.change.add) > 0 {
			err = resource.Because("TableMissing", fmt.Errorf("%s: nft table inet %s is not there yet", steps[i], d.naming.Table()))
		}
		if err != nil {
			errs[i] = err
			continue
		}
		p.index = i
		all = append(all, p)
	}
	d.commit(ctx, all, errs)
	for _, p := range all {
		if errs[p.index] == nil {
			errs[p.index] = d.syncRules(p.have, p.want)
		}
	}
	d.cutConnections(all)
}

func (d *Driver) commit(ctx context.Context, all []pending, errs []error) {
	changes := make([]change, len(all))
	for i, p := range all {
		changes[i] = p.change
	}
	err := d.rules.commit(changes...)
	if err == nil || len(all) == 1 {
		for _, p := range all {
			errs[p.index] = err
		}
		return
	}
	for _, p := range all {
		if errs[p.index] = ctx.Err(); errs[p.index] == nil {
			errs[p.index] = d.rules.commit(p.change)
		}
	}
}

// view is what the steps of one batch are planned against.
type view struct {
	driver    *Driver
	table     *table
	rules     map[ipRule]bool
	ruleOwner map[netip.Addr][]ipRule
}

func newView(d *Driver, t *table, rules map[ipRule]bool) *view {
	return &view{driver: d, table: t, rules: rules, ruleOwner: d.endpointRulesIn(rules)}
}

func (v *view) plan(s resource.Step) (pending, error) {
	switch value := s.Resource.Value.(type) {
	case resource.Endpoint:
		return v.planEndpoint(s, value)
	case resource.Exception:
		return v.planException(s, value), nil
	}
	return pending{}, fmt.Errorf("%s: the network driver does not know values of type %T", s, s.Resource.Value)
}

func (v *view) planEndpoint(s resource.Step, e resource.Endpoint) (pending, error) {
	p := pending{have: v.ruleOwner[e.Addr]}
	var want []element
	if s.Verb == resource.Put {
		if err := v.check(e); err != nil {
			return pending{}, fmt.Errorf("%s: %w", s, err)
		}
		want = endpointElements(e, comment(v.driver.mark(s.Resource.Owner), s.Resource.Instance))
		p.want = v.driver.endpointRules(e)
	}
	p.change = difference(v.table.machines[e.Addr], want)
	return p, nil
}

// check refuses what the table cannot express or what another endpoint has.
func (v *view) check(e resource.Endpoint) error {
	if slot, ok := v.driver.slot(e.Link); !ok || v.driver.naming.Addr(slot) != e.Addr {
		return fmt.Errorf("link %q and address %s do not follow the naming of instance %q", e.Link, e.Addr, v.driver.naming.Instance)
	}
	for _, p := range e.Publish {
		if p.HostIP.IsLoopback() {
			return resource.Terminal("LoopbackPublished", fmt.Errorf(
				"port %d cannot be published on %s: the kernel would have to route loopback addresses; use an address of the host, or the machine's own", p.HostPort, p.HostIP))
		}
	}
	for _, el := range endpointElements(e, "") {
		if by, taken := v.table.published[el.identity()]; taken && by != e.Addr {
			return resource.Because("PortConflict", fmt.Errorf("%s is published by the machine at %s; it is not taken away", el, by))
		}
	}
	return nil
}

func (v *view) planException(s resource.Step, e resource.Exception) pending {
	var p pending
	var have, want []element
	if s.Verb == resource.Delete {
		// The value may be a half one; the name says which it is.
		for _, found := range append(v.driver.exceptionsIn(v.rules), v.exceptions()...) {
			if exceptionName(found) == s.Resource.Name {
				e = found
			}
		}
	} else {
		want = []element{exceptionElement(e, comment(v.driver.mark(s.Resource.Owner), s.Resource.Instance))}
		p.want = v.driver.exceptionRules(e)
	}
	if el, ok := v.table.links[exceptionElement(e, "").identity()]; ok {
		have = append(have, el)
	}
	for _, r := range v.driver.exceptionRules(e) {
		if v.rules[r] {
			p.have = append(p.have, r)
		}
	}
	p.change = difference(have, want)
	return p
}

func (v *view) exceptions() []resource.Exception {
	var out []resource.Exception
	for _, el := range v.table.links {
		out = append(out, exceptionOf(el))
	}
	return out
}

// difference is what makes have into want. An element whose data or comment
// differs is removed and added in the same transaction.
func difference(have, want []element) change {
	var c change
	for _, e := range have {
		if !slices.Contains(want, e) {
			c.remove = append(c.remove, e)
		}
	}
	for _, e := range want {
		if !slices.Contains(have, e) {
			c.add = append(c.add, e)
		}
	}
	return c
}
