package spec_test

import (
	"strings"
	"testing"

	"tekton.host/pkg/spec"
)

// TestExplainKnowsEveryField walks all kinds: a field without a type or a
// description would be a hole in what editors and people are told.
func TestExplainKnowsEveryField(t *testing.T) {
	for _, kind := range spec.Kinds() {
		root, err := spec.Explain(kind, "")
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		var walk func(f spec.Field)
		walk = func(f spec.Field) {
			seen++
			if f.Type == "" || f.Description == "" {
				t.Errorf("%s %s: type %q, description %q", kind, f.Path, f.Type, f.Description)
			}
			again, err := spec.Explain(kind, f.Path)
			if err != nil || again.Description != f.Description {
				t.Errorf("%s %s cannot be asked for by its path: %v", kind, f.Path, err)
			}
			for _, sub := range f.Fields {
				walk(sub)
			}
		}
		walk(root)
		if seen < 20 {
			t.Errorf("%s has only %d fields", kind, seen)
		}
	}
}

func TestExplain(t *testing.T) {
	for path, want := range map[string]spec.Field{
		"spec.routes.port":          {Name: "port", Path: "spec.routes[].port", Type: "number, 1 to 65535", Required: true},
		"spec.routes[].tls":         {Name: "tls", Path: "spec.routes[].tls", Type: "text: off, internal, files, acme", Default: "internal (Host spec.ingress.tls)"},
		"spec.command":              {Name: "command", Path: "spec.command[]", Type: "list of texts"},
		"spec.stopTimeout":          {Name: "stopTimeout", Path: "spec.stopTimeout", Type: "text such as 90s, 1h30m", Default: "10s"},
		"spec.resources.memoryMax":  {Name: "memoryMax", Path: "spec.resources.memoryMax", Type: "text or number such as 512M, 2G"},
		"spec.resources.cpuWeight":  {Name: "cpuWeight", Path: "spec.resources.cpuWeight", Type: "number, 1 to 10000"},
		"spec.databases[].env":      {Name: "env", Path: "spec.databases[].env", Type: "text"},
		"spec.restartPolicy":        {Name: "restartPolicy", Path: "spec.restartPolicy", Type: "text: Always, OnFailure, Never", Default: "Always"},
		"spec.network.egress.allow": {Name: "allow", Path: "spec.network.egress.allow[]", Type: "list of texts"},
	} {
		got, err := spec.Explain("Container", path)
		if err != nil {
			t.Error(err)
			continue
		}
		if path == "spec.databases[].env" {
			if !strings.Contains(got.Default, "DATABASE_URL (the first database)") {
				t.Errorf("%s: default %q", path, got.Default)
			}
			got.Default = ""
		}
		if got.Name != want.Name || got.Path != want.Path || got.Type != want.Type || got.Default != want.Default || got.Required != want.Required {
			t.Errorf("%s: got %+v", path, got)
		}
	}
}

func TestExplainHints(t *testing.T) {
	for path, want := range map[string]string{
		"spec.route":         `Container spec has no field "route"; did you mean "routes"?`,
		"routes":             `Container has no field "routes"; did you mean spec.routes?`,
		"spec.command.first": `Container spec.command[] has no fields`,
		"spec.xyzzyxyzzy":    `known here: system, runtime`,
	} {
		if _, err := spec.Explain("Container", path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}
