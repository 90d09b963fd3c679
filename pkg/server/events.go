package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"tekton.host/pkg/server/wire"
)

// events sends one JSON event a line: those that are kept and have a higher
// number than after, and with follow those that come.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	last, err := strconv.ParseInt(cmp.Or(q.Get("after"), "0"), 10, 64)
	if err != nil {
		return &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("after=%q is no number of an event", q.Get("after"))}
	}
	control, out := http.NewResponseController(w), json.NewEncoder(w)
	for first := true; ; first = false {
		changed := s.backend.EventsChanged() // before Events: one in between is seen
		events, err := s.backend.Events(r.Context(), last)
		if err != nil && first {
			return err
		} else if err != nil {
			abort()
		}
		if len(events) > 0 {
			last = events[len(events)-1].Seq
		}
		if first {
			w.Header().Set("Content-Type", "application/jsonl")
		}
		for _, e := range events {
			if out.Encode(e) != nil {
				return nil
			}
		}
		if control.Flush() != nil || !q.Has("follow") {
			return nil
		}
		if !pause(r.Context(), changed) {
			return nil
		}
	}
}
