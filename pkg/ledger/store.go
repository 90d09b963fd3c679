package ledger

import (
	"context"
	"time"

	"tekton.host/pkg/resource"
)

// Store holds claims. Implementations pass ledgertest.Run.
type Store interface {
	// List returns all claims, sorted by key, and the revision of the store.
	// The caller must not modify the values' bytes.
	List(ctx context.Context) (claims []resource.Claim, revision int64, err error)
	// Commit runs the operations in order and stores the result of those that
	// succeed in one write. It returns one error an operation; nil: done, or
	// already so. An operation that fails leaves the others alone; if the
	// write fails, all of them do.
	Commit(ctx context.Context, ops []Op) []error
	// Watch calls notify after each change, until ctx ends. notify must not block.
	Watch(ctx context.Context, notify func()) error
}

// Op is one change to one key.
type Op struct {
	// Release gives the key back; else it is claimed, or its value changed.
	Release bool
	// Claim names the key and the owner. Its Revision is the one that the
	// caller saw: 0 claims what must not exist yet, and releases whatever the
	// owner has there. Since, where zero, becomes the time of the first claim.
	Claim resource.Claim
}

// Claim returns the operation that claims c.Key for c.Owner.
func Claim(c resource.Claim) Op { return Op{Claim: c} }

// Release returns the operation that gives c.Key back.
func Release(c resource.Claim) Op { return Op{Release: true, Claim: c} }

// Condition reasons of refused operations.
const (
	// ReasonClaimed: somebody else has the key. Retried: they may release it.
	ReasonClaimed = "Claimed"
	// ReasonInvalidClaim: the claim itself is wrong; a defect in the caller.
	ReasonInvalidClaim = "InvalidClaim"
	// ReasonLedgerWrite: the ledger could not be written (disk full ...).
	ReasonLedgerWrite = "LedgerWrite"
)

// Options of a store.
type Options struct {
	// Now is the clock. // optional: time.Now
	Now func() time.Time
}
