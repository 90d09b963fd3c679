package server

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server/wire"
)

// maxPathValue bounds names and ids in paths.
const maxPathValue = 253

// checkPathValues refuses what can be no name, before anybody takes it for one.
func checkPathValues(r *http.Request) error {
	for _, key := range []string{"kind", "name", "id"} {
		v := r.PathValue(key)
		bad := func(c rune) bool {
			return unicode.IsControl(c) || unicode.IsSpace(c) || c == '\\' || c == unicode.ReplacementChar
		}
		traversal := v == "." || v == ".." || strings.Contains(v, "../") || strings.HasPrefix(v, "/")
		if len(v) > maxPathValue || traversal || strings.ContainsFunc(v, bad) || (key != "id" && strings.Contains(v, "/")) {
			return &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("%q is no %s", v, key)}
		}
	}
	return nil
}

func pathRef(r *http.Request) v1alpha1.Ref {
	return v1alpha1.Ref{Kind: r.PathValue("kind"), Name: r.PathValue("name")}
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) error {
	v, err := s.backend.Version(r.Context())
	return answer(w, v, err)
}

func (s *Server) objects(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("watch") {
		return s.watch(w, r)
	}
	items, err := s.backend.List(r.Context())
	sortItems(items)
	return answer(w, v1alpha1.List{Items: items}, err)
}

func (s *Server) deleteObject(w http.ResponseWriter, r *http.Request) error {
	result, err := s.backend.Delete(r.Context(), pathRef(r))
	return answer(w, result, err)
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) error {
	generations, err := s.backend.History(r.Context(), pathRef(r))
	return answer(w, generations, err)
}

func (s *Server) usage(w http.ResponseWriter, r *http.Request) error {
	report, err := s.backend.Usage(r.Context())
	return answer(w, report, err)
}

func (s *Server) restart(w http.ResponseWriter, r *http.Request) error {
	return answer(w, struct{}{}, s.backend.Restart(r.Context(), pathRef(r)))
}

func (s *Server) sources(w http.ResponseWriter, r *http.Request) error {
	sources, err := s.backend.Sources(r.Context())
	return answer(w, sources, err)
}

func (s *Server) releaseDeletes(w http.ResponseWriter, r *http.Request) error {
	released, err := s.backend.ReleaseDeletes(r.Context(), r.PathValue("name"))
	return answer(w, released, err)
}

func (s *Server) syncSource(w http.ResponseWriter, r *http.Request) error {
	status, err := s.backend.SyncSource(r.Context(), r.PathValue("name"))
	return answer(w, status, err)
}

func (s *Server) suspendSource(w http.ResponseWriter, r *http.Request) error {
	return answer(w, struct{}{}, s.backend.SuspendSource(r.Context(), r.PathValue("name"), true))
}

func (s *Server) resumeSource(w http.ResponseWriter, r *http.Request) error {
	return answer(w, struct{}{}, s.backend.SuspendSource(r.Context(), r.PathValue("name"), false))
}

func (s *Server) problems(w http.ResponseWriter, r *http.Request) error {
	problems, err := s.backend.Problems(r.Context())
	return answer(w, problems, err)
}

// maxBarePlan bounds a request for a plan without files.
const maxBarePlan = 4 << 10

// plan answers with one plan at a time: what takes a processor takes one. Who is
// slow to ask or to take the answer holds nobody up. Without files it is the plan
// of what the sources hold: readers make nobody decode what they send.
func (s *Server) plan(files bool) handler {
	limit := int64(maxBarePlan)
	if files {
		limit = wire.MaxRequest
	}
	turn := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) error {
		var req wire.PlanRequest
		err := readJSON(w, r, limit, &req)
		if !files && (r.ContentLength > limit || len(req.Files) > 0) {
			return &wire.Error{
				Code: wire.Forbidden, Message: "a plan with files is not for this socket",
				Next: "ask for the plan without files, or use the daemon's other socket, as root or in the group that spec.socketGroup of the Host names",
			}
		}
		if err != nil {
			return err
		}
		select {
		case turn <- struct{}{}:
		case <-r.Context().Done():
			return r.Context().Err()
		}
		report, err := func() (v1alpha1.PlanReport, error) {
			defer func() { <-turn }()
			return s.backend.Plan(r.Context(), req.Files)
		}()
		return answer(w, report, err)
	}
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) error {
	var req wire.ApplyRequest
	if err := readJSON(w, r, wire.MaxRequest, &req); err != nil {
		return err
	}
	results, err := s.backend.Apply(r.Context(), req.Source, req.Files)
	return answer(w, results, err)
}

