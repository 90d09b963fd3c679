package server

import "time"

// SetJournalPause lets tests wait for less.
func SetJournalPause(d time.Duration) (restore func()) {
	was := journalPause
	journalPause = d
	return func() { journalPause = was }
}
