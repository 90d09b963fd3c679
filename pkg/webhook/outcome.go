package webhook

import (
	"context"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/forge"
)

// Outcome is what a pull request has come to: what is told to people.
type Outcome struct {
	// Verdict of the policy, and of what room there is.
	Verdict
	// Preview is the name of its preview, also of one that is going; empty: it has none.
	Preview string
	// Item is the preview as the daemon shows it; nil: the daemon does not have
	// it, or was not heard of it yet.
	Item *v1alpha1.Item
}

// Teller tells a forge what a pull request has come to: a comment that is edited
// in place, a deployment. It is told the same again after a restart, after each
// sweep and after an error, and then changes nothing that is as it should be.
type Teller interface {
	// Text is all that would be told of an outcome: equal texts, nothing to do.
	Text(o Outcome) string
	// Tell it of the pull request that the key names.
	Tell(ctx context.Context, c forge.Client, k Key, o Outcome) error
	// Told are the pull requests that it has told of, and not yet that they are closed.
	Told() ([]Key, error)
}