func (s *Server) listSecrets(w http.ResponseWriter, r *http.Request) error {
	secrets, err := s.backend.ListSecrets(r.Context())
	return answer(w, secrets, err)
}

func (s *Server) setSecret(w http.ResponseWriter, r *http.Request) error {
	value, err := readBody(w, r, wire.MaxSecret)
	if err != nil {
		return err
	}
	return answer(w, struct{}{}, s.backend.SetSecret(r.Context(), r.PathValue("name"), value))
}

func (s *Server) deleteSecret(w http.ResponseWriter, r *http.Request) error {
	return answer(w, struct{}{}, s.backend.DeleteSecret(r.Context(), r.PathValue("name")))
}

func (s *Server) backup(w http.ResponseWriter, r *http.Request) error {
	info, err := s.backend.Backup(r.Context())
	return answer(w, info, err)
}

func (s *Server) backupDatabase(w http.ResponseWriter, r *http.Request) error {
	progress, err := s.backend.BackupDatabase(r.Context(), r.PathValue("name"))
	return answer(w, progress, err)
}

func (s *Server) listData(w http.ResponseWriter, r *http.Request) error {
	items, err := s.backend.ListData(r.Context())
	return answer(w, items, err)
}

func (s *Server) restoreData(w http.ResponseWriter, r *http.Request) error {
	return answer(w, struct{}{}, s.backend.RestoreData(r.Context(), r.PathValue("id")))
}

func (s *Server) deleteData(w http.ResponseWriter, r *http.Request) error {
	return answer(w, struct{}{}, s.backend.DeleteData(r.Context(), r.PathValue("id")))
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	o := v1alpha1.LogOptions{Follow: q.Has("follow"), Previous: q.Has("previous"), Build: q.Has("build"), Setup: q.Has("setup"), Console: q.Has("console"), Tail: -1}
	if tail := q.Get("tail"); tail != "" {
		n, err := strconv.Atoi(tail)
		if err != nil {
			return &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("tail=%q is no number of lines", tail)}
		}
		o.Tail = n
	}
	if since := q.Get("since"); since != "" {
		t, err := time.Parse(time.RFC3339Nano, since)
		if err != nil {
			return &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("since=%q is no time of RFC 3339", since)}
		}
		o.Since = t
	}
	log, err := s.openLog(r.Context(), pathRef(r), o)
	if err != nil {
		return err
	}
	// The reader is closed also when it blocks in Read while the client goes.
	ended := make(chan struct{})
	defer func() { <-ended }()
	done := make(chan struct{})
	defer close(done)
	go func() {
		defer close(ended)
		select {
		case <-r.Context().Done():
		case <-done:
		}
		log.Close()
	}()
	w.Header().Set("Content-Type", "application/octet-stream")
	if copyFlushed(w, log) != nil && r.Context().Err() == nil {
		abort()
	}
	return nil
}

// abort ends an answer that has begun so that the client does not take it for whole.
func abort() { panic(http.ErrAbortHandler) }

// copyFlushed sends what r yields as it comes. Its error is that of r.
func copyFlushed(w http.ResponseWriter, r io.Reader) error {
	control := http.NewResponseController(w)
	if control.Flush() != nil {
		return nil
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil || control.Flush() != nil {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
