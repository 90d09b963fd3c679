package spec

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"tekton.host/pkg/api/v1alpha1"
)

// Field is what the API says of one field.
type Field struct {
	Name        string // its own: port
	Path        string // spec.routes[].port; "" is the document
	Type        string // in a person's words
	Description string
	Default     string // "" without one
	Required    bool
	Fields      []Field // of a mapping, or of a list's items; in the order of the types
}

// schema is the part of JSON Schema that the published ones use. JSON is YAML,
// whose nodes keep the order of the properties.
type schema struct {
	Type        yaml.Node // a word or a list of words
	Description string
	Enum        []string
	Examples    []string
	Minimum     *float64
	Maximum     *float64
	Required    []string
	Properties  yaml.Node
	Items       *schema
}

// Explain describes a field of a kind, with the fields below it. The path is
// that of the document, lists with or without "[]": spec.routes.port.
func Explain(kind, path string) (Field, error) {
	var s schema
	if err := yaml.Unmarshal(Schema(kind), &s); err != nil {
		return Field{}, fmt.Errorf("schema of %s: %w", kind, err)
	}
	defaults := map[string]string{}
	for _, row := range v1alpha1.DefaultsTable(kind) {
		name := strings.Replace(row.Field, "[0]", "[]", 1)
		defaults[name] = joinNonEmpty("; ", defaults[name], row.Default+inBrackets(row.Note))
	}
	f, err := fieldOf(&s, Field{Required: true}, defaults)
	if err != nil {
		return Field{}, err
	}
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		i := slices.IndexFunc(f.Fields, func(sub Field) bool { return sub.Name == strings.TrimSuffix(name, "[]") })
		if i < 0 {
			return Field{}, unknownPath(kind, f, name)
		}
		f = f.Fields[i]
	}
	return f, nil
}

// fieldOf completes f by its schema.
func fieldOf(s *schema, f Field, defaults map[string]string) (Field, error) {
	f.Description, f.Type, f.Default = s.Description, typeText(s), defaults[f.Path]
	if s.Items != nil {
		s, f.Path = s.Items, f.Path+"[]"
	}
	for i := 0; i+1 < len(s.Properties.Content); i += 2 {
		name := s.Properties.Content[i].Value
		var sub schema
		if err := s.Properties.Content[i+1].Decode(&sub); err != nil {
			return f, fmt.Errorf("schema of %s: %w", f.Path, err)
		}
		child := Field{Name: name, Path: childPath(f.Path, name, false), Required: slices.Contains(s.Required, name)}
		child, err := fieldOf(&sub, child, defaults)
		if err != nil {
			return f, err
		}
		f.Fields = append(f.Fields, child)
	}
	return f, nil
}

// typeText is the type in the words of the reference pages.
func typeText(s *schema) string {
	words := map[string]string{"string": "text", "integer": "number", "object": "mapping", "array": "list"}
	var types []string
	for _, n := range append(s.Type.Content, &s.Type) {
		if n.Kind == yaml.ScalarNode {
			types = append(types, n.Value)
		}
	}
	for i, t := range types {
		if w := words[t]; w != "" {
			types[i] = w
		}
	}
	text := strings.Join(types, " or ")
	if s.Items != nil && len(s.Items.Properties.Content) == 0 {
		text += " of " + typeText(s.Items) + "s"
	}
	switch {
	case len(s.Enum) > 0:
		text += ": " + strings.Join(s.Enum, ", ")
	case len(s.Examples) > 0:
		text += " such as " + strings.Join(s.Examples, ", ")
	case s.Minimum != nil && s.Maximum != nil:
		text += fmt.Sprintf(", %.0f to %.0f", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		text += fmt.Sprintf(", at least %.0f", *s.Minimum)
	}
	return text
}

// unknownPath says what was probably meant.
func unknownPath(kind string, at Field, name string) error {
	var names []string
	for _, f := range at.Fields {
		names = append(names, f.Name)
	}
	where := strings.TrimSuffix(kind+" "+at.Path, " ")
	if near := Nearest(name, names); near != "" {
		return fmt.Errorf("%s has no field %q; did you mean %q?", where, name, near)
	}
	if t, ok := typeOf(kind); ok {
		if found := pathsOf(t, "", name); len(found) > 0 {
			return fmt.Errorf("%s has no field %q; did you mean %s?", where, name, strings.Join(found, " or "))
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("%s has no fields", where)
	}
	return fmt.Errorf("%s has no field %q; known here: %s", where, name, strings.Join(names, ", "))
}

func inBrackets(note string) string {
	if note == "" {
		return ""
	}
	return " (" + note + ")"
}

func joinNonEmpty(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}
