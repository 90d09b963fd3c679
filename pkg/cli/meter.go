package cli

import (
	"fmt"
	"time"

	"tekton.host/pkg/internal/terminal"
)

// meter says how far something is that reads or writes files.
type meter struct {
	teller
	doing     string
	part      string
	done, all int64
	said      string // of the part, instead of how much
}

func (a *app) meter(doing string, all int64) *meter {
	return &meter{teller: teller{err: a.err}, doing: doing, all: all}
}

func (m *meter) begin(part string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.part, m.said = part, ""
}

func (m *meter) say(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = text
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
}

func (m *meter) lines(since time.Duration) []string {
	text := m.said
	if text == "" {
		text = terminal.Bytes(m.done)
		if m.all > m.done {
			text = joined(" ", barOf(m.done, m.all), text, "of about", terminal.Bytes(m.all))
		}
	}
	return []string{terminal.Escape(fmt.Sprintf("%s: %s (%s)", joined(" ", m.doing, m.part), text, terminal.Age(since)))}
}
