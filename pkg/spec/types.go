package spec

import (
	"fmt"
	"reflect"

	"tekton.host/pkg/api/v1alpha1"
)

// Position is where something was written. Line and Column count from 1; 0 is unknown.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Object is a document that was decoded, defaulted and validated.
type Object struct {
	v1alpha1.Object
	Position Position // of the document's first key
	// Digest is the content hash of the defaulted object; same digest, same object.
	Digest string
	fields *fields // nil for an object that was not decoded from a file
}

// fields knows where each field of an object was written.
type fields struct{ where map[string]Position }

// FieldPosition is where a field was written ("spec.routes[0].host"), or the
// nearest one around it, or the document.
func (o Object) FieldPosition(path string) Position {
	if o.fields == nil {
		return o.Position
	}
	return nearestPosition(o.fields.where, path, o.Position)
}

// Equal reports whether two objects have the same content and place.
func (o Object) Equal(p Object) bool {
	return o.Position == p.Position && o.Digest == p.Digest && reflect.DeepEqual(o.Object, p.Object)
}

// Ref names the object.
func (o Object) Ref() v1alpha1.Ref { return v1alpha1.Ref{Kind: o.Type().Kind, Name: o.Meta().Name} }

// UniqueName is what no two objects of a host share.
func (o Object) UniqueName() string { return v1alpha1.UniqueName(o.Type().Kind, o.Meta().Name) }

// Problem returns a problem of one of the object's fields.
func (o Object) Problem(path, reason, message string) Problem {
	return Problem{Position: o.FieldPosition(path), Field: path, Reason: reason, Message: message,
		Kind: o.Type().Kind, Name: o.Meta().Name}
}

// Problem is one thing wrong with a file or a document.
type Problem struct {
	Position
	// Field is the path of the field, "spec.routes[0].host"; empty for a whole document.
	Field string `json:"field,omitempty"`
	// Reason is CamelCase: ParseError, UnknownField, InvalidValue, DuplicateName, SourcePolicy, UnreadableFile ...
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Kind and Name of the document where they could be read.
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
}

func (p Problem) Error() string {
	if p.Field == "" {
		return fmt.Sprintf("%s: %s", p.Position, p.Message)
	}
	return fmt.Sprintf("%s: %s: %s", p.Position, p.Field, p.Message)
}
