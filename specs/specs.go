// Package specs publishes the JSON Schema of each kind. The schemas and the
// tables of the reference pages are generated from the API's Go types by
// hack/gen; a test keeps them up to date.
package specs

import (
	"embed"
	"strings"
)

//go:embed *.schema.json
var files embed.FS

// Schema returns the JSON Schema of a kind; nil: there is no such kind.
func Schema(kind string) []byte {
	data, err := files.ReadFile(strings.ToLower(kind) + ".schema.json")
	if err != nil {
		return nil
	}
	return data
}
