package resource

import "context"

// Verb is what a step does to its resource.
type Verb string

const (
	// Put makes the thing exist with the step's value: created, or changed in
	// place. Already so is success.
	Put Verb = "put"
	// Delete makes the thing not exist. Already gone is success.
	Delete Verb = "delete"
)

// Step is one change to one resource.
type Step struct {
	Verb Verb
	// Resource is the wanted one for Put, the observed one for Delete.
	Resource Resource
	// Seen is what the plan saw, nil when the thing was not there. A driver
	// re-reads the thing first and returns ErrStale when it differs.
	Seen *Resource
	// Reason says in a few words why, for plan, events and logs.
	Reason string
}

func (s Step) String() string { return string(s.Verb) + " " + s.Resource.ID.String() }

// Driver manages the kinds of one system on the host (netlink and nft, the
// supervisor, PostgreSQL, Caddy ...).
//
// Observe must not modify anything and reads in bulk. It returns a Domain for
// each of Kinds, and only things that carry our mark.
//
// Apply runs steps of the driver's own kinds and returns one error a step, in
// order (nil: done). It is idempotent, never touches what lacks our mark
// (Conflict error instead), honours ctx, and re-reads before it writes. A
// batch driver gets all pending steps of a kind at once and commits them in one
// transaction; others get one step a call, concurrently for different objects.
type Driver interface {
	Name() string
	Kinds() []Kind
	Observe(ctx context.Context) map[Kind]Domain
	Apply(ctx context.Context, steps []Step) []error
	// Watch calls notify whenever the managed system may have changed, until
	// ctx ends. An event only says "look again". It returns early with an
	// error when no events can be had; the engine then polls on resync only
	// and calls Watch again later.
	Watch(ctx context.Context, notify func()) error
}
