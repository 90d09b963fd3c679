package forgetest

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/forge"
)

// Server is a forge. It is an http.Handler; its methods change and tell what it has.
type Server struct {
	mux *http.ServeMux

	mu       sync.Mutex
	lastID   int64
	repos    map[string]*repository // by lower-case OWNER/NAME
	tokens   map[string]account
	app      *app
	hooks    []Hook
	pending  []Delivery
	fault    Fault
	requests []string
	limit    int // requests that are left; negative: no limit
	reset    time.Time
	ahead    time.Duration // of our clock
}

// account is who asks.
type account struct {
	login string
	// owner whose repositories an installation may see; empty: all.
	owner   string
	expires time.Time
}

type repository struct {
	id          int64
	name        forge.Repository
	grants      map[string]string // permission by login
	pulls       []*pull           // by number
	issues      int               // last number
	comments    []*comment
	deployments []*deployment
}

type pull struct {
	forge.PullRequest
	agit bool // is shown as of the repository itself, as Gitea does
	id   int64
}

type comment struct {
	forge.Comment
	number   int
	imported bool // it was written at another forge
}

// New returns a forge without anything, that a token does not open.
func New() *Server {
	s := &Server{mux: http.NewServeMux(), repos: map[string]*repository{}, tokens: map[string]account{}, limit: -1, lastID: 1000}
	s.routes()
	return s
}

// Fault may answer a request instead of the server; it reports whether it has.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// SetFault lets f see each request first; nil: none.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// SetLimit leaves n requests until reset, as the primary rate limit does.
func (s *Server) SetLimit(n int, reset time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.reset = n, reset
}

// SetClock has the server's clock be that much ahead of ours.
func (s *Server) SetClock(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

// Requests are method and path of what was asked since it was last called.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// AddToken lets a user in.
func (s *Server) AddToken(token, login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = account{login: login}
}

// AddApp makes the server's GitHub App, which is installed by owners.
func (s *Server) AddApp(id int64, slug string, key *rsa.PublicKey, owners ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.app = &app{id: id, slug: slug, key: key, life: time.Hour, owners: owners}
}

// SetTokenLife is how long the app's tokens are good; those that are out end now.
func (s *Server) SetTokenLife(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.app.life = d
	for token, a := range s.tokens {
		if a.owner != "" {
			delete(s.tokens, token)
		}
	}
}

// request is one that is answered.
type request struct {
	*http.Request
	s       *Server
	as      account
	forgejo bool
	base    string // of the API, as the client reached it
}

// answer is what comes back; body nil: none.
type answer struct {
	status int
	body   any
	link   string
}

// handler answers under the server's lock.
type handler func(r *request) answer

// baseKey is that of the prefix that ServeHTTP took off the path.
type baseKey struct{}

// ServeHTTP answers as a forge does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := s.fault
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	base := ""
	for _, prefix := range []string{"/api/v3", "/api/v1"} {
		if path, ok := strings.CutPrefix(r.URL.Path, prefix+"/"); ok {
			base = prefix
			u := *r.URL
			u.Path, u.RawPath = "/"+path, ""
			r = r.Clone(r.Context())
			r.URL = &u
		}
	}
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), baseKey{}, base)))
}

// handle has h answer a pattern of http.ServeMux to who has a token.
func (s *Server) handle(pattern string, h handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		base := r.Context().Value(baseKey{}).(string)
		req := &request{Request: r, s: s, forgejo: base == "/api/v1", base: "http://" + r.Host + base}
		a := s.limited()
		if a.status == 0 {
			a = s.authorize(req)
		}
		if a.status == 0 {
			a = h(req)
		}
		s.write(w, r, a)
	})
}

// limited is the answer once no request is left.
func (s *Server) limited() answer {
	if s.limit < 0 || time.Now().After(s.reset) {
		s.limit = -1
		return answer{}
	}
	if s.limit == 0 {
		return refuse(http.StatusForbidden, "API rate limit exceeded for user ID 1.", "https://docs.github.com/rest/overview/resources-in-the-rest-api#rate-limiting")
	}
	s.limit--
	return answer{}
}

// authorize finds out who asks. Only the app's own endpoints know its JWT.
func (s *Server) authorize(r *request) answer {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "token") {
		return answer{} // anybody
	}
	if s.app != nil && strings.Count(token, ".") == 2 {
		return s.app.check(token, r)
	}
	a, ok := s.tokens[token]
	if !ok || !a.expires.IsZero() && time.Now().After(a.expires) {
		return refuse(http.StatusUnauthorized, "Bad credentials", "https://docs.github.com/rest")
	}
	r.as = a
	return answer{}
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, a answer) {
	h := w.Header()
	h.Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
	h.Set("X-RateLimit-Limit", "5000")
	remaining, reset := 4999, time.Now().Add(time.Hour)
	if s.limit >= 0 {
		remaining, reset = s.limit, s.reset
	}
	h.Set("X-RateLimit-Remaining", strconv.Itoa(remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
	if a.link != "" {
		h.Set("Link", a.link)
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	text, err := json.Marshal(a.body)
	if err != nil {
		panic(err)
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	if r.Method == http.MethodGet && a.status == http.StatusOK {
		sum := sha256.Sum256(text)
		tag := `W/"` + hex.EncodeToString(sum[:]) + `"`
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			if s.limit >= 0 {
				s.limit++ // it does not count
			}
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(a.status)
	w.Write(text)
}

// refuse is an error as GitHub tells it.
func refuse(status int, message, doc string) answer {
	return answer{status: status, body: map[string]any{"message": message, "documentation_url": doc, "status": strconv.Itoa(status)}}
}

func notFound() answer {
	return refuse(http.StatusNotFound, "Not Found", "https://docs.github.com/rest")
}

func ok(v any) answer { return answer{status: http.StatusOK, body: v} }

// page is the part of all that was asked for, with links to the others.
func page[T any](r *request, all []T) answer {
	q := r.URL.Query()
	name := "per_page"
	if r.forgejo {
		name = "limit"
	}
	per := number(q.Get(name), 30, 100)
	at := number(q.Get("page"), 1, 1<<30)
	last := max((len(all)+per-1)/per, 1)
	from := min((at-1)*per, len(all))
	to := min(from+per, len(all))
	var links []string
	link := func(n int, rel string) {
		q.Set("page", strconv.Itoa(n))
		links = append(links, fmt.Sprintf(`<%s%s?%s>; rel="%s"`, r.base, r.URL.EscapedPath(), q.Encode(), rel))
	}
	if at > 1 {
		link(at-1, "prev")
	}
	if at < last {
		link(at+1, "next")
		link(last, "last")
	}
	if at > 1 {
		link(1, "first")
	}
	a := ok(append([]T{}, all[from:to]...))
	a.link = strings.Join(links, ", ")
	return a
}

func number(s string, absent, most int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return absent
	}
	return min(n, most)
}

// decode reads what was sent.
func (r *request) decode(v any) bool { return json.NewDecoder(r.Body).Decode(v) == nil }

// id is a new one.
func (s *Server) id() int64 {
	s.lastID++
	return s.lastID
}

// Serve serves s on a free port of loopback, and returns its URL and how to end it.
func (s *Server) Serve() (string, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go h.Serve(l)
	return "http://" + l.Addr().String(), func() { h.Close() }, nil
}
