package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/why"
)

const (
	// tellEvery is how often a wait says that it goes on, where nobody watches.
	tellEvery = 10 * time.Second
	// drawEvery is how often the line on a terminal is drawn.
	drawEvery = time.Second
	barWidth  = 20
	clearLine = "\r\x1b[K"
)

// teller says how something goes that takes its time, beside what else is said.
type teller struct {
	err   io.Writer
	mu    sync.Mutex // held while something is written, and while what lines reads is changed
	drawn bool
}

// tell says the lines again and again until ctx ends: on a terminal in one line
// that stays at its place.
func (w *teller) tell(ctx context.Context, lines func(since time.Duration) []string) {
	width := terminalWidth(w.err)
	every := tellEvery
	if width > 0 {
		every = drawEvery
	}
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.mu.Lock()
			w.clear()
			w.mu.Unlock()
			return
		case <-tick.C:
		}
		w.mu.Lock()
		w.clear()
		now := lines(time.Since(began))
		switch text := []rune(strings.Join(now, "; ")); {
		case width == 0:
			for _, line := range now {
				fmt.Fprintln(w.err, line)
			}
		case len(text) > 0:
			fmt.Fprint(w.err, string(text[:min(len(text), width-1)]))
			w.drawn = true
		}
		w.mu.Unlock()
	}
}

// telling tells until stop, which returns when nothing more is written.
func (w *teller) telling(ctx context.Context, lines func(since time.Duration) []string) (stop func()) {
	running, cancel := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		w.tell(running, lines)
	}()
	return func() {
		cancel()
		<-told
	}
}

// clear removes the line that was drawn, before another is written.
func (w *teller) clear() {
	if w.drawn {
		fmt.Fprint(w.err, clearLine)
		w.drawn = false
	}
}

// underWay is a line for each object that is waited for.
func (w *waiter) underWay(since time.Duration) (lines []string) {
	if w.items == nil {
		return nil // nothing is known of them yet
	}
	for _, t := range w.pending {
		text := "is not there"
		if item := w.find(t.ref); item != nil {
			text = joined(" ", string(item.Status.Phase), bar(item.Status.Build), detail(*item))
		}
		lines = append(lines, terminal.Escape(fmt.Sprintf("%s %s (%s)", refText(t.ref), text, terminal.Age(since))))
	}
	return lines
}

// howFar are the reasons whose message says how far something is.
var howFar = []string{"Dumping", "Restoring"}

// detail is what the table shows of an object, without saying its phase twice.
func detail(item v1alpha1.Item) string {
	if c := why.Cause(item); c != nil && slices.Contains(howFar, c.Reason) {
		return joined(": ", c.Reason, c.Message)
	}
	return strings.TrimSpace(strings.TrimPrefix(why.Reason(item), string(item.Status.Phase)))
}

// bar shows how much of a build is done, where that is known.
func bar(b *v1alpha1.BuildStatus) string {
	if b == nil || !b.Running {
		return ""
	}
	return barOf(int64(b.Done), int64(b.Expected))
}

// barOf shows how much of something is done; nothing where nobody knows how much
// there is.
func barOf(done, all int64) string {
	if all <= 0 {
		return ""
	}
	n := int(min(barWidth*done/all, barWidth))
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}

// terminalWidth is 0 for what is no terminal that can draw.
func terminalWidth(v any) int {
	f, ok := v.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return max(width, 2)
}
