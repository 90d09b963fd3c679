package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/backup"
	"tekton.host/pkg/client"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/servertest"
	"tekton.host/pkg/server/wire"
)

// TestSuspendedSources are told: that they are is not in an archive.
func TestSuspendedSources(t *testing.T) {
	got := suspended([]v1alpha1.SourceStatus{{Name: "local"}, {Name: "team", Git: &v1alpha1.GitStatus{Suspended: true}}, {Name: "other", Git: &v1alpha1.GitStatus{}}})
	if len(got) != 1 || !strings.Contains(got[0], "source team is suspended") {
		t.Errorf("%q", got)
	}
}

// TestDumpOfWhatIsGone: a database that was deleted since it was listed is told
// apart from one that cannot be dumped.
func TestDumpOfWhatIsGone(t *testing.T) {
	for code, gone := range map[wire.Code]bool{wire.NotFound: true, wire.Internal: false} {
		api, err := server.New(server.Options{Backend: servertest.New(servertest.State{Errors: map[string]*wire.Error{"BackupDatabase": {Code: code, Message: "no such data"}}})})
		if err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(t.TempDir(), "s")
		l, err := server.Listen(server.ListenOptions{Path: socket})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- api.Serve(ctx, l) }()
		a := &app{client: client.New(socket)}
		if err := a.dump(t.Context(), nil, "shop"); err == nil || errors.Is(err, backup.ErrNoDatabase) != gone {
			t.Errorf("%s: %v", code, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
