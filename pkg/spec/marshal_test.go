package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
)

func TestHostMarshalRoundTrip(t *testing.T) {
	data, err := Marshal(v1alpha1.DefaultHost())
	if err != nil {
		t.Fatal(err)
	}
	h, problems := DecodeHost("h.yaml", data)
	if len(problems) > 0 {
		t.Fatalf("%v\n%s", problems, data)
	}
	if diff := cmp.Diff(v1alpha1.DefaultHost(), h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDigestIgnoresForm(t *testing.T) {
	a, _ := Decode("a.yaml", []byte(good), Options{})
	b, problems := Decode("b.yaml", []byte("# other form\n"+head+"  command:\n  - sleep\n  - 'inf'\n  trust: untrusted\n  system:\n    host: true\n"), Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if a[0].Digest != b[0].Digest || a[0].Equal(b[0]) {
		t.Error("the same content in another place must have the same digest and not be equal")
	}
}

func TestFromJSON(t *testing.T) {
	objects, _ := Decode("a.yaml", []byte(good), Options{})
	data := jsonOf(t, objects[0].Object)
	o, err := FromJSON("Container", data)
	if err != nil {
		t.Fatal(err)
	}
	if Digest(o) != objects[0].Digest {
		t.Error("restored with another digest")
	}
	for kind, stored := range map[string]string{"Workspace": "{}", "Container": `{"spec":{"sandbox":"tight"}}`} {
		if _, err := FromJSON(kind, []byte(stored)); err == nil {
			t.Errorf("%s %s was restored", kind, stored)
		}
	}
}

// TestTextsSurvive writes texts that YAML could take for something else.
func TestTextsSurvive(t *testing.T) {
	for _, text := range []string{
		"", " ", "a ", " a", "no", "Yes", "OFF", "y", "true", "null", "~", "1", "1.10", "010", "0x1f", "0b11", "0o7", "1_000", "+1", "1e3", ".inf", ".NaN",
		"2001-01-01", "2001-01-01T00:00:00Z", "1:20", "a: b", "- x", "#", "a #b", "'", `"`, "!x", "&a", "*a", "%", "@", "`", "=", "<<", "[", "{", "|", ">", "?",
		"a\nb", "a\n", "\n", "\n\n a", "\r\n", "\t", "\u2028", "\ufeff", "\U0001F600", strings.Repeat("word ", 60), "---", "--- a", "...\n",
	} {
		c := &v1alpha1.Container{Metadata: v1alpha1.ObjectMeta{Name: "web"}, Spec: v1alpha1.ContainerSpec{
			System: v1alpha1.System{Host: true}, Command: []string{"echo", text}, Environment: map[string]string{"A": text}}}
		c.Default(nil)
		data, err := Marshal(c)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		objects, problems := Decode("f.yaml", data, Options{})
		if len(problems) > 0 || len(objects) != 1 || objects[0].Digest != Digest(c) {
			t.Errorf("%q: %v\n%s", text, problems, data)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(head + "  system: &s {rootfs: /srv}\n  environment: {A: \"no\", B: \"1.10\", C: 2024-01-01, D: 'y', E: \"~\", F: \"0x1\", G: \"\\u2028\\t\\n \", H: \"\"}\n"))
	f.Add([]byte(good + "  routes: [&r {host: a.example.org, port: 80}, {<<: *r, path: /b}]\n  resources: {memoryMax: 512Mi, cpuQuota: 150%}\n"))
	f.Add([]byte(good + "---\n%TAG ! x\n---\nkind: Host\n...\n? [a]\n: !!binary x\n"))
	f.Add([]byte(greedy))
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("examples: %v, %v", files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems := Decode("f.yaml", data, Options{})
		for _, p := range problems {
			checkPosition(t, p, string(data))
		}
		if len(problems) > MaxProblems+1 {
			t.Errorf("%d problems", len(problems))
		}
		for _, o := range objects {
			checkPosition(t, Problem{Position: o.Position, Message: "-", Reason: "-"}, string(data))
			text, err := Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			again, problems := Decode("f.yaml", text, Options{})
			if len(problems) > 0 || len(again) != 1 || again[0].Digest != o.Digest {
				t.Errorf("decoded again: %v, %d objects\n%s", problems, len(again), text)
			}
			if restored, err := FromJSON(o.Type().Kind, jsonOf(t, o.Object)); err != nil || Digest(restored) != o.Digest {
				t.Errorf("restored from JSON: %v", err)
			}
		}
		DecodeHost("h.yaml", data)
	})
}
