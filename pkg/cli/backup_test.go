package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
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

// TestDumpOfWhatIsGone: a database that was deleted since it was listed, and one
// that cannot be dumped, are told apart from a daemon that is in trouble.
func TestDumpOfWhatIsGone(t *testing.T) {
	for code, want := range map[wire.Code][2]bool{wire.NotFound: {true, false}, wire.Conflict: {false, true}, wire.Internal: {}} {
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
		err = a.dump(t.Context(), nil, "shop")
		if got := [2]bool{errors.Is(err, backup.ErrNoDatabase), errors.Is(err, backup.ErrNotDumped)}; err == nil || got != want {
			t.Errorf("%s: %v", code, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestUnwholeArchive: what lacks a database does not take the place of a whole one.
func TestUnwholeArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.tar.gz")
	create := func(text string, missing ...string) error {
		m, err := createFile(path, func(w io.Writer) (backup.Manifest, error) {
			_, err := io.WriteString(w, text)
			return backup.Manifest{Missing: missing}, err
		})
		var out strings.Builder
		return (&app{err: &out}).made(path, m, err)
	}
	if err := create("whole"); err != nil {
		t.Fatal(err)
	}
	if err := create("less", "databases/shop"); err == nil || !strings.Contains(err.Error(), "not whole: 1 part missing") {
		t.Errorf("%v", err)
	}
	for file, want := range map[string]string{path: "whole", path + unwholeSuffix: "less"} {
		if got, err := os.ReadFile(file); string(got) != want {
			t.Errorf("%s holds %q (%v)", file, got, err)
		}
	}
	if all, err := os.ReadDir(filepath.Dir(path)); len(all) != 2 {
		t.Errorf("%v %v", all, err)
	}
}

// TestVerifyOfUnwhole: what lacks a database is not called whole.
func TestVerifyOfUnwhole(t *testing.T) {
	for _, whole := range []bool{true, false} {
		var archive, out, told bytes.Buffer
		_, err := backup.Create(t.Context(), &archive, backup.CreateOptions{
			Places: backup.Places{Host: v1alpha1.HostSpec{StateDir: t.TempDir()}}, HostFile: []byte("kind: Host\n"),
			Databases: func(context.Context) ([]string, error) { return []string{"shop"}, nil },
			Dump: func(context.Context, string) (string, error) {
				if whole {
					return t.TempDir(), nil
				}
				return "", backup.ErrNotDumped
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		cmd := (&app{in: &archive, out: &out, err: &told}).backupVerifyCommand()
		cmd.SetArgs([]string{standard})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.ExecuteContext(t.Context()); (err == nil) != whole || strings.Contains(told.String(), "A whole backup") != whole {
			t.Errorf("whole: %v: %v\n%s", whole, err, &told)
		}
	}
}
