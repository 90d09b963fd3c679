package spec

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"tekton.host/pkg/api/v1alpha1"
)

// group is what the versions of the API have in common.
const group = "tekton.host/"

// identify reads what the document says it is, before its fields are looked
// at: apiVersion, kind and name.
func (w *walker) identify(n *yaml.Node) (kind string, ok bool) {
	if n.Kind != yaml.MappingNode {
		return "", w.problem(w.start, ReasonWrongType, "", "a spec is a mapping of apiVersion, kind, metadata and spec, not %s", describe(cursor{node: n}))
	}
	kind = w.head(n, "kind")
	w.kind = kind
	if metadata := member(n, "metadata"); metadata != nil {
		if name := member(metadata, "name"); name != nil && name.Kind == yaml.ScalarNode {
			w.name = name.Value
		}
	}
	version := w.head(n, "apiVersion")
	switch {
	case version == "":
		ok = w.problem(w.misspelt(n, "apiVersion"), ReasonUnknownKind, "apiVersion", "is required: write apiVersion: %s", v1alpha1.APIVersion)
	case !strings.HasPrefix(version, group):
		ok = w.problem(w.position("apiVersion"), ReasonUnknownKind, "apiVersion", "%q is not tekton's; write apiVersion: %s", version, v1alpha1.APIVersion)
	case version != v1alpha1.APIVersion:
		ok = w.problem(w.position("apiVersion"), ReasonUnknownKind, "apiVersion",
			"%q is not known to this version of tekton, which reads %s; a newer spec needs a newer tekton", version, v1alpha1.APIVersion)
	default:
		ok = true
	}
	if kind == "" {
		ok = w.problem(w.misspelt(n, "kind"), ReasonUnknownKind, "kind", "is required: write kind: and one of %s", strings.Join(v1alpha1.Kinds(), ", "))
	}
	return kind, ok
}

// misspelt is where the field seems to be meant, else the document's start.
func (w *walker) misspelt(n *yaml.Node, name string) Position {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if Nearest(n.Content[i].Value, []string{name}) != "" {
			return w.at(n.Content[i])
		}
	}
	return w.start
}

// head reads a text of the document's head and notes its position.
func (w *walker) head(n *yaml.Node, name string) string {
	value := member(n, name)
	if value == nil || value.Kind != yaml.ScalarNode {
		return ""
	}
	w.where[name] = w.at(value)
	return value.Value
}

// member returns the value of a key, also behind an alias; nil: there is none.
func member(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			if value := n.Content[i+1]; value.Kind != yaml.AliasNode {
				return value
			}
			return n.Content[i+1].Alias
		}
	}
	return nil
}

// knownKind reports whether a source may hold the kind.
func (w *walker) knownKind(kind string) bool {
	kinds := v1alpha1.Kinds()
	at := w.position("kind")
	switch {
	case slices.Contains(kinds, kind):
		return true
	case kind == v1alpha1.KindHost:
		return w.problem(at, ReasonUnknownKind, "kind", "Host is the daemon's own configuration (tektond --config FILE); it has no place in a source")
	}
	hint := "known kinds: " + strings.Join(kinds, ", ")
	if near := Nearest(kind, kinds); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return w.problem(at, ReasonUnknownKind, "kind", "%q is not a kind of this version of tekton; %s", kind, hint)
}

// position returns where a field was written, or else the nearest one around it.
func (w *walker) position(path string) Position {
	return nearestPosition(w.where, path, w.start)
}

// nearestPosition cuts the path from its end until something was written there.
func nearestPosition(where map[string]Position, path string, fallback Position) Position {
	for path != "" {
		if at, ok := where[path]; ok {
			return at
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return fallback
}
