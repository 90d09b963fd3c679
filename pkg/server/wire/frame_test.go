package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrames(t *testing.T) {
	var buf bytes.Buffer
	payloads := [][]byte{{}, []byte("hello"), bytes.Repeat([]byte{7}, MaxFrame)}
	for _, p := range payloads {
		if err := WriteFrame(&buf, FrameStdout, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range payloads {
		typ, got, err := ReadFrame(&buf)
		if err != nil || typ != FrameStdout {
			t.Fatalf("type %d, error %v", typ, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("payload (-want +got):\n%s", diff)
		}
	}
	if _, _, err := ReadFrame(&buf); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
}

func TestFramesRefused(t *testing.T) {
	if err := WriteFrame(io.Discard, FrameStdin, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame that is too large was written")
	}
	tests := map[string]struct {
		in   []byte
		want error
	}{
		"header cut":  {[]byte{1, 0}, io.ErrUnexpectedEOF},
		"payload cut": {[]byte{1, 0, 0, 0, 9, 'x'}, io.ErrUnexpectedEOF},
		"too large":   {[]byte{1, 0xff, 0xff, 0xff, 0xff}, nil},
	}
	for name, tc := range tests {
		_, _, err := ReadFrame(bytes.NewReader(tc.in))
		if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
	}
	if _, err := ParseNumber([]byte{1}); err == nil {
		t.Error("a short number was read")
	}
	if _, err := ParseSize([]byte{1}); err == nil {
		t.Error("a short size was read")
	}
}

func TestNumbers(t *testing.T) {
	for _, n := range []int{0, 1, 137, 1 << 20, -1} {
		if got, err := ParseNumber(Number(n)); err != nil || got != n {
			t.Errorf("number %d: got %d, %v", n, got, err)
		}
	}
	want := Size{Rows: 50, Cols: 132}
	if got, err := ParseSize(want.Payload()); err != nil || got != want {
		t.Errorf("size %v: got %v, %v", want, got, err)
	}
}
