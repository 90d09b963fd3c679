package source

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// patience bounds waits for what must happen; no test asserts how long it took.
const patience = 20 * time.Second

const last = "end\n" // of every whole file in these tests

// doc is a whole file that declares the named objects.
func doc(names ...string) string { return strings.Join(names, "\n") + "\n" + last }

// decoder reads doc and remembers everything that it was given.
type decoder struct {
	mu   sync.Mutex
	seen []string
}

func (d *decoder) decode(file string, data []byte) ([]spec.Object, []spec.Problem) {
	d.mu.Lock()
	d.seen = append(d.seen, string(data))
	d.mu.Unlock()
	lines := strings.Split(string(data), "\n")
	if !strings.HasSuffix(string(data), last) {
		return nil, []spec.Problem{{Position: spec.Position{File: file, Line: len(lines)}, Reason: "ParseError", Message: "no end"}}
	}
	var out []spec.Object
	for i, name := range lines[:len(lines)-2] {
		c := &v1alpha1.Container{Metadata: v1alpha1.ObjectMeta{Name: name}}
		out = append(out, spec.Object{Object: c, Position: spec.Position{File: file, Line: i + 1}, Digest: name})
	}
	return out, nil
}

func (d *decoder) calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.seen)
}

// newDirectory returns a source of a fresh directory.
func newDirectory(t *testing.T) (*Directory, *decoder, string) {
	t.Helper()
	dir := filepath.Join(realTemp(t), "specs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, dec := open(t, dir)
	return d, dec, dir
}

func open(t *testing.T, dir string) (*Directory, *decoder) {
	t.Helper()
	dec := &decoder{}
	d, err := New(Options{Name: "local", Path: dir, Decode: dec.decode})
	if err != nil {
		t.Fatal(err)
	}
	return d, dec
}

// realTemp is t.TempDir without links in its path.
func realTemp(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func names(s Snapshot) []string {
	var out []string
	for _, o := range s.Objects {
		out = append(out, o.Meta().Name)
	}
	return out
}

// problems of a snapshot as "file reason".
func problems(s Snapshot) []string {
	var out []string
	for _, p := range s.Problems {
		out = append(out, filepath.Base(p.File)+" "+p.Reason)
	}
	return out
}

// follower does what the engine does: it looks again on events and when a
// snapshot asks for it.
type follower struct {
	d      *Directory
	events chan struct{}
}

func follow(t *testing.T, d *Directory) *follower {
	t.Helper()
	f := &follower{d: d, events: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Watch(ctx, func() {
			select {
			case f.events <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// until looks until a snapshot satisfies good, driven by nothing but events
// and RetryAfter.
func (f *follower) until(t *testing.T, what string, good func(Snapshot) bool) Snapshot {
	t.Helper()
	deadline := time.After(patience)
	for {
		s := f.d.Snapshot(t.Context())
		if good(s) {
			return s
		}
		var retry <-chan time.Time
		if s.RetryAfter > 0 {
			retry = time.After(s.RetryAfter)
		}
		select {
		case <-f.events:
		case <-retry:
		case <-deadline:
			t.Fatalf("%s: not seen; last snapshot %+v", what, s)
		}
	}
}

func wants(objects ...string) func(Snapshot) bool {
	return func(s Snapshot) bool {
		return s.Err == nil && s.Complete && len(s.Unsettled) == 0 && slices.Equal(names(s), objects)
	}
}
