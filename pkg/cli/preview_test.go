package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"tekton.host/pkg/api/v1alpha1"
)

// TestWithFields: one field of one document changes, all else stays as somebody wrote it.
func TestWithFields(t *testing.T) {
	const file = `# ours
apiVersion: tekton.host/v1alpha1
kind: Preview
metadata:
  name: a # the first
spec:
  branch: main
---
apiVersion: tekton.host/v1alpha1
kind: Preview
metadata: {name: b}
spec:
  # until the fair
  commit: "0000000000000000000000000000000000000000"
  branch: main
`
	got, err := withFields([]byte(file), v1alpha1.Ref{Kind: "Preview", Name: "a"}, func(fields *yaml.Node) error {
		setField(fields, "rebuild", 1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Replace(file, "  branch: main\n---", "  branch: main\n  rebuild: 1\n---", 1), string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got, err = withFields([]byte(file), v1alpha1.Ref{Kind: "Preview", Name: "b"}, func(fields *yaml.Node) error {
		setField(fields, "commit", "")
		return nil
	})
	if err != nil || strings.Contains(string(got), "commit") || !strings.HasPrefix(string(got), file[:strings.Index(file, "---")]) {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := withFields([]byte(file), v1alpha1.Ref{Kind: "Preview", Name: "c"}, func(*yaml.Node) error { return nil }); err == nil {
		t.Error("a preview that is not there was changed")
	}
}
