package webhook

import (
	"context"
	"errors"
	"sync"
	"time"

	"tekton.host/pkg/forge"
)

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	// longestPause, whatever a forge asks for.
	longestPause = time.Hour
)

// work hands out keys, each to one worker at a time. A key that is added while
// somebody is at work with it is handed out once more, however often it was
// added. What fails is tried again after a while; an account whose limit is
// reached is left alone.
type work struct {
	mu     sync.Mutex
	ready  chan struct{} // closed when there may be something to do
	queue  []Key
	items  map[Key]*item
	paused map[string]time.Time // account of a forge: until then
}

// item is a key that somebody is, or will be, at work with.
type item struct {
	queued, running, again bool
	failures               int
	retry                  *time.Timer
}

func newWork() *work {
	return &work{ready: make(chan struct{}), items: map[Key]*item{}, paused: map[string]time.Time{}}
}

// add a key.
func (w *work) add(k Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enqueue(k)
}

func (w *work) enqueue(k Key) {
	it := w.items[k]
	if it == nil {
		it = &item{}
		w.items[k] = it
	}
	switch {
	case it.running:
		it.again = true
	case !it.queued:
		if it.retry != nil {
			it.retry.Stop()
		}
		it.queued = true
		w.queue = append(w.queue, k)
		w.wake()
	}
}

func (w *work) wake() {
	close(w.ready)
	w.ready = make(chan struct{})
}

// take returns a key to work with, or what to wait for.
func (w *work) take() (k Key, ok bool, wait <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 {
		k, w.queue = w.queue[0], w.queue[1:]
		it := w.items[k]
		it.queued = false
		if left := time.Until(w.paused[k.account()]); left > 0 {
			w.later(k, it, left)
			continue
		}
		it.running = true
		return k, true, nil
	}
	return Key{}, false, w.ready
}

// later hands a key out again after a while.
func (w *work) later(k Key, it *item, d time.Duration) {
	it.retry = time.AfterFunc(d, func() { w.add(k) })
}

// finish says how the work with a key went.
func (w *work) finish(k Key, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	it := w.items[k]
	again := it.again
	it.running, it.again = false, false
	retry, ok := errors.AsType[*forge.RetryError](err)
	if !ok {
		retry = &forge.RetryError{}
	}
	after := min(max(retry.After, firstRetry), longestPause)
	switch {
	case err == nil && again:
		it.failures = 0
		w.enqueue(k)
	case err == nil:
		delete(w.items, k)
	case retry.Limit:
		w.paused[k.account()] = time.Now().Add(after)
		w.later(k, it, after)
	default: // that the forge has trouble with one key says nothing of the others
		w.later(k, it, max(after, min(firstRetry<<min(it.failures, 20), lastRetry)))
		it.failures++
	}
	w.wake()
}

// waiting is how many keys are known, also those that are tried again later.
func (w *work) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.items)
}

// run works with up to n keys at a time until ctx ends.
func (w *work) run(ctx context.Context, n int, do func(context.Context, Key) error) {
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for ctx.Err() == nil {
				k, ok, wait := w.take()
				if ok {
					w.finish(k, do(ctx, k))
					continue
				}
				select {
				case <-ctx.Done():
				case <-wait:
				}
			}
		})
	}
	workers.Wait()
}
