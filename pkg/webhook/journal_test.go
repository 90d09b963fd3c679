package webhook

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tekton.host/pkg/forge"
)

func key(n int) Key {
	return Key{Forge: "github", Repository: forge.Repository{Owner: "team", Name: "shop"}, Number: n}
}

func openJournal(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	add := func(n int, id string, want error) {
		t.Helper()
		if err := j.Add(t.Context(), key(n), id); !errors.Is(err, want) {
			t.Fatalf("add %d by %s: %v, want %v", n, id, err, want)
		}
	}
	add(1, "a", nil)
	add(2, "b", nil)
	add(1, "c", nil)
	add(3, "a", ErrSeen)
	mark := j.Mark(key(2))
	add(2, "d", nil)
	j.Done(key(2), mark) // it was added since
	j.Done(key(1), j.Mark(key(1)))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as it was written, and as it is written anew
		j = openJournal(t, dir)
		if diff := cmp.Diff([]Key{key(2)}, j.Pending()); diff != "" {
			t.Errorf("pending (-want +got):\n%s", diff)
		}
		add(9, "b", ErrSeen)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalIsBounded: keys and ids.
func TestJournalIsBounded(t *testing.T) {
	j := openJournal(t, t.TempDir())
	defer j.Close()
	var adders sync.WaitGroup
	for n := range maxPending {
		adders.Go(func() {
			if err := j.Add(t.Context(), key(n+1), fmt.Sprint("id", n)); err != nil {
				t.Error(err)
			}
		})
	}
	adders.Wait()
	if err := j.Add(t.Context(), key(maxPending+1), "one more"); !errors.Is(err, ErrFull) {
		t.Errorf("one more than it may hold: %v", err)
	}
	if err := j.Add(t.Context(), key(1), "the same again"); err != nil {
		t.Errorf("one that is pending: %v", err)
	}
	if len(j.order) > maxDeliveries || len(j.seen) > maxDeliveries {
		t.Errorf("remembers %d and %d ids", len(j.order), len(j.seen))
	}
}

// TestJournalDisk: what could not be written was not accepted, and is, when there
// is room again.
func TestJournalDisk(t *testing.T) {
	j := openJournal(t, t.TempDir())
	defer j.Close()
	if err := j.Add(t.Context(), key(1), "a"); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	good := j.file
	j.file = full
	j.mu.Unlock()
	if err := j.Add(t.Context(), key(2), "b"); err == nil {
		t.Fatal("accepted what is on no disk")
	}
	good.Close()
	if err := j.Add(t.Context(), key(2), "b"); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	again := openJournal(t, filepath.Dir(j.path))
	defer again.Close()
	if diff := cmp.Diff([]Key{key(1), key(2)}, again.Pending()); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
}

// TestJournalIsDurable: what was written and is not known to be on disk was not
// accepted. A pipe takes all that is written, and cannot be synchronized.
func TestJournalIsDurable(t *testing.T) {
	j := openJournal(t, t.TempDir())
	defer j.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	j.mu.Lock()
	j.file.Close()
	j.file = w
	j.mu.Unlock()
	if err := j.Add(t.Context(), key(1), "a"); !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("accepted before it was durable: %v", err)
	}
	if err := j.Add(t.Context(), key(1), "a"); err != nil {
		t.Errorf("delivered again: %v", err)
	}
}

// TestJournalTorn: a line that was half written, and could not be taken back,
// spoils none that is accepted afterwards.
func TestJournalTorn(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	torn, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	torn.WriteString(`{"add":`)
	torn.Close()
	j.mu.Lock()
	j.torn = true // as after a write that failed, on a disk that let nothing be taken back
	j.mu.Unlock()
	if err := j.Add(t.Context(), key(1), "a"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again := openJournal(t, dir)
	defer again.Close()
	if diff := cmp.Diff([]Key{key(1)}, again.Pending()); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
}

// TestJournalReplaced: where a journal was written anew and could not be opened,
// nothing is accepted into the one that it replaced.
func TestJournalReplaced(t *testing.T) {
	j := openJournal(t, t.TempDir())
	defer j.Close()
	j.mu.Lock()
	j.open = func(string) (*os.File, error) { return nil, syscall.EMFILE }
	err := j.rewrite()
	j.mu.Unlock()
	if !errors.Is(err, syscall.EMFILE) {
		t.Fatal(err)
	}
	if err := j.Add(t.Context(), key(1), "a"); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("accepted without a journal: %v", err)
	}
	j.mu.Lock()
	j.open = openAppending
	j.mu.Unlock()
	if err := j.Add(t.Context(), key(1), "a"); err != nil {
		t.Fatal(err)
	}
	again := openJournal(t, filepath.Dir(j.path))
	defer again.Close()
	if diff := cmp.Diff([]Key{key(1)}, again.Pending()); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
}

// TestJournalOverKills: cut short anywhere after an answer, it has all that was
// accepted and not done.
func TestJournalOverKills(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		j := openJournal(t, dir)
		pending, ids := map[Key]bool{}, map[string]bool{}
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			k := key(rapid.IntRange(1, 5).Draw(r, "number"))
			switch rapid.SampledFrom([]string{"add", "add", "done", "kill"}).Draw(r, "step") {
			case "add":
				id := fmt.Sprint(rapid.IntRange(1, 40).Draw(r, "id"))
				err := j.Add(t.Context(), k, id)
				if errors.Is(err, ErrSeen) != ids[id] || err != nil && !ids[id] {
					r.Fatalf("add %s: %v", id, err)
				}
				ids[id] = true
				pending[k] = pending[k] || err == nil
			case "done":
				j.Done(k, j.Mark(k))
				delete(pending, k)
			case "kill":
				kill(r, j, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(r, "torn"))
				j = openJournal(t, dir)
			}
			got := map[Key]bool{}
			for _, k := range j.Pending() {
				got[k] = true
			}
			for k := range pending {
				if !got[k] && pending[k] {
					r.Fatalf("%s is lost", k)
				}
			}
		}
		j.Close()
	})
}

// kill leaves the journal as a killed process does, perhaps amid a line.
func kill(r *rapid.T, j *Journal, torn []byte) {
	j.Close()
	for i, b := range torn {
		if b == '\n' {
			torn[i] = '{'
		}
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		r.Fatal(err)
	}
	f.Write(torn)
	f.Close()
}
