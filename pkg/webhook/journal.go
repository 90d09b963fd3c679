package webhook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"tekton.host/pkg/host"
)

const (
	// maxPending keys and maxDeliveries ids are remembered.
	maxPending    = 10000
	maxDeliveries = 8192
	// rewriteAfter so many lines the journal is written anew; what it remembers is less than half of that.
	rewriteAfter = 50000
)

// Errors of Journal.Add.
var (
	// ErrSeen is a delivery that was accepted before.
	ErrSeen = errors.New("this delivery was accepted before")
	// ErrFull is a journal that holds as many keys as it may.
	ErrFull = fmt.Errorf("more than %d pull requests and branches wait to be looked at", maxPending)
	errDone = errors.New("the journal is closed")
)

// Journal remembers on disk what there is to look at, and which deliveries were
// accepted. It keeps keys, not deliveries: however many come for a pull request,
// one look at it serves them all. Who adds at the same time shares one fsync.
type Journal struct {
	path string
	open func(path string) (*os.File, error) // for appending

	mu      sync.Mutex
	file    *os.File
	size    int64 // up to which the file is whole
	lines   int
	torn    bool           // it may end amid a line: it has to be written anew first
	pending map[Key]uint64 // by when it was last added
	seen    map[string]*batch
	order   []string // of seen, oldest first
	next    uint64
	batch   *batch // what is written next
	closed  bool
	wake    chan struct{}
	stopped chan struct{}
}

// batch is what one fsync makes durable.
type batch struct {
	lines   bytes.Buffer
	entries []entry
	ready   chan struct{}
	err     error
}

// entry is a line of the journal: a key that was added with a delivery, or done.
type entry struct {
	Add  *Key   `json:"add,omitempty"`
	ID   string `json:"id,omitempty"`
	Done *Key   `json:"done,omitempty"`
}

// OpenJournal opens the journal of a directory, or makes it.
func OpenJournal(dir string) (*Journal, error) {
	j := &Journal{
		path: filepath.Join(dir, "journal"), open: openAppending, pending: map[Key]uint64{}, seen: map[string]*batch{}, batch: newBatch(),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	data, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	j.replay(data)
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	go j.commit()
	return j, nil
}

func openAppending(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
}

func newBatch() *batch { return &batch{ready: make(chan struct{})} }

// replay reads the lines of a journal. The last one may be cut short: nobody was
// told that it was written. A line that cannot be read is left out.
func (j *Journal) replay(data []byte) {
	for line := range bytes.Lines(data) {
		var e entry
		if bytes.HasSuffix(line, []byte("\n")) && json.Unmarshal(line, &e) == nil {
			j.apply(e)
		}
	}
}

func (j *Journal) apply(e entry) {
	if e.Add != nil {
		j.next++
		j.pending[e.Add.folded()] = j.next // an older version wrote it as the forge did
	}
	if e.Done != nil {
		delete(j.pending, e.Done.folded())
	}
	if e.ID != "" {
		j.remember(e.ID, nil)
	}
}

// remember an id; by is the batch that makes it durable, nil: it is.
func (j *Journal) remember(id string, by *batch) {
	if _, known := j.seen[id]; !known {
		j.order = append(j.order, id)
	}
	j.seen[id] = by
	if over := len(j.order) - maxDeliveries; over > 0 {
		for _, old := range j.order[:over] {
			delete(j.seen, old)
		}
		j.order = slices.Delete(j.order, 0, over)
	}
}

// Pending returns what is to be looked at, in the order in which it was added.
func (j *Journal) Pending() []Key {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sorted()
}

func (j *Journal) sorted() []Key {
	return slices.SortedFunc(maps.Keys(j.pending), func(a, b Key) int { return cmp.Compare(j.pending[a], j.pending[b]) })
}

// Len is how many keys are pending.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.pending)
}

