package supervise_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/supervise"
	"tekton.host/pkg/supervise/contract"
)

// half is one file of a log: pieces of it, each after a stamp "SECOND" or
// "SECOND start".
type half []struct{ stamp, text string }

// write writes a log's file and its times; stamps "" writes none.
func (h half) write(t *testing.T, dir, suffix string) {
	t.Helper()
	var text, times strings.Builder
	for _, piece := range h {
		if second, start, _ := strings.Cut(piece.stamp, " "); second != "" {
			n, err := time.ParseDuration(second + "s")
			if err != nil {
				t.Fatal(err)
			}
			times.WriteString(contract.Stamp{Second: int64(n.Seconds()), Offset: int64(text.Len()), Start: start != ""}.Line())
		}
		text.WriteString(piece.text)
	}
	log, err := os.Create(filepath.Join(dir, supervise.LogFile+suffix))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.WriteString(text.String()); err != nil {
		t.Fatal(err)
	}
	if times.Len() == 0 {
		return
	}
	header, err := contract.TimesHeader(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, supervise.TimesFile+suffix), []byte(header+times.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPartsOfALog(t *testing.T) {
	all := supervise.LogOptions{Tail: -1}
	since := func(second int64) supervise.LogOptions {
		return supervise.LogOptions{Tail: -1, Since: time.Unix(second, 500)}
	}
	previous := supervise.LogOptions{Tail: -1, Previous: true}
	older := half{{"10 start", "a\n"}, {"12", "b\n"}, {"20 start", "c\n"}}
	newer := half{{"30", "d\n"}, {"40 start", "e\n"}, {"41", "f\n"}}
	for name, tt := range map[string]struct {
		older, newer half
		o            supervise.LogOptions
		want         string
		err          error
	}{
		"all":                       {older, newer, all, "a\nb\nc\nd\ne\nf\n", nil},
		"nothing":                   {older, newer, supervise.LogOptions{}, "", nil},
		"since, in the older half":  {older, newer, since(12), "b\nc\nd\ne\nf\n", nil},
		"since, between":            {older, newer, since(25), "d\ne\nf\n", nil},
		"since, in the newer half":  {older, newer, since(41), "f\n", nil},
		"since later":               {older, newer, since(99), "", nil},
		"since and tail":            {older, newer, supervise.LogOptions{Tail: 1, Since: time.Unix(30, 0)}, "f\n", nil},
		"since and more tail":       {older, newer, supervise.LogOptions{Tail: 9, Since: time.Unix(40, 0)}, "e\nf\n", nil},
		"without times, newer":      {nil, half{{"", "a\n"}}, since(12), "a\n", nil},
		"without times, older":      {nil, half{{"", "a\n"}}, supervise.LogOptions{Tail: -1, Since: time.Now().Add(time.Hour)}, "", nil},
		"previous, over both":       {older, newer, previous, "c\nd\n", nil},
		"previous and tail":         {older, newer, supervise.LogOptions{Tail: 1, Previous: true}, "d\n", nil},
		"previous and since":        {older, newer, supervise.LogOptions{Tail: -1, Previous: true, Since: time.Unix(30, 0)}, "d\n", nil},
		"previous in one":           {nil, half{{"10 start", "a\n"}, {"20 start", "b\n"}, {"30 start", "c\n"}}, previous, "b\n", nil},
		"previous, nothing now":     {nil, half{{"10 start", "a\n"}, {"20 start", ""}}, previous, "a\n", nil},
		"previous, begin is gone":   {half{{"", "a\n"}}, half{{"20 start", "b\n"}}, previous, "a\n", nil},
		"previous of the first":     {nil, half{{"10 start", "a\n"}}, previous, "", supervise.ErrNoPrevious},
		"previous, without times":   {nil, half{{"", "a\n"}}, previous, "", supervise.ErrNoPrevious},
		"previous, without a log":   {nil, nil, previous, "", supervise.ErrNoPrevious},
		"since, without a log":      {nil, nil, since(1), "", nil},
		"since, lines without ends": {nil, half{{"10", "a"}, {"20", "b"}}, since(20), "b", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.older != nil {
				tt.older.write(t, dir, ".1")
			}
			if tt.newer != nil {
				tt.newer.write(t, dir, "")
			}
			r, err := supervise.OpenLog(t.Context(), dir, tt.o)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if diff := cmp.Diff(tt.want, string(got)); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// Times of another log in the same place do not count.
func TestTimesOfAnotherLog(t *testing.T) {
	dir := t.TempDir()
	half{{"10 start", "a\n"}, {"20 start", "b\n"}}.write(t, dir, "")
	b, err := os.ReadFile(filepath.Join(dir, supervise.LogFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "copy"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "copy"), filepath.Join(dir, supervise.LogFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := supervise.OpenLog(t.Context(), dir, supervise.LogOptions{Tail: -1, Previous: true}); !errors.Is(err, supervise.ErrNoPrevious) {
		t.Errorf("error %v", err)
	}
}

// A real supervisor says what was of which start and when.
func TestLogOfTheStartBefore(t *testing.T) {
	f := newFixture(t)
	dir := f.dir("a")
	for i, role := range []string{"log 1", "log 3"} {
		spec := f.spec("a", role)
		spec.Notify = true
		f.start(dir, spec)
		eventually(t, "it has said all", func() bool {
			lines := supervise.TailLog(dir, 9)
			return len(lines) == []int{1, 4}[i]
		})
		if err := f.Stop(t.Context(), dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	for want, o := range map[string]supervise.LogOptions{
		"line 000000\n": {Tail: -1, Previous: true},
		"line 000000\nline 000000\nline 000001\nline 000002\n": {Tail: -1, Since: time.Now().Add(-time.Minute)},
		"": {Tail: -1, Since: time.Now().Add(2 * time.Second)},
	} {
		r, err := supervise.OpenLog(t.Context(), dir, o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
			t.Errorf("%+v: %v (-want +got):\n%s", o, err, diff)
		}
		r.Close()
	}
}
