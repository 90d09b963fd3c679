package source

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHalfWrittenAtEveryByte: while a writer has the file open, none of its
// prefixes is ever decoded.
func TestHalfWrittenAtEveryByte(t *testing.T) {
	d, dec, dir := newDirectory(t)
	path := filepath.Join(dir, "a.yaml")
	old, want := doc("old"), doc("one", "two", "three")
	for cut := range len(want) + 1 {
		write(t, path, old)
		if diff := cmp.Diff([]string{"old"}, names(d.Snapshot(t.Context()))); diff != "" {
			t.Fatalf("before (-want +got):\n%s", diff)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		must(t, err)
		_, err = f.WriteString(want[:cut])
		must(t, err)
		s := d.Snapshot(t.Context())
		if diff := cmp.Diff([]string{path}, s.Unsettled); diff != "" || s.RetryAfter <= 0 || len(s.Objects)+len(s.Problems) > 0 || !s.Complete {
			t.Fatalf("cut at %d: %+v, unsettled (-want +got):\n%s", cut, s, diff)
		}
		_, err = f.WriteString(want[cut:])
		must(t, err)
		must(t, f.Close())
		s = d.Snapshot(t.Context())
		if diff := cmp.Diff([]string{"one", "two", "three"}, names(s)); diff != "" || len(s.Unsettled) > 0 || s.RetryAfter != 0 {
			t.Fatalf("cut at %d: %+v, after (-want +got):\n%s", cut, s, diff)
		}
	}
	for _, data := range dec.calls() {
		if data != old && data != want {
			t.Errorf("half a file was decoded: %q", data)
		}
	}
}

func TestEmptyFileKeepsItsPlace(t *testing.T) {
	d, _, dir := newDirectory(t)
	path := filepath.Join(dir, "a.yaml")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	if s := d.Snapshot(t.Context()); len(s.Unsettled) != 1 || len(s.Problems) != 0 {
		t.Errorf("empty and open for writing: %+v, want unsettled", s)
	}
	must(t, f.Close())
	s := d.Snapshot(t.Context())
	if diff := cmp.Diff([]string{"a.yaml EmptyFile"}, problems(s)); diff != "" || len(s.Unsettled) != 0 {
		t.Errorf("empty and closed: %+v (-want +got):\n%s", s, diff)
	}
	if !slices.Contains(s.Files, path) {
		t.Error("an empty file is not among the files: it would look removed")
	}
}

func TestRetryDoubles(t *testing.T) {
	d, _, dir := newDirectory(t)
	now := time.Now()
	d.now = func() time.Time { return now }
	f, err := os.Create(filepath.Join(dir, "a.yaml"))
	must(t, err)
	defer f.Close()

	var got []time.Duration
	for range 8 {
		s := d.Snapshot(t.Context())
		got = append(got, s.RetryAfter)
		// An event in between must not lengthen the wait.
		now = now.Add(s.RetryAfter - time.Millisecond)
		if again := d.Snapshot(t.Context()).RetryAfter; again != time.Millisecond {
			t.Errorf("a look 1 ms early asks for %s, want the 1 ms that is left", again)
		}
		now = now.Add(time.Millisecond)
	}
	ms := time.Millisecond
	if diff := cmp.Diff([]time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 200 * ms, 200 * ms}, got); diff != "" {
		t.Errorf("retries (-want +got):\n%s", diff)
	}
	must(t, f.Close())
	write(t, f.Name(), doc("a"))
	d.Snapshot(t.Context())
	f, err = os.OpenFile(f.Name(), os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	now = now.Add(time.Hour)
	d.Resync()
	if s := d.Snapshot(t.Context()); s.RetryAfter != 5*ms {
		t.Errorf("the next writer's first retry is %s, want 5ms", s.RetryAfter)
	}
}

// TestWithoutLeases: a file is read when it has been the same for 300 ms.
func TestWithoutLeases(t *testing.T) {
	d, _, dir := newDirectory(t)
	d.probe = func(int) (writerState, error) { return cannotTell, nil }
	now := time.Now()
	d.now = func() time.Time { return now }
	path := filepath.Join(dir, "a.yaml")
	look := func(unsettled bool, after time.Duration) {
		t.Helper()
		s := d.Snapshot(t.Context())
		if got := len(s.Unsettled) == 1; got != unsettled || s.RetryAfter != after {
			t.Fatalf("unsettled = %t, retry after %s; want %t, %s", got, s.RetryAfter, unsettled, after)
		}
	}
	write(t, path, "half")
	look(true, 300*time.Millisecond)
	now = now.Add(200 * time.Millisecond)
	look(true, 100*time.Millisecond)
	write(t, path, doc("whole"))
	look(true, 300*time.Millisecond)
	now = now.Add(300 * time.Millisecond)
	look(false, 0)
	if diff := cmp.Diff([]string{"whole"}, names(d.Snapshot(t.Context()))); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	d.Resync() // the same bytes are still as quiet as they were
	look(false, 0)
}

func TestLeaseIsGivenBack(t *testing.T) {
	d, _, dir := newDirectory(t)
	path := filepath.Join(dir, "a.yaml")
	write(t, path, doc("a"))
	d.Snapshot(t.Context())
	// A held lease would block this writer for up to 45 s, or fail it:
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|int(0x800), 0)
	if err != nil {
		t.Fatalf("open for writing after a snapshot: %v", err)
	}
	f.Close()
}