// Add returns when it is durable that the key is to be looked at.
func (j *Journal) Add(ctx context.Context, k Key, id string) error {
	b, err := j.join(k, id)
	if b == nil {
		return err
	}
	select {
	case <-b.ready:
		if b.err != nil {
			return b.err
		}
		return err
	case <-ctx.Done():
		return ctx.Err() // it may become durable all the same, and does no harm then
	}
}

// join enters the key into the next batch. The batch of an id that is on its way
// is returned with ErrSeen.
func (j *Journal) join(k Key, id string) (*batch, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if by, known := j.seen[id]; known {
		return by, ErrSeen
	}
	if _, known := j.pending[k]; !known && len(j.pending) >= maxPending {
		return nil, ErrFull
	}
	if j.closed {
		return nil, errDone
	}
	j.next++
	j.pending[k] = j.next
	j.remember(id, j.batch)
	return j.batch, j.enter(entry{Add: &k, ID: id})
}

// enter adds a line to the next batch.
func (j *Journal) enter(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	j.batch.lines.Write(append(line, '\n'))
	j.batch.entries = append(j.batch.entries, e)
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return nil
}

// Mark is when the key was last added, 0: it is not pending.
func (j *Journal) Mark(k Key) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pending[k]
}

// Done says that the key was looked at after Mark. One that was added since
// stays. It waits for nothing: forgotten, it is looked at once more.
func (j *Journal) Done(k Key, mark uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if mark == 0 || j.pending[k] != mark || j.closed {
		return
	}
	delete(j.pending, k)
	j.enter(entry{Done: &k})
}

// Close writes what waits.
func (j *Journal) Close() error {
	j.mu.Lock()
	closed := j.closed
	j.closed = true
	if !closed {
		close(j.wake)
	}
	j.mu.Unlock()
	<-j.stopped
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}

// commit writes batches, one after the other: what comes during one fsync is
// made durable by the next.
func (j *Journal) commit() {
	defer close(j.stopped)
	for range j.wake {
		j.mu.Lock()
		b, lines := j.batch, j.lines
		j.batch = newBatch()
		j.mu.Unlock()
		if len(b.entries) == 0 {
			continue
		}
		b.err = j.write(b)
		j.mu.Lock()
		j.settle(b)
		if b.err == nil {
			j.lines += len(b.entries)
		}
		j.mu.Unlock()
		close(b.ready)
		if lines > rewriteAfter {
			j.mu.Lock()
			j.rewrite() // what it failed for shows with the next batch
			j.mu.Unlock()
		}
	}
}

// write appends a batch. After an error nobody knows what of it is on disk: the
// file is cut back to where it was whole, or written anew before anything else.
func (j *Journal) write(b *batch) error {
	if j.torn {
		j.mu.Lock()
		err := j.rewrite()
		j.mu.Unlock()
		if err != nil {
			return err
		}
	}
	_, err := j.file.Write(b.lines.Bytes())
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.torn = j.file.Truncate(j.size) != nil
		return fmt.Errorf("write the journal: %w", err)
	}
	j.size += int64(b.lines.Len())
	return nil
}

// settle takes back what a batch that failed has entered, or makes it final.
func (j *Journal) settle(b *batch) {
	for _, e := range b.entries {
		if e.ID == "" || j.seen[e.ID] != b {
			continue
		}
		if b.err == nil {
			j.seen[e.ID] = nil
			continue
		}
		delete(j.seen, e.ID)
		j.order = slices.DeleteFunc(j.order, func(id string) bool { return id == e.ID })
	}
}

// rewrite writes a journal of what is pending and seen now.
func (j *Journal) rewrite() error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, id := range j.order {
		if j.seen[id] == nil {
			encoder.Encode(entry{ID: id})
		}
	}
	keys := j.sorted()
	for _, k := range keys {
		encoder.Encode(entry{Add: &k})
	}
	j.torn = true // until the new one is open: what is written to the one it replaces is lost
	if err := host.WriteFile(j.path, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the journal anew: %w", err)
	}
	file, err := j.open(j.path)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.size, j.lines, j.torn = file, int64(text.Len()), len(keys)+len(j.order), false
	return nil
}
