package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/net/netutil"

	"tekton.host/pkg/server/wire"
)

const (
	// headerTimeout and requestTimeout bound how long a client may take to ask,
	// answerTimeout how long to take an answer that is no stream.
	headerTimeout  = 10 * time.Second
	requestTimeout = 60 * time.Second
	answerTimeout  = 60 * time.Second
	// closeTimeout for requests under way when the server ends.
	closeTimeout = 2 * time.Second
	// maxNarrow are the connections on a narrower socket at a time: they take no file
	// descriptors from those who change something.
	maxNarrow = 64
)

// Options of a Server.
type Options struct {
	// Backend that requests go to. required
	Backend Backend
	// Metrics answers GET /metrics. optional
	Metrics http.Handler
	// Log of requests that change something, and at V(1) of all. optional
	Log logr.Logger
}

// Server serves the API.
type Server struct {
	backend Backend
	log     logr.Logger
	mux     *http.ServeMux
	// operators and readers have those of the routes that these may use.
	operators, readers *http.ServeMux
	// sessions are the exec sessions under way; they are no longer http's.
	sessions sync.WaitGroup
	// connections holds one value a connection to a machine.
	connections chan struct{}
}

// New returns a server. It starts nothing.
func New(o Options) (*Server, error) {
	if o.Backend == nil {
		return nil, errors.New("server: Options.Backend is required")
	}
	s := &Server{backend: o.Backend, log: o.Log, mux: http.NewServeMux(), connections: make(chan struct{}, maxConnections)}
	s.operators = s.closed("operators: this socket shows, and has machines and sources go on or pause")
	s.readers = s.closed("readers: this socket answers questions and changes nothing")
	for _, route := range s.routes(o.Metrics) {
		s.mux.Handle(route.pattern, s.handle(route.answer))
		if route.operators != nil {
			s.operators.Handle(route.pattern, s.handle(route.operators))
		}
		if route.readers != nil {
			s.readers.Handle(route.pattern, s.handle(route.readers))
		}
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, &wire.Error{
			Code:    wire.NotFound,
			Message: fmt.Sprintf("the daemon's API has no %s %s", r.Method, r.URL.Path),
			Next:    "use a client of the daemon's version (tekton version prints both)",
		})
	})
	return s, nil
}

// closed refuses whatever is not opened.
func (s *Server) closed(to string) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, &wire.Error{
			Code:    wire.Forbidden,
			Message: fmt.Sprintf("%s %s is not for %s", r.Method, r.URL.Path, to),
			Next:    "use the daemon's other socket, as root or in the group that spec.socketGroup of the Host names",
		})
	})
	return mux
}

// handler answers a request. The error of a handler that has begun to answer
// can only end the connection.
type handler func(w http.ResponseWriter, r *http.Request) error

func (s *Server) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log := s.log.V(1)
		if r.Method != http.MethodGet && r.URL.Path != wire.PathPlan {
			log = s.log
		}
		log.Info("API request", append(peerValues(r.Context()), "method", r.Method, "path", r.URL.Path)...)
		// The deadline of the answer before on this connection is none of a stream's.
		http.NewResponseController(w).SetWriteDeadline(time.Time{})
		if err := checkPathValues(r); err != nil {
			s.fail(w, err)
			return
		}
		if err := h(w, r); err != nil {
			s.fail(w, err)
		}
	})
}

// Serve answers on l until ctx ends. Streams and exec sessions end with it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.serve(ctx, l, s.mux) }

// ServeOperators answers what operators may ask on l until ctx ends.
func (s *Server) ServeOperators(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, netutil.LimitListener(l, maxNarrow), s.operators)
}

// ServeReaders answers what readers may ask on l until ctx ends.
func (s *Server) ServeReaders(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, netutil.LimitListener(l, maxNarrow), s.readers)
}

func (s *Server) serve(ctx context.Context, l net.Listener, h http.Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		// Requests see the end of ctx; what still hangs after the grace is cut off.
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer done()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(l)
	cancel()
	<-stopped
	s.sessions.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

var statuses = map[wire.Code]int{
	wire.NotFound:    http.StatusNotFound,
	wire.Invalid:     http.StatusUnprocessableEntity,
	wire.Conflict:    http.StatusConflict,
	wire.Forbidden:   http.StatusForbidden,
	wire.Unavailable: http.StatusServiceUnavailable,
	wire.Internal:    http.StatusInternalServerError,
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		e = &wire.Error{Code: wire.Internal, Message: err.Error()}
		if errors.Is(err, syscall.ENOSPC) {
			e.Code, e.Next = wire.Unavailable, "free space or inodes there (df -h, df -i), then try again"
		}
	}
	status := statuses[e.Code]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	writeJSON(w, status, e)
}

// answer writes v, or returns err.
func answer(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, v)
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		body, _ = json.Marshal(&wire.Error{Code: wire.Internal, Message: "encode the answer: " + err.Error()})
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// readBody reads the whole body of a request within limit and time.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(requestTimeout))
	defer control.SetReadDeadline(time.Time{})
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &wire.Error{Code: wire.Invalid, Message: fmt.Sprintf("the request is larger than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return body, nil
}

func readJSON(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &wire.Error{Code: wire.Invalid, Message: "the request is no valid JSON: " + err.Error()}
	}
	return nil
}
