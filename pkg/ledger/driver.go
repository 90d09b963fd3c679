package ledger

import (
	"context"
	"fmt"

	"tekton.host/pkg/resource"
)

// Driver manages resource.KindClaim in a store. It is a batch driver: all
// steps of one Apply are one write.
type Driver struct{ store Store }

var _ resource.Driver = (*Driver)(nil)

// NewDriver returns the driver of a store.
func NewDriver(s Store) *Driver { return &Driver{store: s} }

// Name implements resource.Driver.
func (d *Driver) Name() string { return "ledger" }

// Kinds implements resource.Driver.
func (d *Driver) Kinds() []resource.Kind { return []resource.Kind{resource.KindClaim} }

// Observe implements resource.Driver.
func (d *Driver) Observe(ctx context.Context) map[resource.Kind]resource.Domain {
	claims, _, err := d.store.List(ctx)
	if err != nil {
		return map[resource.Kind]resource.Domain{resource.KindClaim: resource.Unknown(fmt.Errorf("list the ledger: %w", err))}
	}
	items := make(resource.Set, len(claims))
	for _, c := range claims {
		r := resource.New(c.Owner, "", c.Key, c)
		items[r.ID] = r
	}
	return map[resource.Kind]resource.Domain{resource.KindClaim: {Items: items}}
}

// Apply implements resource.Driver.
func (d *Driver) Apply(ctx context.Context, steps []resource.Step) []error {
	errs := make([]error, len(steps))
	var ops []Op
	var index []int // of the step of each operation
	for i, s := range steps {
		op, err := operation(s)
		if err != nil {
			errs[i] = resource.Terminal(ReasonInvalidClaim, fmt.Errorf("%s: %w", s, err))
			continue
		}
		ops, index = append(ops, op), append(index, i)
	}
	for i, err := range d.store.Commit(ctx, ops) {
		errs[index[i]] = err
	}
	return errs
}

// operation of a step: based on the revision that the plan saw.
func operation(s resource.Step) (Op, error) {
	c, ok := s.Resource.Value.(resource.Claim)
	if !ok {
		return Op{}, fmt.Errorf("its value is a %T, not a claim", s.Resource.Value)
	}
	if c.Key != s.Resource.Name || c.Owner != s.Resource.Owner {
		return Op{}, fmt.Errorf("the claim of %s by %s is the value of %s of %s", c.Key, c.Owner, s.Resource.Name, s.Resource.Owner)
	}
	if s.Verb == resource.Delete {
		return Release(c), nil
	}
	c.Revision = 0
	if s.Seen != nil {
		seen, ok := s.Seen.Value.(resource.Claim)
		if !ok {
			return Op{}, fmt.Errorf("the value that was seen is a %T, not a claim", s.Seen.Value)
		}
		c.Revision = seen.Revision
	}
	return Claim(c), nil
}

// Watch implements resource.Driver.
func (d *Driver) Watch(ctx context.Context, notify func()) error { return d.store.Watch(ctx, notify) }
