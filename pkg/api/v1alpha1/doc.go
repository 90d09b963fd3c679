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
	KindHost       = "Host"
	KindContainer  = "Container"
	KindAgent      = "Agent"
	KindPreview    = "Preview"
	KindRepository = "Repository"
)

// RunsMachine reports whether objects of a kind run a machine. Their names are
// unique across all such kinds, others' within their own.
func RunsMachine(kind string) bool { return kind != KindRepository }

// UniqueName is what no two objects of a host share: the name, of a kind that runs
// no machine with that before it.
func UniqueName(kind, name string) string {
	if RunsMachine(kind) {
		return name
	}
	return kind + "/" + name
}

// Object is what any kind that a source may hold offers to the rest of tekton.
type Object interface {
	// Type returns apiVersion and kind.
	Type() TypeMeta
	// Meta returns the metadata.
	Meta() ObjectMeta
	// Machine returns what the object says of its machine: the shape that every
	// kind is compiled from. A Container's is its own spec; nobody changes it. nil:
	// the kind runs none.
	Machine() *ContainerSpec
	// Declared returns the spec as the document has it, with defaults.
	Declared() any
}

// New makes an empty object of a kind that a source may hold; nil: there is no such
// kind. It is the one table that a new kind enters.
func New(kind string) Object {
	switch kind {
	case KindContainer:
		return &Container{}
	case KindAgent:
		return &Agent{}
	case KindPreview:
		return &Preview{}
	case KindRepository:
		return &Repository{}
	}
	return nil
}

// Type returns apiVersion and kind.
func (c *Container) Type() TypeMeta { return c.TypeMeta }

// Meta returns the metadata.
func (c *Container) Meta() ObjectMeta { return c.Metadata }

// Machine returns the container's own spec.
func (c *Container) Machine() *ContainerSpec { return &c.Spec }

// Declared returns the container's spec.
func (c *Container) Declared() any { return &c.Spec }

var (
	_ Object = (*Container)(nil)
	_ Object = (*Agent)(nil)
	_ Object = (*Preview)(nil)
	_ Object = (*Repository)(nil)
)
