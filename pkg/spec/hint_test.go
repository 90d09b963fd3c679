package spec

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

// TestHintsNameFields: whatever other tools call a field, a hint of any kind names
// no field that this kind does not have.
func TestHintsNameFields(t *testing.T) {
	said := regexp.MustCompile(`\bspec\.[A-Za-z.\[\]]*[A-Za-z]`)
	hints := 0
	for _, kind := range Kinds() {
		root, _ := typeOf(kind)
		for path := range habits {
			if !strings.HasPrefix(path, "spec.") {
				continue
			}
			for _, p := range problemsOf(kind, path) {
				if p.Reason != ReasonUnknownField {
					continue
				}
				for _, field := range said.FindAllString(p.Message, -1) {
					if hints++; !has(root, field) {
						t.Errorf("%s %s: %s", kind, path, p.Message)
					}
				}
			}
		}
	}
	if hints < len(habits) {
		t.Errorf("only %d fields were named", hints)
	}
	for text, want := range map[string]string{
		"Preview spec.hostname":   `did you mean "host"?`,
		"Host spec.postgresql":    `did you mean "postgres"?`,
		"Agent spec.args":         "known here: ",
		"Repository spec.secrets": `did you mean "secret"?`,
	} {
		kind, path, _ := strings.Cut(text, " ")
		if got := fmt.Sprint(problemsOf(kind, path)); !strings.Contains(got, path+": unknown field; ") || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// problemsOf a document that has nothing but a field.
func problemsOf(kind, path string) []Problem {
	value := "x"
	parts := strings.Split(path, ".")
	for i := len(parts) - 1; i >= 0; i-- {
		if name, list := strings.CutSuffix(parts[i], "[]"); list {
			value = fmt.Sprintf("{%s: [%s]}", name, value)
		} else {
			value = fmt.Sprintf("{%s: %s}", name, value)
		}
	}
	text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: x}\n%s\n", v1alpha1.APIVersion, kind, strings.TrimSuffix(strings.TrimPrefix(value, "{"), "}"))
	if kind == v1alpha1.KindHost {
		_, problems := DecodeHost("f.yaml", []byte(text))
		return problems
	}
	_, problems := Decode("f.yaml", []byte(text), Options{})
	return problems
}

// has reports whether a type has the field of a path.
func has(t reflect.Type, path string) bool {
	for part := range strings.SplitSeq(path, ".") {
		f, ok := fieldsOf(t)[strings.TrimSuffix(part, "[]")]
		if !ok {
			return false
		}
		for t = f.Type; t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice; t = t.Elem() {
		}
		if t.Kind() != reflect.Struct {
			t = reflect.TypeFor[struct{}]()
		}
	}
	return true
}
