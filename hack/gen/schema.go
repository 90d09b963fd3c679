package main

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"tekton.host/pkg/api/v1alpha1"
)

// scalars are types that judge their own text.
var scalars = map[reflect.Type]*jsonschema.Schema{
	reflect.TypeFor[v1alpha1.Duration](): {Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`, Examples: []any{"90s", "1h30m"}},
	reflect.TypeFor[v1alpha1.Quantity](): {Types: []string{"string", "integer"}, Pattern: `^[0-9]+([KMGT]i?)?$`, Minimum: new(1.0), Examples: []any{"512M", "2G"}},
}

// schemaOf returns the JSON Schema of a kind: the types' shape with their
// comments, tags and constant defaults.
func schemaOf(kind string, t reflect.Type, docs comments) ([]byte, error) {
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: scalars})
	if err != nil {
		return nil, err
	}
	a := annotator{docs: docs, defaults: map[string]string{}}
	for _, row := range v1alpha1.DefaultsTable(kind) {
		if row.Note == "" { // one that depends on something is no constant of the schema
			a.defaults[row.Field] = row.Default
		}
	}
	if err := a.structure(s, t, ""); err != nil {
		return nil, err
	}
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = kind
	s.Description = docs[kind]
	s.Properties["apiVersion"].Const = new(any(v1alpha1.APIVersion))
	s.Properties["kind"].Const = new(any(kind))
	data, err := json.MarshalIndent(s, "", "  ")
	return append(data, '\n'), err
}

type annotator struct {
	docs     comments
	defaults map[string]string
}

// structure annotates the schema of a struct and what is below it.
func (a annotator) structure(s *jsonschema.Schema, t reflect.Type, path string) error {
	for _, f := range reflect.VisibleFields(t) {
		name := jsonName(f)
		if name == "" {
			continue
		}
		text, err := a.docs.field(t, f)
		if err != nil {
			return err
		}
		property := s.Properties[name]
		property.Description = text
		if err := a.value(property, f, strings.TrimPrefix(path+"."+name, ".")); err != nil {
			return err
		}
	}
	return nil
}

func (a annotator) value(s *jsonschema.Schema, f reflect.StructField, path string) error {
	// What is absent is left out: null is a typing error more often than not.
	if len(s.Types) > 0 && s.Types[0] == "null" {
		s.Types = s.Types[1:]
		if len(s.Types) == 1 {
			s.Type, s.Types = s.Types[0], nil
		}
	}
	constrain(s, f.Tag)
	if text, ok := a.defaults[path]; ok && path != "apiVersion" && path != "kind" {
		s.Default = json.RawMessage(text)
		if s.Type == "string" || len(s.Types) > 0 {
			s.Default = json.RawMessage(strconv.Quote(text))
		}
	}
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice {
		s, t, path = s.Items, t.Elem(), path+"[]"
	}
	if t.Kind() != reflect.Struct || scalars[t] != nil {
		return nil
	}
	return a.structure(s, t, path)
}

func constrain(s *jsonschema.Schema, tag reflect.StructTag) {
	if enum, ok := tag.Lookup("enum"); ok {
		for value := range strings.SplitSeq(enum, ",") {
			s.Enum = append(s.Enum, value)
		}
	}
	if n, err := strconv.ParseFloat(tag.Get("min"), 64); err == nil {
		s.Minimum = &n
	}
	if n, err := strconv.ParseFloat(tag.Get("max"), 64); err == nil {
		s.Maximum = &n
	}
}
