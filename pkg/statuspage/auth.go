package statuspage

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	cookieName = "tekton_session"
	// sessionFor is how long somebody is signed in.
	sessionFor  = 12 * time.Hour
	maxSessions = 64
	// wrongBurst wrong tokens may come at once, then one each wrongEach, from all
	// together: behind a reverse proxy all have one address.
	wrongBurst = 5
	wrongEach  = 10 * time.Second
)

// sessions of those who have shown the token. They are kept in memory: a restart
// ends them, and so does another token.
type sessions struct {
	token func() ([]byte, error)
	wrong *rate.Limiter

	mu   sync.Mutex
	byID map[[sha256.Size]byte]session
}

type session struct {
	// csrf goes with every form, and no page elsewhere knows it.
	csrf  string
	until time.Time
	token [sha256.Size]byte
}

func newSessions(token func() ([]byte, error)) *sessions {
	return &sessions{token: token, wrong: rate.NewLimiter(rate.Every(wrongEach), wrongBurst), byID: map[[sha256.Size]byte]session{}}
}

// open a session for who has the token; "": it is another one.
func (s *sessions) open(given string, now time.Time) (id string, err error) {
	if s.wrong.TokensAt(now) < 1 {
		return "", &failure{http.StatusTooManyRequests, "Too many wrong tokens came in.", "Wait ten seconds, then try again."}
	}
	token, err := s.token()
	if err != nil {
		return "", err
	}
	want, got := sha256.Sum256(token), sha256.Sum256([]byte(given))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		s.wrong.AllowN(now, 1)
		return "", nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune(now)
	id = rand.Text()
	s.byID[sha256.Sum256([]byte(id))] = session{csrf: rand.Text(), until: now.Add(sessionFor), token: want}
	return id, nil
}

// prune what is over, and the oldest where there are too many.
func (s *sessions) prune(now time.Time) {
	for len(s.byID) > 0 {
		var oldest [sha256.Size]byte
		for id, one := range s.byID {
			if first, ok := s.byID[oldest]; !ok || one.until.Before(first.until) {
				oldest = id
			}
		}
		if s.byID[oldest].until.After(now) && len(s.byID) < maxSessions {
			return
		}
		delete(s.byID, oldest)
	}
}

// of a request; nil: nobody is signed in.
func (s *sessions) of(r *http.Request, now time.Time) *session {
	if s == nil {
		return nil
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	one, ok := s.byID[sha256.Sum256([]byte(cookie.Value))]
	s.mu.Unlock()
	if !ok || !one.until.After(now) {
		return nil
	}
	token, err := s.token()
	if err != nil || sha256.Sum256(token) != one.token {
		return nil
	}
	return &one
}

func (s *sessions) close(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byID, sha256.Sum256([]byte(cookie.Value)))
	}
}

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.Header.Get("X-Forwarded-Proto") == "https",
	})
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) error {
	if s.sessions == nil {
		return s.nothing(w, r)
	}
	return s.show(w, r, http.StatusOK, "login", "Sign in", "")
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	if s.sessions == nil {
		return s.nothing(w, r)
	}
	id, err := s.sessions.open(r.PostFormValue("token"), s.now())
	if err != nil {
		return err
	}
	if id == "" {
		s.log.Info("a wrong token was given")
		return s.show(w, r, http.StatusForbidden, "login", "Sign in", "This is not the token. It is in the file that tokenFile of the configuration names.")
	}
	s.setCookie(w, r, id, int(sessionFor.Seconds()))
	s.log.Info("somebody signed in")
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if s.sessions != nil {
		s.sessions.close(r)
	}
	s.setCookie(w, r, "", -1)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// mayReadLogs says whether what programs print is for who asks.
func (s *Server) mayReadLogs(r *http.Request) bool {
	return s.operator != nil && (s.config.OpenLogs || s.sessions.of(r, s.now()) != nil)
}
