package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// walker turns a YAML node into the JSON of a Go type and notes where each
// field was written. What does not fit the type becomes a problem and is left
// out of the JSON, so that the rest can still be checked.
type walker struct {
	file     string
	line     int      // lines of the file before the node's text
	start    Position // of the document
	kind     string
	name     string
	out      bytes.Buffer
	where    map[string]Position
	touched  map[string]bool // fields that a problem is about
	problems []Problem
	aliased  int  // values seen through aliases
	stopped  bool // a limit was met
}

// cursor is a place in the document.
type cursor struct {
	node    *yaml.Node
	path    string
	tag     reflect.StructTag // of the field
	depth   int
	aliased bool // reached through an alias
	free    bool // the mapping's keys are free
	private bool // the value may be confidential: no message repeats it
}

func newWalker(file string, line int, n *yaml.Node) *walker {
	w := &walker{file: file, line: line, where: map[string]Position{}, touched: map[string]bool{}}
	w.start = w.at(n)
	return w
}

func (w *walker) at(n *yaml.Node) Position {
	return Position{File: w.file, Line: w.line + max(n.Line, 1), Column: max(n.Column, 1)}
}

// problem notes a problem. It returns false, for: the value is not usable.
func (w *walker) problem(at Position, reason, path, format string, args ...any) bool {
	w.touched[path] = true
	w.problems = append(w.problems, Problem{Position: at, Field: path, Reason: reason,
		Message: fmt.Sprintf(format, args...), Kind: w.kind, Name: w.name})
	return false
}

func (w *walker) wrong(c cursor, format string, args ...any) bool {
	return w.problem(w.at(c.node), ReasonWrongType, c.path, format, args...)
}

// follow resolves an alias and keeps the limits.
func (w *walker) follow(c *cursor) bool {
	if c.node.Kind == yaml.AliasNode && c.node.Alias != nil {
		c.node, c.aliased = c.node.Alias, true
	}
	if c.aliased {
		w.aliased++
	}
	limit := ""
	switch {
	case w.stopped:
		return false
	case w.aliased > MaxAliased:
		limit = fmt.Sprintf("the document's aliases expand to more than %d values; write the values out", MaxAliased)
	case c.depth > MaxDepth:
		limit = fmt.Sprintf("nested more than %d levels deep", MaxDepth)
	default:
		return true
	}
	w.stopped = true
	return w.problem(w.at(c.node), ReasonParseError, c.path, "%s", limit)
}

// value writes the JSON of one value. It returns false when there is none to use.
func (w *walker) value(c cursor, t reflect.Type) bool {
	if !w.follow(&c) {
		return false
	}
	pointer := t.Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
	}
	if c.node.Kind == yaml.ScalarNode && c.node.ShortTag() == "!!null" {
		// "routes:" with all items commented out is no routes; "user:" or "allow:" is a mistake.
		if !pointer && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map || t.Kind() == reflect.Slice) {
			return false
		}
		return w.wrong(c, "has no value; write one, or remove the line")
	}
	switch {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return w.custom(c, t)
	case t.Kind() == reflect.Struct:
		return w.object(c, t)
	case t.Kind() == reflect.Map:
		return w.texts(c)
	case t.Kind() == reflect.Slice:
		return w.list(c, t.Elem())
	}
	return w.scalar(c, t)
}

// nameLike is a text that may be meant as the name of an item.
var nameLike = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

func (w *walker) object(c cursor, t reflect.Type) bool {
	if c.node.Kind != yaml.MappingNode {
		hint := ""
		if _, named := fieldsOf(t)["name"]; named && c.node.Kind == yaml.ScalarNode && nameLike.MatchString(c.node.Value) {
			hint = fmt.Sprintf("; write {name: %s}", c.node.Value)
		}
		return w.wrong(c, "must be a mapping of %s, not %s%s", someFields(t), describe(c), hint)
	}
	known := fieldsOf(t)
	w.members(c, func(p pair, path string) bool {
		f, ok := known[p.key.Value]
		if !ok {
			w.unknownField(c, p.key, path, t)
			return false
		}
		child := cursor{node: p.value, path: path, tag: f.Tag, depth: c.depth + 1, aliased: p.aliased}
		return w.value(child, f.Type)
	})
	return true
}

func (w *walker) texts(c cursor) bool {
	if c.node.Kind != yaml.MappingNode {
		hint := ""
		if c.node.Kind == yaml.SequenceNode {
			hint = "; write NAME: text in each line, without \"-\""
		}
		return w.wrong(c, "must be a mapping (NAME: text), not %s%s", describe(c), hint)
	}
	c.free = true
	w.members(c, func(p pair, path string) bool {
		return w.value(cursor{node: p.value, path: path, depth: c.depth + 1, aliased: p.aliased, private: true}, reflect.TypeFor[string]())
	})
	return true
}

// members writes the JSON object of a mapping's usable members.
func (w *walker) members(c cursor, member func(p pair, path string) bool) {
	w.out.WriteByte('{')
	first := true
	for _, p := range w.pairs(c) {
		path := childPath(c.path, p.key.Value, c.free)
		w.where[path] = w.fieldPosition(p)
		start := w.out.Len()
		if !first {
			w.out.WriteByte(',')
		}
		w.text(p.key.Value)
		w.out.WriteByte(':')
		if !member(p, path) {
			w.out.Truncate(start)
			continue
		}
		first = false
	}
	w.out.WriteByte('}')
}

// fieldPosition is that of a scalar value, else that of the key.
func (w *walker) fieldPosition(p pair) Position {
	if p.value.Kind == yaml.ScalarNode && p.value.Line > 0 && p.value.Value != "" {
		return w.at(p.value)
	}
	return w.at(p.key)
}

func (w *walker) list(c cursor, t reflect.Type) bool {
	if c.node.Kind != yaml.SequenceNode {
		hint := ""
		switch {
		case c.node.Kind == yaml.MappingNode:
			hint = "; begin each item with \"- \""
		case c.node.Kind == yaml.ScalarNode && t.Kind() == reflect.String:
			quoted, _ := json.Marshal(strings.Fields(c.node.Value))
			hint = "; write " + strings.ReplaceAll(string(quoted), `","`, `", "`)
		}
		return w.wrong(c, "must be a list, not %s%s", describe(c), hint)
	}
	w.out.WriteByte('[')
	for i, item := range c.node.Content {
		if i > 0 {
			w.out.WriteByte(',')
		}
		path := fmt.Sprintf("%s[%d]", c.path, i)
		w.where[path] = w.at(item)
		start := w.out.Len()
		if !w.value(cursor{node: item, path: path, depth: c.depth + 1, aliased: c.aliased}, t) {
			// Something must hold the place, or later items would be reported under a wrong index.
			w.out.Truncate(start)
			w.placeholder(t)
			if !w.touched[path] && !w.stopped {
				w.problem(w.where[path], ReasonWrongType, path, "has no value; write one, or remove the item")
			}
		}
	}
	w.out.WriteByte(']')
	return true
}

func (w *walker) placeholder(t reflect.Type) {
	switch t.Kind() {
	case reflect.String:
		w.out.WriteString(`""`)
	case reflect.Struct:
		w.out.WriteString(`{}`)
	default:
		w.out.WriteString(`0`)
	}
}

func (w *walker) text(s string) {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	w.out.Write(b)
}
