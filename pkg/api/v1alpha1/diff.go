package v1alpha1

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Diff lists the fields of spec and labels in which two documents differ, by path.
func Diff(old, next json.RawMessage) []PlanField {
	a, b := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	leaves("", old, a)
	leaves("", next, b)
	var out []PlanField
	for path, v := range a {
		if !bytes.Equal(v, b[path]) {
			out = append(out, PlanField{Path: path, Old: v, New: b[path]})
		}
	}
	for path, v := range b {
		if _, known := a[path]; !known {
			out = append(out, PlanField{Path: path, New: v})
		}
	}
	slices.SortFunc(out, func(x, y PlanField) int { return cmp.Compare(x.Path, y.Path) })
	return out
}

// leaves lists the leaves of a JSON value by path: spec.routes[0].host.
func leaves(path string, raw json.RawMessage, into map[string]json.RawMessage) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil && object != nil {
		for k, v := range object {
			leaves(strings.TrimPrefix(path+"."+k, "."), v, into)
		}
		return
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && list != nil {
		for i, v := range list {
			leaves(fmt.Sprintf("%s[%d]", path, i), v, into)
		}
		return
	}
	if len(raw) > 0 && path != "apiVersion" && path != "kind" && path != "metadata.name" {
		into[path] = raw
	}
}
