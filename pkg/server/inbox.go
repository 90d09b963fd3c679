package server

import "sync"

// inbox holds the input that a command has not taken yet. A put never blocks;
// the client keeps within the limit or is cut off.
type inbox struct {
	mu     sync.Mutex
	more   sync.Cond
	limit  int
	owed   int // bytes that were put and no credit was given for
	queued []byte
	ended  bool
}

func newInbox(limit int) *inbox {
	b := &inbox{limit: limit}
	b.more.L = &b.mu
	return b
}

// put reports whether there was room and the input has not ended.
func (b *inbox) put(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.owed+len(p) > b.limit {
		return false
	}
	b.owed += len(p)
	b.queued = append(b.queued, p...)
	b.more.Signal()
	return true
}

func (b *inbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.more.Signal()
}

// take waits for input and returns all there is. ok is false at its end.
func (b *inbox) take() (p []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queued) == 0 && !b.ended {
		b.more.Wait()
	}
	p, b.queued = b.queued, nil
	return p, len(p) > 0
}

// taken makes room for n bytes.
func (b *inbox) taken(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed -= n
}
