package event

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tekton.host/pkg/api/v1alpha1"
)

func numbered(t *testing.T, l *Log, after int64) string {
	t.Helper()
	events, err := l.After(after)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range events {
		all = append(all, fmt.Sprintf("%d%s", e.Seq, e.Reason))
	}
	return strings.Join(all, " ")
}

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLogGoesOnAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := open(t, path)
	changed := l.Changed()
	if err := l.Append([]v1alpha1.Event{{Reason: "A"}, {Reason: "B"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	// A crash in the middle of a write.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"seq":3,"rea`)
	f.Close()
	l = open(t, path)
	if err := l.Append([]v1alpha1.Event{{Reason: "C"}}); err != nil {
		t.Fatal(err)
	}
	if got := numbered(t, l, 0); got != "1A 2B 3C" {
		t.Error(got)
	}
	if got := numbered(t, l, 2); got != "3C" {
		t.Error(got)
	}
}

func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "events.jsonl"))
	l.max = 1000
	for range 200 {
		if err := l.Append([]v1alpha1.Event{{Reason: "X"}}); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > l.max {
			t.Errorf("%s: %v, %v", f, info, err)
		}
	}
	got := numbered(t, l, 0)
	if !strings.HasSuffix(got, " 199X 200X") || strings.HasPrefix(got, "1X") {
		t.Errorf("kept: %s", got)
	}
	if l = open(t, l.path); l.seq != 200 {
		t.Errorf("goes on at %d", l.seq)
	}
}

// What a machine wrote without end into a message takes the place of no other
// event, and one that an earlier version kept whole hides none.
func TestLogOfLongMessages(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "events.jsonl"))
	long := strings.Repeat("ü", fileMax)
	if err := l.Append([]v1alpha1.Event{{Reason: "A"}, {Reason: "B", Message: long}, {Reason: "C", Message: long}}); err != nil {
		t.Fatal(err)
	}
	events, err := l.After(0)
	if err != nil || len(events) != 3 || len(events[1].Message) > messageMax+len("…") || !strings.HasSuffix(events[1].Message, "ü…") {
		t.Fatalf("%d events, %v", len(events), err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "{\"seq\":4,\"reason\":\"D\",\"message\":%q}\n{\"seq\":5,\"reason\":\"E\"}\n", long)
	f.Close()
	if got := numbered(t, open(t, l.path), 0); got != "1A 2B 3C 4D 5E" {
		t.Error(got)
	}
}
