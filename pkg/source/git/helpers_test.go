package git

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/source"
	"tekton.host/pkg/source/git/gittest"
	"tekton.host/pkg/spec"
)

// patience bounds waits for what must happen.
const patience = time.Minute

// doc is a spec file that declares an object a line: "NAME", Repositories "@NAME", and problems: "!NAME".
func doc(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

// decoder reads doc and counts.
type decoder struct{ files atomic.Int32 }

func (d *decoder) decode(file string, data []byte) (objects []spec.Object, problems []spec.Problem) {
	d.files.Add(1)
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		at := spec.Position{File: file, Line: i + 1, Column: 1}
		if name, bad := strings.CutPrefix(line, "!"); bad {
			problems = append(problems, spec.Problem{Position: at, Reason: spec.ReasonInvalidValue, Message: "is bad", Kind: "Container", Name: name})
			continue
		}
		if name, is := strings.CutPrefix(line, "@"); is {
			r := &v1alpha1.Repository{TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindRepository}, Metadata: v1alpha1.ObjectMeta{Name: name}}
			objects = append(objects, spec.Object{Object: r, Position: at, Digest: line})
			continue
		}
		c := &v1alpha1.Container{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}, Metadata: v1alpha1.ObjectMeta{Name: line}}
		objects = append(objects, spec.Object{Object: c, Position: at, Digest: line})
	}
	return objects, problems
}

// options of a source with a mirror of its own.
func options(t testing.TB, url string) (Options, *decoder) {
	t.Helper()
	dir := gittest.Dir(t)
	dec := &decoder{}
	return Options{
		Name: "fleet", URL: url, Branch: "main", Interval: time.Hour, Timeout: patience, MaxSize: 64 << 20,
		Dir: filepath.Join(dir, "state", "fleet"), RunDir: filepath.Join(dir, "run", "fleet"), User: "nobody", Decode: dec.decode,
	}, dec
}

func open(t testing.TB, o Options) *Source {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// look looks at the remote once, as Watch does, and returns the snapshot.
func look(t testing.TB, s *Source) (source.Snapshot, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	done := make(chan error, 1)
	s.mu.Lock()
	s.waiting = append(s.waiting, done)
	s.mu.Unlock()
	s.look(ctx)
	return s.Snapshot(t.Context()), <-done
}

// good looks and demands that all is well with these objects.
func good(t testing.TB, s *Source, names ...string) source.Snapshot {
	t.Helper()
	snap, err := look(t, s)
	if err != nil {
		t.Fatalf("look: %v", err)
	}
	wants(t, snap, names...)
	if len(snap.Problems) > 0 {
		t.Fatalf("problems %v", snap.Problems)
	}
	return snap
}

func wants(t testing.TB, snap source.Snapshot, names ...string) {
	t.Helper()
	var have []string
	for _, o := range snap.Objects {
		have = append(have, o.Meta().Name)
	}
	if snap.Err != nil || !snap.Complete || !snap.Marked || !slices.Equal(have, names) {
		t.Fatalf("objects %q, expected %q; complete %t, marked %t, error %v", have, names, snap.Complete, snap.Marked, snap.Err)
	}
}

// refused looks and demands that the branch's commit is not used, for this
// reason, and that these objects stay.
func refused(t testing.TB, s *Source, want string, names ...string) source.Snapshot {
	t.Helper()
	snap, err := look(t, s)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("look: %v, expected %q", err, want)
	}
	if st := s.Status(); fmt.Sprint(st.Err) != err.Error() {
		t.Fatalf("status says %v, the look %v", st.Err, err)
	}
	if len(names) > 0 {
		wants(t, snap, names...)
	}
	return snap
}
