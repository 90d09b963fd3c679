package server

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strconv"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/server/wire"
)

// profile answers with a profile of the daemon itself, in the form of net/http/pprof:
// goroutine, heap, allocs, threadcreate. debug=1 makes it text, gc=1 collects garbage
// before. For root alone: a collection stops everything for a moment.
func (s *Server) profile(w http.ResponseWriter, r *http.Request) error {
	if cred, ok := r.Context().Value(peerKey{}).(unix.Ucred); !ok || cred.Uid != 0 {
		return &wire.Error{Code: wire.Forbidden, Message: "profiles of the daemon are for root alone", Next: "use sudo"}
	}
	name := r.PathValue("name")
	p := pprof.Lookup(name)
	if p == nil {
		return &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no profile %q", name), Next: "ask for goroutine, heap, allocs or threadcreate"}
	}
	debug := 0
	if q := r.FormValue("debug"); q != "" {
		var err error
		if debug, err = strconv.Atoi(q); err != nil {
			return &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("debug=%q is no number", q)}
		}
	}
	if r.FormValue("gc") == "1" {
		runtime.GC()
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if p.WriteTo(w, debug) != nil {
		abort() // the client went, or must not take half a profile for a whole
	}
	return nil
}
