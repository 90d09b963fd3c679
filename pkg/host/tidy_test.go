package host_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/host"
)

func TestTidy(t *testing.T) {
	state := t.TempDir()
	for _, path := range []string{
		"ledger.json", ".ledger.json1234567890123456789", "lock",
		"machines/web-1/instance.json", "machines/web-1/.instance.json8674665223082153551", "machines/web-1/upper/.x123456789012", "machines/half-1/",
		"volumes/container/web/.data.json", "volumes/container/web/..data.json5577006791947779410", "volumes/container/web/data/.mine1234567890123",
		"volumes/container/empty/", "volumes/agent/gone/", "volumes/container/app/..data.json5577006791947779410",
		"passwords/tekton_a_1234567890123", "passwords/.tekton_a_main1234567890", "passwords/.owners/tekton_a_1234567890123", "passwords/.owners/.tekton_a_main6334824724549167320",
		"services/postgres/conf/pg_hba.conf", "services/postgres/conf/.pg_hba.conf605394647632969758", "services/caddy/status.json", "trash/1-volume-x/", "trash/2-volume-y/meta.json",
		"builds/0123456789abcdef/result.json", "builds/0123456789abcdef/.progress.json605394647632969758",
		"services/caddy/.current2443200698/", "services/caddy/.content2443200698/file",
	} {
		full := filepath.Join(state, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "/") {
			if err := os.Mkdir(full, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(full, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("generations/1", filepath.Join(state, "services/caddy/.current2443200698/tmp")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := host.Tidy(host.Layout{State: state}); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	fs.WalkDir(os.DirFS(state), ".", func(path string, e fs.DirEntry, err error) error {
		if entries, _ := os.ReadDir(filepath.Join(state, path)); !e.IsDir() || len(entries) == 0 {
			left = append(left, path)
		}
		return err
	})
	want := []string{
		"builds/0123456789abcdef/result.json", "ledger.json", "lock", "machines/web-1/instance.json", "machines/web-1/upper/.x123456789012",
		"passwords/.owners/tekton_a_1234567890123", "passwords/tekton_a_1234567890123",
		"services/caddy/.content2443200698/file", "services/caddy/status.json", "services/postgres/conf/pg_hba.conf", "trash/2-volume-y/meta.json",
		"volumes/container/web/.data.json", "volumes/container/web/data/.mine1234567890123",
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("-want +left:\n%s", diff)
	}
}
