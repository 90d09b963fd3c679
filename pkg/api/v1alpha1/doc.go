// Package v1alpha1 is tekton's API: the kinds that a spec file may hold, their
// defaults and their validation, and the status that the daemon reports.
//
// Invariants:
//   - it imports nothing of ours, so that every other package may use it;
//   - every field is either honoured or refused with a reason;
//   - Default is idempotent, and the table of defaults is tested against goldens.
package v1alpha1

// APIVersion of all kinds in this package.
const APIVersion = "tekton.host/v1alpha1"

// Kinds.
const (
	KindHost      = "Host"
	KindContainer = "Container"
)

// Object is what any kind that runs a machine offers to the rest of tekton.
type Object interface {
	// Type returns apiVersion and kind.
	Type() TypeMeta
	// Meta returns the metadata.
	Meta() ObjectMeta
}

// Type returns apiVersion and kind.
func (c *Container) Type() TypeMeta { return c.TypeMeta }

// Meta returns the metadata.
func (c *Container) Meta() ObjectMeta { return c.Metadata }

var _ Object = (*Container)(nil)
