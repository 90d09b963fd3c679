package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// watchPause between two looks of one watcher, so that a burst of changes is
// one event an object.
const watchPause = 50 * time.Millisecond

func sortItems(items []v1alpha1.Item) {
	slices.SortFunc(items, func(a, b v1alpha1.Item) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.Metadata.Name, b.Metadata.Name)
	})
}

// watch sends one JSON event a line: what is there, that this was all, then
// each change. Levels, not edges: a watcher that is slow skips states and still
// ends with the last one, and nothing queues up for it.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	out := json.NewEncoder(w)
	seen := map[v1alpha1.Ref]state{}
	for first := true; ; first = false {
		changed := s.backend.Changed() // before List: a change in between is seen
		items, err := s.backend.List(r.Context())
		if err != nil {
			if first {
				return err
			}
			abort() // a client that asks again is told why
		}
		sortItems(items)
		events, err := diff(seen, items)
		if err != nil {
			return err
		}
		if first {
			w.Header().Set("Content-Type", "application/jsonl")
			events = append(events, v1alpha1.WatchEvent{Type: v1alpha1.WatchSynced})
		}
		for _, e := range events {
			if out.Encode(e) != nil {
				return nil
			}
		}
		if control.Flush() != nil {
			return nil
		}
		if !pause(r.Context(), changed) {
			return nil
		}
	}
}

// pause waits for a change and until a burst of them has passed. false: the client has gone.
func pause(ctx context.Context, changed <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(watchPause):
		return true
	}
}

// state is what a watcher was last told of an object.
type state struct {
	item v1alpha1.Item
	text []byte
}

// diff returns the events that lead from seen to items, and updates seen.
func diff(seen map[v1alpha1.Ref]state, items []v1alpha1.Item) ([]v1alpha1.WatchEvent, error) {
	var events []v1alpha1.WatchEvent
	there := map[v1alpha1.Ref]bool{}
	for _, item := range items {
		ref := v1alpha1.Ref{Kind: item.Kind, Name: item.Metadata.Name}
		there[ref] = true
		text, err := json.Marshal(item)
		if err != nil {
			return nil, err
		}
		if old, ok := seen[ref]; ok && bytes.Equal(old.text, text) {
			continue
		}
		seen[ref] = state{item, text}
		events = append(events, v1alpha1.WatchEvent{Type: v1alpha1.WatchPut, Item: &item})
	}
	var gone []v1alpha1.Item
	for ref, old := range seen {
		if !there[ref] {
			gone = append(gone, old.item)
			delete(seen, ref)
		}
	}
	sortItems(gone)
	for _, item := range gone {
		events = append(events, v1alpha1.WatchEvent{Type: v1alpha1.WatchDelete, Item: &item})
	}
	return events, nil
}
