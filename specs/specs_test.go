package specs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
	"tekton.host/specs"
)

var example = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestExamplesOfThePages decodes each example and holds it against the schema:
// what a reader copies must work, and what an editor accepts must decode.
func TestExamplesOfThePages(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range append(pages, "../docs/git-sources.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		examples := example.FindAllSubmatch(text, -1)
		if len(examples) == 0 {
			t.Errorf("%s has no example", page)
		}
		for _, e := range examples {
			checkExample(t, page, e[1])
		}
	}
}

func checkExample(t *testing.T, page string, text []byte) {
	t.Helper()
	var problems []spec.Problem
	var kind string
	if strings.Contains(string(text), "kind: Host") {
		kind = "Host"
		_, problems = spec.DecodeHost(page, text)
	} else {
		var objects []spec.Object
		objects, problems = spec.Decode(page, text, spec.Options{})
		for _, o := range objects {
			kind = o.Type().Kind
		}
	}
	for _, p := range problems {
		t.Errorf("%v", p)
	}
	validate(t, kind, text)
}

// validate holds a document against the published schema.
func validate(t *testing.T, kind string, text []byte) {
	t.Helper()
	var schema jsonschema.Schema
	if err := json.Unmarshal(specs.Schema(kind), &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(document); err != nil {
		t.Errorf("%s against its schema: %v\n%s", kind, err, text)
	}
}

func TestSchema(t *testing.T) {
	for _, kind := range spec.Kinds() {
		if !json.Valid(spec.Schema(kind)) {
			t.Errorf("%s has no schema", kind)
		}
	}
	for _, kind := range []string{"Workspace", "container", "../specs", ""} {
		if spec.Schema(kind) != nil {
			t.Errorf("%q has a schema", kind)
		}
	}
}

// TestDefaultedFormFitsTheSchema: what `tekton get -o yaml` prints can be
// written back.
func TestDefaultedFormFitsTheSchema(t *testing.T) {
	for _, kind := range v1alpha1.Kinds() {
		page := strings.ToLower(kind) + ".md"
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range example.FindAllSubmatch(text, -1) {
			objects, _ := spec.Decode(page, e[1], spec.Options{})
			for _, o := range objects {
				full, err := spec.Marshal(o)
				if err != nil {
					t.Fatal(err)
				}
				validate(t, o.Type().Kind, full)
			}
		}
	}
}

// TestTemplates: what `tekton new` prints is valid as it is, stays so when
// all of its comments that are fields are made true, and shows every field.
func TestTemplates(t *testing.T) {
	// Prose begins with a capital, a field with a key or a list item.
	commented := regexp.MustCompile(`(?m)^( *)# ( *(?:- )?[a-z{][a-zA-Z]*: |  +|- |[a-zA-Z]+:$)`)
	for _, kind := range v1alpha1.Kinds() {
		text := strings.ReplaceAll(string(specs.Template(kind)), "NAME", "web")
		if objects, problems := spec.Decode(kind, []byte(text), spec.Options{}); len(problems) > 0 || len(objects) != 1 {
			t.Errorf("%s: %d objects, problems %v", kind, len(objects), problems)
		}
		all := commented.ReplaceAllString(text, "$1$2")
		_, problems := spec.Decode(kind, []byte(all), spec.Options{})
		for _, p := range problems {
			// Exactly one of the userlands; a branch or a pull request; only with a Repository; not beside ports.
			if !slices.Contains([]string{"spec.system", "spec.pullRequest", "spec.fork", "spec.sleepAfter"}, p.Field) {
				t.Errorf("%s with all fields: %v in\n%s", kind, p, all)
			}
		}
		var whole struct {
			Spec map[string]any `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(all), &whole); err != nil {
			t.Fatal(err)
		}
		f, err := spec.Explain(kind, "spec")
		if err != nil {
			t.Fatal(err)
		}
		for _, sub := range f.Fields {
			// runtime has a good default, placement nothing to choose from yet.
			if _, shown := whole.Spec[sub.Name]; !shown && sub.Name != "runtime" && sub.Name != "placement" {
				t.Errorf("%s.new.yaml does not show spec.%s", strings.ToLower(kind), sub.Name)
			}
		}
	}
}
