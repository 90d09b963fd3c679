package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRestoreFromPipe: standard input has the type of a file, and cannot be read twice.
func TestRestoreFromPipe(t *testing.T) {
	needRoot(t)
	from, to := t.TempDir(), t.TempDir()
	furnish(t, placesIn(from))
	file, _ := archive(t, placesIn(from), "this")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	go func() {
		in.Write(read1(t, file))
		in.Close()
	}()
	if _, err := Restore(t.Context(), RestoreOptions{Places: placesIn(to), Archive: out, MachineID: "this"}); err != nil {
		t.Fatal(err)
	}
	if got := read1(t, filepath.Join(to, "state/installation")); string(got) != "0123456789ab\n" {
		t.Errorf("the installation is %q", got)
	}
}

// listed are databases to be dumped.
func listed(names ...string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return names, nil }
}

// TestDatabaseGoes: one that was deleted since it was listed is told, one that
// cannot be dumped is missing, and what is nobody's fault is an error.
func TestDatabaseGoes(t *testing.T) {
	create := func(cause error) (Manifest, error) {
		return Create(t.Context(), io.Discard, CreateOptions{
			Places: placesIn(t.TempDir()), HostFile: []byte("kind: Host\n"), Databases: listed("shop", "web"),
			Dump: func(_ context.Context, name string) (string, error) {
				dir := filepath.Join(t.TempDir(), name)
				if name == "shop" {
					return dir, cause
				}
				return dir, os.Mkdir(dir, 0o700)
			},
		})
	}
	m, err := create(errors.Join(ErrNoDatabase, errors.New("no such data")))
	if err != nil || !strings.Contains(strings.Join(m.Remarks, "\n"), "database shop was left out") || m.Parts[len(m.Parts)-1].Name != "databases/web" {
		t.Errorf("%v, %+v", err, m)
	}
	m, err = create(fmt.Errorf("%w: a table is locked", ErrNotDumped))
	if err != nil || !slices.Equal(m.Missing, []string{"databases/shop"}) || !strings.Contains(strings.Join(m.Remarks, "\n"), "a table is locked") || m.Parts[len(m.Parts)-1].Name != "databases/web" {
		t.Errorf("%v, %+v", err, m)
	}
	if _, err := create(os.ErrNotExist); err == nil {
		t.Error("a dump that failed is none")
	}
}

// TestFileIsCut: whoever cuts a file while its holes are looked for gets zeros.
func TestFileIsCut(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 64 << 10
	block := bytes.Repeat([]byte{1}, 4096)
	var done atomic.Bool
	cutter := make(chan struct{})
	go func() {
		defer close(cutter)
		for !done.Load() {
			f.Truncate(0)
			f.WriteAt(block, size-int64(len(block)))
		}
	}()
	for range 20000 {
		if _, err = segments(f, size); err != nil {
			break
		}
	}
	done.Store(true)
	<-cutter
	if err != nil {
		t.Error(err)
	}
}
