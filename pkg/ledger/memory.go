package ledger

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tekton.host/pkg/resource"
)

// Memory is a store that ends with the process: for tests and simulations, and
// the part of File that serves readers.
type Memory struct {
	now  func() time.Time
	save func(*table) error // before a version is published

	commit  sync.Mutex // one writer at a time
	current atomic.Pointer[table]

	mu       sync.Mutex
	watchers map[*func()]struct{}
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory(o Options) *Memory {
	return newMemory(o, newTable(0, nil), func(*table) error { return nil })
}

func newMemory(o Options, t *table, save func(*table) error) *Memory {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Memory{now: o.Now, save: save, watchers: map[*func()]struct{}{}}
	m.current.Store(t)
	return m
}

// List implements Store. It waits for nothing, also while a commit is written.
func (m *Memory) List(ctx context.Context) ([]resource.Claim, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	t := m.current.Load()
	return slices.Clone(t.sorted), t.revision, nil
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, ops []Op) []error {
	m.commit.Lock()
	defer m.commit.Unlock()
	if err := ctx.Err(); err != nil {
		return all(ops, err)
	}
	before := m.current.Load()
	// Round drops the monotonic clock, which would not survive the file.
	after, errs := before.apply(ops, m.now().UTC().Round(0))
	if after == before {
		return errs
	}
	if err := m.save(after); err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = resource.Because(ReasonLedgerWrite, err)
			}
		}
		return errs
	}
	m.current.Store(after)
	m.notify()
	return errs
}

func all(ops []Op, err error) []error {
	errs := make([]error, len(ops))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, notify func()) error {
	m.mu.Lock()
	m.watchers[&notify] = struct{}{}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	delete(m.watchers, &notify)
	m.mu.Unlock()
	return nil
}

func (m *Memory) notify() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for notify := range m.watchers {
		(*notify)()
	}
}
