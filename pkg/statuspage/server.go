package statuspage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
)

//go:embed assets
var assets embed.FS

// Server of the page.
type Server struct {
	config *Config
	log    logr.Logger
	now    func() time.Time
	host   string
	names  map[string]bool
	mirror *mirror
	// reader and operator are the daemon's sockets; operator is nil without one.
	reader, operator *client.Client
	sessions         *sessions
	streams          chan struct{}
	logStreams       chan struct{}
	logPages         chan struct{}
	sendTimeout      time.Duration
	plans            plans
	stop             <-chan struct{}
}

// New returns the server of what a configuration says. It starts nothing.
func New(c *Config, log logr.Logger) *Server {
	host, _ := os.Hostname()
	s := &Server{
		config: c, log: log, now: time.Now, host: cmp.Or(host, "host"), names: c.names(), reader: client.New(c.Socket),
		streams: make(chan struct{}, maxStreams), logStreams: make(chan struct{}, maxLogStreams), logPages: make(chan struct{}, maxLogPages), sendTimeout: sendTimeout,
	}
	if c.OperateSocket != "" {
		s.operator = client.New(c.OperateSocket)
	}
	if c.TokenFile != "" {
		s.sessions = newSessions(c.token)
	}
	s.mirror = newMirror(s.reader, log, s.now)
	return s
}

// Run follows the daemon until ctx ends; streams to browsers end with it.
func (s *Server) Run(ctx context.Context) {
	s.mirror.run(ctx)
}

// Handler answers browsers.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /{$}":                               s.overviewPage,
		"GET /objects/{kind}/{name}":             s.objectPage,
		"GET /objects/{kind}/{name}/logs":        s.logsPage,
		"GET /objects/{kind}/{name}/logs/stream": s.logsStream,
		"POST /objects/{kind}/{name}/restart":    s.act(s.restart),
		"GET /events":                            s.eventsPage,
		"GET /plan":                              s.planPage,
		"GET /picture":                           s.picturePage,
		"GET /sources":                           s.sourcesPage,
		"POST /sources/{name}/{verb}":            s.act(s.source),
		"GET /live":                              s.live,
		"GET /login":                             s.loginPage,
		"POST /login":                            s.login,
		"POST /logout":                           s.logout,
		"GET /healthz":                           s.healthz,
		"/":                                      s.nothing,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	for name, h := range assetHandlers() {
		mux.Handle("GET /assets/"+name, h)
	}
	return s.guard(http.NewCrossOriginProtection().Handler(mux))
}

// handler answers a request, or says why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// failure is an answer that is none.
type failure struct {
	status     int
	text, next string
}

func (f *failure) Error() string { return f.text }

// policy has the browser load nothing but what is ours, run nothing that is inline,
// send forms nowhere else and show the page in no other.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard refuses requests for names that are not ours: a page elsewhere whose name
// leads here would otherwise read everything with its visitor's browser.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !s.names[r.Host] {
			http.Error(w, fmt.Sprintf("This page has no name %q. If it is to have it, add it to hosts in the configuration of tekton-status.", short(r.Host, 100)), http.StatusMisdirectedRequest)
			return
		}
		// A page elsewhere may lead here, and have nothing of here itself.
		if site := r.Header.Get("Sec-Fetch-Site"); (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			http.Error(w, "This page is not for other pages to load.", http.StatusForbidden)
			return
		}
		control := http.NewResponseController(w)
		control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if !readForm(control, w, r) {
			http.Error(w, "The request is no form that this page has.", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readForm reads what comes with a request, within its bounds. Afterwards there is
// no time limit on reading: at its end the request would be taken for given up.
func readForm(control *http.ResponseController, w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost {
		return r.ContentLength == 0
	}
	control.SetReadDeadline(time.Now().Add(readTimeout))
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	defer control.SetReadDeadline(time.Time{})
	return r.ParseForm() == nil
}

// assetHandlers by the names of the files. A browser asks again each time, and is
// told that nothing has changed.
func assetHandlers() map[string]http.Handler {
	handlers := map[string]http.Handler{}
	fs.WalkDir(assets, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := assets.ReadFile(name)
		if err != nil {
			return err
		}
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(data))
		handlers[path.Base(name)] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("ETag", tag)
			w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		})
		return nil
	})
	return handlers
}

// healthz answers 200 while the daemon is heard.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if v, _ := s.mirror.View(); v.Err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "the daemon says nothing\n")
		return nil
	}
	io.WriteString(w, "ok\n")
	return nil
}

func (s *Server) nothing(_ http.ResponseWriter, r *http.Request) error {
	return &failure{http.StatusNotFound, "There is no such page.", "The first page lists what there is."}
}

// item of a request's path.
func (s *Server) item(r *http.Request) (View, v1alpha1.Item, error) {
	v, _ := s.mirror.View()
	ref := v1alpha1.Ref{Kind: r.PathValue("kind"), Name: r.PathValue("name")}
	item := v.Item(ref)
	if item == nil {
		return v, v1alpha1.Item{}, &failure{http.StatusNotFound, fmt.Sprintf("There is no %s.", short(ref.String(), 100)), "It may have been deleted. The events say what became of it."}
	}
	return v, *item, nil
}

// planKept is how long a plan is shown to others, too: making one takes the daemon a while.
const planKept = 3 * time.Second

// plans keeps the latest plan. One is asked for at a time.
type plans struct {
	mu     sync.Mutex
	at     time.Time
	report v1alpha1.PlanReport
}

func (p *plans) latest(ctx context.Context, daemon *client.Client, now func() time.Time) (v1alpha1.PlanReport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now().Sub(p.at) < planKept {
		return p.report, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	report, err := daemon.Plan(ctx, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		err = &failure{http.StatusServiceUnavailable, "The daemon did not make a plan in time.", "Try again, or on the host: tekton plan"}
	}
	if err == nil {
		p.at, p.report = now(), report
	}
	return report, err
}
