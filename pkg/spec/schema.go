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
