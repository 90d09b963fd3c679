package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/resource"
)

// table is one version of all claims. It is never modified once it is
// published, so readers need no lock.
type table struct {
	revision int64
	claims   map[string]resource.Claim
	sorted   []resource.Claim
}

func newTable(revision int64, claims map[string]resource.Claim) *table {
	byKey := func(a, b resource.Claim) int { return strings.Compare(a.Key, b.Key) }
	return &table{revision: revision, claims: claims, sorted: slices.SortedFunc(maps.Values(claims), byKey)}
}

// apply is the whole meaning of Commit, without the storing. It returns the
// next version, which is t itself when nothing changed.
func (t *table) apply(ops []Op, now time.Time) (*table, []error) {
	errs := make([]error, len(ops))
	draft := &draft{revision: t.revision + 1, now: now, claims: t.claims}
	for i, op := range ops {
		if op.Release {
			errs[i] = draft.release(op.Claim)
		} else {
			errs[i] = draft.claim(op.Claim)
		}
	}
	if !draft.changed {
		return t, errs
	}
	return newTable(draft.revision, draft.claims), errs
}

// draft is the next version while it is made. All its changes carry the same
// revision.
type draft struct {
	revision int64
	now      time.Time
	claims   map[string]resource.Claim // the table's own until changed
	changed  bool
}

// own makes the claims the draft's own before the first change.
func (d *draft) own() map[string]resource.Claim {
	if !d.changed {
		d.claims, d.changed = maps.Clone(d.claims), true
		if d.claims == nil {
			d.claims = map[string]resource.Claim{}
		}
	}
	return d.claims
}

func (d *draft) claim(c resource.Claim) error {
	c, err := normalize(c)
	if err != nil {
		return resource.Terminal(ReasonInvalidClaim, err)
	}
	have, exists := d.claims[c.Key]
	switch {
	case exists && have.Owner != c.Owner:
		return claimed(have)
	case exists && have.Equal(c):
		return nil
	case !exists && c.Revision != 0:
		return fmt.Errorf("claim %s: it was released meanwhile: %w", c.Key, resource.ErrStale)
	case exists && have.Revision != c.Revision:
		return stale("claim", have, c)
	}
	switch {
	case exists:
		c.Since = have.Since
	case c.Since.IsZero():
		c.Since = d.now
	}
	c.Revision = d.revision
	d.own()[c.Key] = c
	return nil
}

func (d *draft) release(c resource.Claim) error {
	have, exists := d.claims[c.Key]
	switch {
	case !exists:
		return nil
	case have.Owner != c.Owner:
		return claimed(have)
	case c.Revision != 0 && have.Revision != c.Revision:
		return stale("release", have, c)
	}
	delete(d.own(), c.Key)
	return nil
}

func claimed(have resource.Claim) error {
	return resource.Because(ReasonClaimed, fmt.Errorf("%s is claimed by %s since %s", have.Key, have.Owner, have.Since.UTC().Format(time.RFC3339)))
}

func stale(verb string, have, c resource.Claim) error {
	return fmt.Errorf("%s %s: it is at revision %d, not %d: %w", verb, c.Key, have.Revision, c.Revision, resource.ErrStale)
}

// normalize checks a claim and brings its value into the form in which it is
// stored, so that what is read back equals what was claimed.
func normalize(c resource.Claim) (resource.Claim, error) {
	if c.Key == "" {
		return c, errors.New("a claim has no key")
	}
	if c.Owner == "" {
		return c, fmt.Errorf("the claim of %s has no owner", c.Key)
	}
	if len(c.Value) == 0 {
		c.Value = nil
		return c, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, c.Value); err != nil {
		return c, fmt.Errorf("the value of %s is not JSON: %w", c.Key, err)
	}
	c.Value = compact.Bytes()
	return c, nil
}
