// Package specs publishes the JSON Schema of each kind, and what `tekton new`
// begins a document with. The schemas and the tables of the reference pages are generated from the API's Go types by
// hack/gen; a test keeps them up to date.
package specs

import (
	"embed"
	"strings"
)

//go:embed *.schema.json *.new.yaml
var files embed.FS

// Template returns the commented example that a new document of a kind begins
// with; NAME stands for the object's name. nil: the kind has none.
func Template(kind string) []byte {
	data, err := files.ReadFile(strings.ToLower(kind) + ".new.yaml")
	if err != nil {
		return nil
	}
	return data
}

// Schema returns the JSON Schema of a kind; nil: there is no such kind.
func Schema(kind string) []byte {
	data, err := files.ReadFile(strings.ToLower(kind) + ".schema.json")
	if err != nil {
		return nil
	}
	return data
}
