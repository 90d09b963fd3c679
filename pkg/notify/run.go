package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/host"
)

// A hook that failed is tried again after 5 s, doubling to 10 min.
const (
	retryFirst = 5 * time.Second
	retryMost  = 10 * time.Minute
	// maxRefused notices in one go: whether a receiver refuses some or all cannot be
	// known, and of all each would take a timeout.
	maxRefused = 3
)

// Options of a Notifier.
type Options struct {
	Hooks []v1alpha1.Notification // required: valid, defaulted
	Host  string                  // required: name of this host
	Dir   string                  // required: where it is kept what each hook has heard
	// Items are the objects as published; false: the host was not read yet. required
	Items func() ([]v1alpha1.Item, bool)
	// Changed is closed when Items may return something else. required
	Changed func() <-chan struct{}
	Log     logr.Logger
}

// Run tells all hooks what they are owed until ctx ends.
func Run(ctx context.Context, o Options) error {
	var hooks sync.WaitGroup
	defer hooks.Wait()
	for _, h := range o.Hooks {
		send, err := sender(h)
		if err != nil {
			return fmt.Errorf("notification %s: %w", h.Name, err)
		}
		w := &hook{Options: o, config: h, send: send, refused: map[string]int{}, file: filepath.Join(o.Dir, h.Name+".json")}
		hooks.Go(func() { w.run(ctx) })
	}
	return nil
}

// hook is one receiver.
type hook struct {
	Options
	config v1alpha1.Notification
	send   func(context.Context, Notice) error
	file   string

	heard    map[string]bool // by UID; nil: nothing is known yet
	failures int
	refused  map[string]int // how often, by UID, since all was told
}

func (h *hook) run(ctx context.Context) {
	for ctx.Err() == nil {
		changed := h.Changed() // before Items: a change in between is seen
		wait := time.Duration(-1)
		if items, read := h.Items(); read {
			wait = h.tell(ctx, items)
		}
		var timer <-chan time.Time
		if wait >= 0 {
			timer = time.After(wait)
		}
		if h.failures > 0 {
			changed = nil // its pause is not cut short
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer:
		}
	}
}

// tell sends what is due and returns when to look again by itself; negative: not before a change.
func (h *hook) tell(ctx context.Context, items []v1alpha1.Item) time.Duration {
	if h.heard == nil {
		if err := h.load(items); err != nil {
			return h.failed(err)
		}
	}
	now := time.Now()
	notices, next := due(h.heard, items, h.Host, h.config.After.Duration, now)
	if err := h.sendAll(ctx, notices); err != nil {
		return h.failed(err)
	}
	if forget(h.heard, items) {
		if err := h.save(); err != nil {
			return h.failed(err)
		}
	}
	h.failures = 0
	if next.IsZero() {
		return -1
	}
	return max(next.Sub(now), 0)
}

// sendAll goes on after a notice that is refused. Those that were refused most come
// last, so that each has its turn.
func (h *hook) sendAll(ctx context.Context, notices []Notice) error {
	slices.SortStableFunc(notices, func(a, b Notice) int { return cmp.Compare(h.refused[a.UID], h.refused[b.UID]) })
	var errs []error
	for _, n := range notices {
		if err := h.send(ctx, n); err != nil {
			errs = append(errs, fmt.Errorf("tell of %s: %w", n.Object, err))
			h.refused[n.UID]++
			if len(errs) == maxRefused || ctx.Err() != nil {
				break
			}
			continue
		}
		h.failures = 0 // it listens
		h.heard[n.UID] = n.Ready
		if err := h.save(); err != nil {
			return err
		}
	}
	if len(errs) == 0 {
		clear(h.refused)
	}
	return errors.Join(errs...)
}

func (h *hook) failed(err error) time.Duration {
	wait := min(retryFirst<<min(h.failures, 16), retryMost)
	h.failures++
	h.Log.Error(err, "notification; tried again by itself", "hook", h.config.Name, "in", wait.String())
	return wait
}

func (h *hook) load(items []v1alpha1.Item) error {
	data, err := os.ReadFile(h.file)
	if errors.Is(err, fs.ErrNotExist) {
		h.heard = known(items)
		return h.save()
	}
	if err != nil {
		return err
	}
	heard := map[string]bool{}
	if err := json.Unmarshal(data, &heard); err != nil {
		return fmt.Errorf("%s cannot be read: %w; remove it to begin anew", h.file, err)
	}
	h.heard = maps.Clone(heard)
	return nil
}

func (h *hook) save() error {
	data, err := json.Marshal(h.heard)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return err
	}
	return host.WriteFile(h.file, data, 0o600)
}
