package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"tekton.host/pkg/api/v1alpha1"
)

// fileMax is the size of one of the two files: some 5,000 events of 200 bytes
// are kept at least, 10,000 at most.
const fileMax = 1 << 20

// messageMax bounds a message: no event takes the place of many others.
const messageMax = 4 << 10

// Log keeps events on disk, one JSON document a line: a file, and the one before it.
// It is not synced: what a power cut takes is nothing that anybody decides by.
type Log struct {
	path string
	max  int64

	mu      sync.Mutex
	seq     int64 // of the last event
	changed chan struct{}
}

// Open returns the log at path, of which there may be nothing yet.
func Open(path string) (*Log, error) {
	l := &Log{path: path, max: fileMax, changed: make(chan struct{})}
	events, err := l.After(0)
	if err != nil {
		return nil, err
	}
	if len(events) > 0 {
		l.seq = events[len(events)-1].Seq
	}
	return l, nil
}

// Append numbers events and keeps them.
func (l *Log) Append(events []v1alpha1.Event) error {
	if len(events) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	for i, e := range events {
		e.Seq = l.seq + int64(i) + 1
		if len(e.Message) > messageMax {
			e.Message = strings.ToValidUTF8(e.Message[:messageMax], "") + "…"
		}
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	if err := l.write(text.Bytes()); err != nil {
		return fmt.Errorf("keep events: %w", err)
	}
	l.seq += int64(len(events))
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *Log) write(text []byte) error {
	info, err := os.Stat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Size()+int64(len(text)) > l.max:
		if err := os.Rename(l.path, l.previous()); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// A line that a crash or a full disk tore must not swallow the next one.
	if info, err := f.Stat(); err != nil {
		return err
	} else if n := info.Size(); n > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, n-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Close()
}

func (l *Log) previous() string { return l.path + ".1" }

// Changed returns a channel that is closed when there are more events than at
// the time of this call.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// After returns the events that are kept and have a higher number, oldest first.
func (l *Log) After(seq int64) ([]v1alpha1.Event, error) {
	l.mu.Lock() // no rotation between the two files
	defer l.mu.Unlock()
	var events []v1alpha1.Event
	for _, path := range []string{l.previous(), l.path} {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		for line := range bytes.Lines(text) {
			var e v1alpha1.Event
			if json.Unmarshal(line, &e) == nil && e.Seq > seq {
				events = append(events, e)
			}
		}
	}
	return events, nil
}
