package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/compile"
	"tekton.host/pkg/reconcile"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

// TestEditPlainFiles: what stands where a document is to be written, and is no
// plain file, is left as it is, without waiting, and the error says what to do.
func TestEditPlainFiles(t *testing.T) {
	const document = "apiVersion: tekton.host/v1alpha1\nkind: Container\nmetadata: {name: web}\nspec: {system: {host: true}, command: [sleep]}\n"
	ref := v1alpha1.Ref{Kind: "Container", Name: "web"}
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, make := range map[string]func(file string) error{
		"a named pipe":    func(file string) error { return unix.Mkfifo(file, 0o600) },
		"a directory":     func(file string) error { return os.Mkdir(file, 0o700) },
		"a symbolic link": func(file string) error { return os.Symlink(target, file) },
		"a socket": func(file string) error {
			l, err := net.Listen("unix", file)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
	} {
		file := filepath.Join(t.TempDir(), "web.yaml")
		if err := make(file); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{document, ""} { // to write it, and to remove it
			err := (&Daemon{}).editFile(file, ref, text)
			e, told := errors.AsType[*wire.Error](err)
			if !told || !strings.Contains(e.Message, file+" is "+what) || !strings.Contains(e.Next, "try again") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if after, err := os.Lstat(file); err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() {
			t.Errorf("%s became %v %v", what, after, err)
		}
	}
	if got, err := os.ReadFile(target); string(got) != document {
		t.Errorf("what the link leads to is %q %v", got, err)
	}
	if _, _, err := readPlain("/dev/null"); err == nil || !strings.Contains(err.Error(), "a device") {
		t.Errorf("a device: %v", err)
	}
	// Plain ones are written and removed.
	file := filepath.Join(t.TempDir(), "web.yaml")
	if err := (&Daemon{}).editFile(file, ref, document); err != nil {
		t.Error(err)
	}
	if err := (&Daemon{}).editFile(file, ref, ""); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Errorf("the emptied file: %v", err)
	}
}

// TestRefuseSecond: what a second document declares is not deleted, for that
// would make it anew; one of another kind only waits for its own turn.
func TestRefuseSecond(t *testing.T) {
	r := compile.ObjectRecord{Kind: "Container", Name: "web", Source: "local", File: "/srv/a/web.yaml", Line: 4}
	problem := func(kind, name, reason string) []reconcile.Problem {
		return []reconcile.Problem{{Source: "own", Problem: spec.Problem{
			Position: spec.Position{File: "/srv/b/web.yaml", Line: 1, Column: 1}, Kind: kind, Name: name, Reason: reason,
		}}}
	}
	err := refuseSecond(problem("Container", "web", spec.ReasonDuplicateName), r, true)
	e, told := errors.AsType[*wire.Error](err)
	if !told || e.Code != wire.Conflict || !strings.Contains(e.Message, "/srv/b/web.yaml:1:1 of source own") || !strings.Contains(e.Next, "/srv/a/web.yaml:4") {
		t.Errorf("%+v", err)
	}
	e, _ = errors.AsType[*wire.Error](refuseSecond(problem("Container", "web", spec.ReasonDuplicateName), r, false))
	if e == nil || !strings.Contains(e.Next, "tekton release-deletes local") {
		t.Errorf("of a source that is gone: %+v", e)
	}
	for _, other := range [][]reconcile.Problem{
		nil, problem("Agent", "web", spec.ReasonDuplicateName), problem("Container", "api", spec.ReasonDuplicateName), problem("Container", "web", spec.ReasonInvalidValue),
	} {
		if err := refuseSecond(other, r, true); err != nil {
			t.Errorf("%v: %v", other, err)
		}
	}
}
