package main

import (
	"fmt"
	"reflect"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
)

const nixHead = `# Every field of the Host file as an option. Generated from pkg/api/v1alpha1 by
# "go run ./hack/gen"; change the types there, not this file. A field that is
# not set is left out of the file: the daemon alone knows the defaults.
{ lib }:
let
  inherit (lib) mkOption types;
  optional = type: default: description: mkOption {
    inherit description;
    type = types.nullOr type;
    default = null;
    defaultText = lib.literalMD default;
  };
  required = type: description: mkOption { inherit type description; };
  duration = types.strMatching "([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+|0" // { description = "duration such as \"90s\" or \"1h30m\""; };
  size = types.either types.ints.positive (types.strMatching "[0-9]+([KMGT]i?)?" // { description = "size such as \"512M\""; });
in
`

// nixOptions describes the fields of Host as options of a NixOS module.
func nixOptions(docs comments) ([]byte, error) {
	t := reflect.TypeFor[v1alpha1.Host]()
	w := nixWriter{docs: docs, defaults: readableDefaults(v1alpha1.KindHost)}
	w.out.WriteString(nixHead + "{\n")
	for _, name := range []string{"Metadata", "Spec"} {
		f, _ := t.FieldByName(name)
		fmt.Fprintf(&w.out, "  %s = {\n", jsonName(f))
		w.structure(f.Type, jsonName(f), "    ")
		w.out.WriteString("  };\n")
	}
	w.out.WriteString("}\n")
	return []byte(w.out.String()), w.err
}

type nixWriter struct {
	docs     comments
	defaults map[string]string
	out      strings.Builder
	err      error
}

func (w *nixWriter) structure(t reflect.Type, path, indent string) {
	for _, f := range reflect.VisibleFields(t) {
		name := jsonName(f)
		if name == "" {
			continue
		}
		text, err := w.docs.field(t, f)
		if w.err == nil {
			w.err = err
		}
		at := path + "." + name
		if f.Type.Kind() == reflect.Struct && !isScalar(f.Type) {
			fmt.Fprintf(&w.out, "%s%s = {\n", indent, name)
			w.structure(f.Type, at, indent+"  ")
			fmt.Fprintf(&w.out, "%s};\n", indent)
			continue
		}
		if sub, list := structOf(f.Type); sub != nil {
			w.open(f, name, at, indent, list)
			if list {
				at += "[]"
			}
			w.structure(sub, at, indent+"  ")
			fmt.Fprintf(&w.out, "%s}; }%s;\n", indent, w.rest(f, strings.TrimSuffix(at, "[]"), text))
			continue
		}
		fmt.Fprintf(&w.out, "%s%s = %s %s%s;\n", indent, name, need(f), nixType(f), w.rest(f, at, text))
	}
}

// open begins an option that is a submodule, or a list of them.
func (w *nixWriter) open(f reflect.StructField, name, at, indent string, list bool) {
	typ := "(types.submodule"
	if list {
		typ = "(types.listOf (types.submodule"
	}
	fmt.Fprintf(&w.out, "%s%s = %s %s { options = {\n", indent, name, need(f), typ)
}

// rest is what follows an option's type: default and description.
func (w *nixWriter) rest(f reflect.StructField, at, text string) string {
	end := ""
	if sub, list := structOf(f.Type); list {
		end = "))"
	} else if sub != nil {
		end = ")"
	}
	if !optional(f) {
		return end + " " + nixString(text)
	}
	value := w.defaults[at]
	if value == "" {
		value = "none"
	}
	return end + " " + nixString(value) + " " + nixString(text)
}

func need(f reflect.StructField) string {
	if optional(f) {
		return "optional"
	}
	return "required"
}

func isScalar(t reflect.Type) bool { return scalars[t] != nil }

func nixType(f reflect.StructField) string {
	if enum, ok := f.Tag.Lookup("enum"); ok {
		return `(types.enum [ "` + strings.Join(strings.Split(enum, ","), `" "`) + `" ])`
	}
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[v1alpha1.Duration]():
		return "duration"
	case t == reflect.TypeFor[v1alpha1.Quantity]():
		return "size"
	case t == reflect.TypeFor[[]string]():
		return "(types.listOf types.str)"
	case t.Kind() == reflect.Map:
		return "(types.attrsOf types.str)"
	case t.Kind() == reflect.Bool:
		return "types.bool"
	case t.Kind() == reflect.Int:
		least, most := f.Tag.Get("min"), f.Tag.Get("max")
		if most == "" {
			return "types.ints.unsigned"
		}
		return fmt.Sprintf("(types.ints.between %s %s)", least, most)
	}
	return "types.str"
}

// nixString quotes a text.
func nixString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `${`, `\${`, "\n", " ").Replace(s) + `"`
}
