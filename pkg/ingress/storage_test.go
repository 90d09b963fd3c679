package ingress

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/host"
)

// TestMend: of what a power cut has left without content goes the pair, and
// nothing else.
func TestMend(t *testing.T) {
	const zeros = "\x00\x00\x00\x00"
	for name, tc := range map[string]struct {
		files map[string]string
		left  string
	}{
		"nothing damaged": {map[string]string{"pki/local/root.crt": "c", "pki/local/root.key": "k"}, "pki/local/root.crt pki/local/root.key"},
		"root":            {map[string]string{"pki/local/root.crt": "", "pki/local/root.key": "k", "pki/local/intermediate.crt": "c", "pki/other/root.crt": "c"}, "pki/other/root.crt"},
		"intermediate":    {map[string]string{"pki/local/root.crt": "c", "pki/local/intermediate.crt": "c", "pki/local/intermediate.key": zeros}, "pki/local/root.crt"},
		"certificate":     {map[string]string{"certificates/a/a.crt": "c", "certificates/a/a.json": "", "certificates/b/b.crt": "c"}, "certificates/b/b.crt"},
		"at the top":      {map[string]string{"instance.uuid": "", "pki/local/root.crt": "c"}, "pki/local/root.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Driver{opts: Options{Log: logr.Discard(), Layout: host.Layout{State: t.TempDir()}}}
			d.store.dir = d.opts.Layout.Service(serviceName)
			for file, content := range tc.files {
				path := filepath.Join(d.storage(), file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// A link out of it leads nowhere.
			outside := filepath.Join(t.TempDir(), "empty")
			if err := os.WriteFile(outside, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Dir(outside), filepath.Join(d.storage(), "link")); err != nil {
				t.Fatal(err)
			}
			if err := d.mend(); err != nil {
				t.Fatal(err)
			}
			var left []string
			for file := range tc.files {
				if _, err := os.Lstat(filepath.Join(d.storage(), file)); err == nil {
					left = append(left, file)
				}
			}
			slices.Sort(left)
			if diff := cmp.Diff(tc.left, strings.Join(left, " ")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if _, err := os.Lstat(outside); err != nil {
				t.Errorf("a file outside: %v", err)
			}
		})
	}
}
