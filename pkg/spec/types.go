package spec

import (
	"fmt"

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
