package webhook

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
)

// TestOneKey: a pull request is looked at by one at a time, however a delivery,
// a url and an older journal spell its repository.
func TestOneKey(t *testing.T) {
	w := newWorld(t, map[string]v1alpha1.RepositorySpec{"shop": {URL: "https://github.com/Team/shop.git"}})
	w.settle()
	wait := make(chan struct{})
	w.forge.slow = map[int]chan struct{}{1: wait}
	w.forge.open(1)
	if err := w.server.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliver("a", "pull_request", `{"action":"opened","number":1,"repository":{"full_name":"team/Shop"}}`)
	if n := w.server.looks.waiting(); n != 1 {
		t.Errorf("%d keys of one pull request", n)
	}
	close(wait)
	w.settle()
	if e, err := w.server.store.Read(Ref{"shop", 1}); err != nil || e.Record == nil || e.Record.Key != key(1) || w.server.journal.Len() != 0 {
		t.Errorf("%+v, %v, %d are pending", e.Record, err, w.server.journal.Len())
	}

	dir := t.TempDir()
	line := `{"%s":{"forge":"github","repository":{"Owner":"Team","Name":"Shop"},"number":%d}}` + "\n"
	old := fmt.Sprintf(line, "add", 1) + fmt.Sprintf(line, "add", 2) + fmt.Sprintf(line, "done", 2)
	if err := os.WriteFile(filepath.Join(dir, "journal"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, dir)
	defer j.Close()
	if diff := cmp.Diff([]Key{key(1)}, j.Pending()); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
}
