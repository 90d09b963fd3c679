package spec

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pair is one member of a mapping.
type pair struct {
	key, value *yaml.Node
	aliased    bool // merged from elsewhere
}

// pairs returns the members of a mapping, each key once. "<<" merges another
// mapping's members; the mapping's own win.
func (w *walker) pairs(c cursor) []pair {
	var own, merged []pair
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(c.node.Content); i += 2 {
		key, value := c.node.Content[i], c.node.Content[i+1]
		if key.Kind == yaml.AliasNode && key.Alias != nil {
			key = key.Alias
		}
		switch {
		case key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge":
			merged = append(merged, w.merged(c, value)...)
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!null":
			w.problem(w.at(key), ReasonWrongType, c.path, "a key must be text")
		case hasControl(key.Value):
			w.problem(w.at(key), ReasonInvalidValue, c.path, "a key holds a control character; a spec is text")
		case first[key.Value] != nil:
			w.problem(w.at(key), ReasonDuplicateKey, childPath(c.path, key.Value, c.free),
				"is here a second time; it is already in line %d", w.line+first[key.Value].Line)
		default:
			first[key.Value] = key
			own = append(own, pair{key, value, c.aliased})
		}
	}
	for _, p := range merged {
		if first[p.key.Value] == nil {
			first[p.key.Value] = p.key
			own = append(own, p)
		}
	}
	return own
}

func (w *walker) merged(c cursor, value *yaml.Node) []pair {
	from := cursor{node: value, path: c.path, depth: c.depth + 1, aliased: true}
	if !w.follow(&from) {
		return nil
	}
	switch from.node.Kind {
	case yaml.MappingNode:
		pairs := w.pairs(from)
		w.aliased += len(pairs)
		for i := range pairs {
			pairs[i].aliased = true
		}
		return pairs
	case yaml.SequenceNode:
		var all []pair
		for _, item := range from.node.Content {
			all = append(all, w.merged(from, item)...)
		}
		return all
	}
	w.problem(w.at(value), ReasonWrongType, c.path, "<< merges a mapping, or a list of them")
	return nil
}

// childPath is the path of a member as validation writes it.
func childPath(path, key string, free bool) string {
	switch {
	case free:
		return path + "[" + key + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

// fieldsOf returns the fields of a struct by their name in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if name, ok := jsonName(f); ok {
			fields[name] = f
		}
	}
	return fields
}

func jsonName(f reflect.StructField) (string, bool) {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, name != "" && name != "-" && f.IsExported()
}

// fieldNames lists the fields of a struct in their order.
func fieldNames(t reflect.Type) string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		if name, ok := jsonName(f); ok {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// someFields is fieldNames in a length that a message can bear.
func someFields(t reflect.Type) string {
	const enough = 8
	names := strings.Split(fieldNames(t), ", ")
	if len(names) > enough {
		names = append(names[:enough], "…")
	}
	return strings.Join(names, ", ")
}
