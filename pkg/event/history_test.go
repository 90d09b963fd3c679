package event_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/event"
)

// generation is web with a generation that says so.
func generation(n int64, padding int) v1alpha1.Item {
	i := object("Ready")
	i.Metadata.Generation = n
	i.Spec = map[string]any{"command": []string{fmt.Sprint(n), strings.Repeat("x", padding)}}
	return i
}

func keep(t *testing.T, h *event.History, items ...v1alpha1.Item) {
	t.Helper()
	if err := h.Keep(items, time.Unix(1, 0).UTC()); err != nil {
		t.Fatal(err)
	}
}

// numbers are the generations of web that are kept.
func numbers(t *testing.T, h *event.History) (out []int64) {
	t.Helper()
	all, err := h.Of("u1")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		out = append(out, g.Generation)
	}
	return out
}

func TestHistory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	h := event.NewHistory(dir)
	rejected := object("Rejected")
	rejected.Metadata.UID = "u2"
	for n := range int64(12) {
		keep(t, h, generation(n+1, 0), rejected)
		keep(t, h, generation(n+1, 0), rejected)
	}
	want := []int64{3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	if diff := cmp.Diff(want, numbers(t, h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The next daemon goes on where this one was; an unchanged spec is no news.
	h = event.NewHistory(dir)
	keep(t, h, generation(12, 0))
	if diff := cmp.Diff(want, numbers(t, h)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	all, _ := h.Of("u1")
	fields := v1alpha1.Diff(all[8].Document, all[9].Document)
	if len(fields) != 1 || fields[0].Path != "spec.command[0]" || string(fields[0].Old) != `"11"` || string(fields[0].New) != `"12"` {
		t.Errorf("changed: %+v", fields)
	}
	// With the object its history goes, with the last one all of it.
	h = event.NewHistory(dir)
	keep(t, h)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
	keep(t, h, generation(1, 0))
	if diff := cmp.Diff([]int64{1}, numbers(t, h)); diff != "" {
		t.Errorf("of a new object (-want +got):\n%s", diff)
	}
}

// Large documents push older ones out; the present one is always kept.
func TestHistoryIsBounded(t *testing.T) {
	h := event.NewHistory(t.TempDir())
	for n := range int64(5) {
		keep(t, h, generation(n+1, 400<<10))
	}
	if diff := cmp.Diff([]int64{4, 5}, numbers(t, h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	keep(t, h, generation(6, 2<<20))
	if diff := cmp.Diff([]int64{6}, numbers(t, h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file that a power cut left empty costs what was in it, and nothing else.
func TestHistoryIsDamaged(t *testing.T) {
	dir := t.TempDir()
	keep(t, event.NewHistory(dir), generation(1, 0))
	if err := os.WriteFile(filepath.Join(dir, "u1.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := event.NewHistory(dir)
	keep(t, h, generation(2, 0))
	if diff := cmp.Diff([]int64{2}, numbers(t, h)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What came while no daemon ran is news to the next one; what it cannot have
// kept, or has kept in whatever generation, is not.
func TestHistoryKnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	keep(t, event.NewHistory(dir), generation(1, 0))
	rejected := object("Rejected")
	rejected.Metadata.UID = "u2"
	added := generation(1, 0)
	added.Metadata.UID = "u3"
	knew, err := event.NewHistory(dir).Knew([]v1alpha1.Item{generation(2, 0), rejected, added})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v1alpha1.Item{generation(2, 0), rejected}, knew); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
