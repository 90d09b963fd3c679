package spec

import (
	"slices"

	"tekton.host/specs"
)

// Schema returns the published JSON Schema of a kind of the API, as written
// ("Container"); nil: there is no such kind.
func Schema(kind string) []byte {
	if !slices.Contains(Kinds(), kind) {
		return nil
	}
	return specs.Schema(kind)
}

// Template returns what a new document of a kind begins with, commented; NAME
// stands for the object's name. nil: the kind has none.
func Template(kind string) []byte { return specs.Template(kind) }
