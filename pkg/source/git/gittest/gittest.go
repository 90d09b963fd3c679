package gittest

import (
	"bytes"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Dir is a temporary directory that git's user can come through.
func Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Remote is a repository on a server, and somebody's clone of it.
type Remote struct {
	t           testing.TB
	Bare, Clone string
}

// New returns an empty repository with the branch main.
func New(t testing.TB) *Remote {
	t.Helper()
	dir := Dir(t)
	r := &Remote{t: t, Bare: filepath.Join(dir, "srv", "specs.git"), Clone: filepath.Join(dir, "clone")}
	r.Run("", "init", "--quiet", "--bare", "--initial-branch=main", r.Bare)
	r.Run("", "-C", r.Bare, "config", "receive.denyDeleteCurrent", "ignore")
	r.Run("", "init", "--quiet", "--initial-branch=main", r.Clone)
	r.Git("remote", "add", "origin", r.Bare)
	return r
}

// Run runs git as somebody with a plain configuration.
func (r *Remote) Run(stdin string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org",
		"GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org",
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// Git runs git in the clone.
func (r *Remote) Git(args ...string) string {
	r.t.Helper()
	return r.Run("", append([]string{"-C", r.Clone}, args...)...)
}

// Write puts a file into the clone.
func (r *Remote) Write(file, content string) {
	r.t.Helper()
	path := filepath.Join(r.Clone, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// Commit commits all of the clone and returns the id.
func (r *Remote) Commit(args ...string) string {
	r.t.Helper()
	r.Git("add", "--all")
	r.Git(append([]string{"commit", "--quiet", "--allow-empty", "-m", "change"}, args...)...)
	return r.Git("rev-parse", "HEAD")
}

// Push commits files, content by name, and pushes; no content removes the file.
func (r *Remote) Push(files map[string]string) string {
	r.t.Helper()
	for name, content := range files {
		if content == "" {
			r.Git("rm", "--force", "--quiet", "--ignore-unmatch", name)
			continue
		}
		r.Write(name, content)
	}
	id := r.Commit()
	r.Git("push", "--quiet", "--force", "origin", "HEAD:main")
	return id
}

// Server serves a Remote over smart HTTP.
type Server struct {
	*httptest.Server
	Requests atomic.Int32
	mu       sync.Mutex
	before   func(w http.ResponseWriter, r *http.Request) (answered bool)
}

// Serve serves a repository over smart HTTP.
func Serve(t testing.TB, r *Remote) *Server {
	t.Helper()
	s := &Server{}
	backend := &cgi.Handler{
		Path: "/usr/lib/git-core/git-http-backend", Root: "/", Dir: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.Bare), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.Requests.Add(1)
		s.mu.Lock()
		before := s.before
		s.mu.Unlock()
		if before != nil && before(w, req) {
			return
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	return s
}

// Intercept has requests seen by f first.
func (s *Server) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Address of the repository.
func (s *Server) Address() string { return s.URL + "/specs.git" }

// Demand has a server ask for a user name and token, for Intercept.
func Demand(user, token string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if u, p, _ := req.BasicAuth(); u == user && p == token {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="forge"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// Hang has the server answer nobody until release is called.
func (s *Server) Hang() (release func()) {
	held := make(chan struct{})
	s.Intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		select {
		case <-held:
			return false
		case <-req.Context().Done():
			return true
		}
	})
	return sync.OnceFunc(func() { close(held) })
}
