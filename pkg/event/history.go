package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

const (
	// keptGenerations of an object, as long as their documents are small.
	keptGenerations = 10
	historyMax      = 1 << 20
	historySuffix   = ".json"
)

// History keeps the latest generations of each object, a file an object. It goes
// with the object. Like events it is not synced.
type History struct {
	dir string

	mu sync.Mutex
	// last is the generation that was kept last, by UID; nil before the first look.
	last map[string]int64
}

// NewHistory returns the history in dir, of which there may be nothing yet.
func NewHistory(dir string) *History { return &History{dir: dir} }

// Keep keeps the generations that are new among all objects, and forgets objects
// that are gone.
func (h *History) Keep(items []v1alpha1.Item, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		if err := h.look(); err != nil {
			return err
		}
	}
	var errs []error
	there := make(map[string]bool, len(items))
	for _, i := range items {
		m := i.Metadata
		there[m.UID] = true
		if m.UID == "" || i.Spec == nil || h.last[m.UID] == m.Generation {
			continue
		}
		if err := h.add(i, now); err != nil {
			errs = append(errs, fmt.Errorf("keep generation %d of %s: %w", m.Generation, m.Name, err))
			continue
		}
		h.last[m.UID] = m.Generation
	}
	for uid := range h.last {
		if !there[uid] {
			errs = append(errs, h.forget(uid))
		}
	}
	return errors.Join(errs...)
}

// Knew returns the items that are no news to whoever has not seen any yet: of
// their objects a generation was kept, or there is none to keep.
func (h *History) Knew(items []v1alpha1.Item) ([]v1alpha1.Item, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		if err := h.look(); err != nil {
			return items, err
		}
	}
	var knew []v1alpha1.Item
	for _, i := range items {
		if _, kept := h.last[i.Metadata.UID]; kept || i.Metadata.UID == "" || i.Spec == nil {
			knew = append(knew, i)
		}
	}
	return knew, nil
}

// look reads which generations were kept before this daemon.
func (h *History) look() error {
	entries, err := os.ReadDir(h.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	h.last = map[string]int64{}
	for _, e := range entries {
		uid, ours := strings.CutSuffix(e.Name(), historySuffix)
		if !ours {
			continue
		}
		all, err := h.read(uid)
		if err != nil {
			return err
		}
		h.last[uid] = 0
		if n := len(all); n > 0 {
			h.last[uid] = all[n-1].Generation
		}
	}
	return nil
}

func (h *History) add(i v1alpha1.Item, now time.Time) error {
	var document struct {
		Metadata struct {
			Labels      map[string]string `json:"labels,omitempty"`
			Annotations map[string]string `json:"annotations,omitempty"`
		} `json:"metadata,omitzero"`
		Spec any `json:"spec"`
	}
	m := i.Metadata
	document.Metadata.Labels, document.Metadata.Annotations, document.Spec = m.Labels, m.Annotations, i.Spec
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	all, err := h.read(m.UID)
	if err != nil {
		return err
	}
	all = append(all, v1alpha1.Generation{Generation: m.Generation, Time: now, Source: m.Source, Document: text})
	return h.write(m.UID, bounded(all))
}

// bounded leaves out the oldest, never the last.
func bounded(all []v1alpha1.Generation) []v1alpha1.Generation {
	size := 0
	for i := len(all) - 1; i >= 0; i-- {
		size += len(all[i].Document)
		if n := len(all) - i; n > 1 && (n > keptGenerations || size > historyMax) {
			return all[i+1:]
		}
	}
	return all
}

func (h *History) write(uid string, all []v1alpha1.Generation) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	// Always of the same name: what was cut short here goes with the next one.
	next := filepath.Join(h.dir, ".next")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return os.Rename(next, h.path(uid))
}

func (h *History) forget(uid string) error {
	if err := os.Remove(h.path(uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(h.last, uid)
	if len(h.last) == 0 {
		_ = os.Remove(h.dir) // the last of all leaves nothing behind
	}
	return nil
}

func (h *History) path(uid string) string { return filepath.Join(h.dir, uid+historySuffix) }

// Of returns the generations of an object that are kept, oldest first.
func (h *History) Of(uid string) ([]v1alpha1.Generation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.read(uid)
}

// read takes a file that a power cut has damaged for an empty one.
func (h *History) read(uid string) ([]v1alpha1.Generation, error) {
	text, err := os.ReadFile(h.path(uid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []v1alpha1.Generation
	if json.Unmarshal(text, &all) != nil {
		return nil, nil
	}
	return all, nil
}
