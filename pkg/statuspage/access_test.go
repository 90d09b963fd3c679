package statuspage

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
)

// TestNames: a page elsewhere whose name leads here is refused, whatever it asks for.
func TestNames(t *testing.T) {
	r := newRig(t, populated(time.Now()), func(c *Config) { c.Hosts = []string{"status.example.org"} })
	for host, want := range map[string]int{
		"localhost:1": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "status.example.org": 200,
		"evil.example.org": 421, "localhost:2": 421, "localhost": 421, "": 421, "status.example.org.evil.org": 421, "STATUS.example.org": 421,
	} {
		for _, path := range []string{"/", "/live", "/assets/page.js", "/healthz"} {
			if path == "/live" && want == 200 {
				continue // it does not end
			}
			w, req := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
			req.Host = host
			if r.server.Handler().ServeHTTP(w, req); w.Code != want {
				t.Errorf("%s of %q: %d, expected %d", path, host, w.Code, want)
			}
		}
	}
}

// TestPagesElsewhere may lead here; they can load nothing, and take up no stream.
func TestPagesElsewhere(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	for _, tc := range []struct {
		site, mode string
		want       int
	}{{"cross-site", "navigate", 200}, {"none", "navigate", 200}, {"same-origin", "cors", 200}, {"cross-site", "cors", 403}, {"cross-site", "no-cors", 403}, {"same-site", "no-cors", 403}} {
		for _, path := range []string{"/", "/assets/page.js", "/live"} {
			if path == "/live" && tc.want == 200 {
				continue // it does not end
			}
			w, req := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
			req.Host = "localhost:1"
			req.Header.Set("Sec-Fetch-Site", tc.site)
			req.Header.Set("Sec-Fetch-Mode", tc.mode)
			if r.server.Handler().ServeHTTP(w, req); w.Code != tc.want {
				t.Errorf("%s, %s: %s: %d, expected %d", path, tc.site, tc.mode, w.Code, tc.want)
			}
		}
	}
}

// TestHeaders: the browser is told to run, load and send nothing elsewhere, and no
// page that can be read without signing in sets a cookie.
func TestHeaders(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	for _, path := range append([]string{"/assets/page.js", "/assets/style.css", "/assets/icon.svg"}, allPages...) {
		resp, err := r.browser.Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := resp.Header
		csp := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, h)
		}
		if h.Get("Set-Cookie") != "" || h.Get("Access-Control-Allow-Origin") != "" || h.Get("Cache-Control") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// TestActions: an action is done for who has signed in, from a form of this page;
// for nobody else, and by no other method.
func TestActions(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	const restart = "/objects/Container/shop/restart"
	calls := func() []string {
		return slices.DeleteFunc(r.backend.Calls(), func(c string) bool { return strings.HasPrefix(c, "Logs") || strings.HasPrefix(c, "Plan") })
	}
	refused := func(what string, status int, body string) {
		t.Helper()
		if status != http.StatusForbidden || len(calls()) > 0 {
			t.Errorf("%s: %d %s, and the daemon was told %q", what, status, body, calls())
		}
	}
	status, body := r.post(restart, nil)
	refused("without a session", status, body)
	if _, body := r.get("/objects/Container/shop"); strings.Contains(body, `name="csrf"`) || !strings.Contains(body, `href="/login"`) {
		t.Error("an action is offered to who has not signed in")
	}
	word := r.signIn()
	status, body = r.post(restart, nil)
	refused("without the word of the session", status, body)
	status, body = r.post(restart, url.Values{"csrf": {"AAAA"}})
	refused("with another word", status, body)
	for _, header := range [][2]string{{"Origin", "https://evil.example.org"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		req, err := http.NewRequest("POST", r.url+restart, strings.NewReader(url.Values{"csrf": {word}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set(header[0], header[1])
		status, body := r.answer(r.browser.Do(req))
		refused("from a page elsewhere, "+header[1], status, body)
	}
	if status, _ := r.get(restart); status != http.StatusNotFound || len(calls()) > 0 {
		t.Errorf("by GET: %d", status)
	}
	if status, body := r.post(restart, url.Values{"csrf": {word}}); status != http.StatusOK || !strings.Contains(body, "asked for another start") {
		t.Errorf("restart: %d %s", status, body)
	}
	for verb, want := range map[string]string{"sync": "looked at", "suspend": "is suspended", "resume": "is resumed"} {
		if status, body := r.post("/sources/team/"+verb, url.Values{"csrf": {word}}); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", verb, status, body)
		}
	}
	if status, _ := r.post("/sources/team/release-deletes", url.Values{"csrf": {word}}); status != http.StatusNotFound {
		t.Errorf("another verb: %d", status)
	}
	if status, body := r.post("/sources/local/suspend", url.Values{"csrf": {word}}); status != http.StatusBadGateway || !strings.Contains(body, "source local is a directory") {
		t.Errorf("what the daemon refuses: %d %s", status, body)
	}
	got := calls()
	slices.Sort(got)
	if want := []string{"Restart container/shop", "SuspendSource local true", "SuspendSource team false", "SuspendSource team true", "SyncSource team"}; !slices.Equal(got, want) {
		t.Errorf("the daemon was told %q, expected %q", got, want)
	}
	if status, _ := r.post("/logout", nil); status != http.StatusOK {
		t.Errorf("sign out: %d", status)
	}
	if status, _ := r.post(restart, url.Values{"csrf": {word}}); status != http.StatusForbidden {
		t.Errorf("after signing out: %d", status)
	}
}

// TestForms: what comes with a request is bounded, and comes with no other than POST.
func TestForms(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	for name, tc := range map[string]struct {
		method string
		size   int
		want   int
	}{"a large form": {"POST", maxBody + 1, 400}, "a form": {"POST", maxBody / 2, 403}, "a body without use": {"GET", 10, 400}, "nothing": {"GET", 0, 200}} {
		req, err := http.NewRequest(tc.method, r.url+"/login", strings.NewReader(strings.Repeat("a", tc.size)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if status, body := r.answer(r.browser.Do(req)); status != tc.want {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// TestSession: its cookie is for this page alone, and it ends with its time and with
// another token.
func TestSession(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	w, req := httptest.NewRecorder(), httptest.NewRequest("POST", "/login", strings.NewReader("token="+testToken))
	req.Host = "localhost:1"
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Forwarded-Proto", "https")
	r.server.Handler().ServeHTTP(w, req)
	cookie := w.Header().Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Secure", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie is %q, without %s", cookie, want)
		}
	}
	if strings.Contains(cookie, testToken) {
		t.Errorf("the token is in the cookie")
	}
	r.signIn()
	signedIn := func() bool {
		_, body := r.get("/")
		return strings.Contains(body, "Sign out")
	}
	if !signedIn() {
		t.Fatal("nobody is signed in")
	}
	clock := r.server.now
	r.server.sessions.mu.Lock()
	for id, one := range r.server.sessions.byID {
		one.until = clock().Add(-time.Second)
		r.server.sessions.byID[id] = one
	}
	r.server.sessions.mu.Unlock()
	if signedIn() {
		t.Error("a session goes on after its time")
	}
	r.signIn()
	if err := os.Chmod(r.config.TokenFile, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.config.TokenFile, []byte(strings.Repeat("b", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if signedIn() {
		t.Error("a session goes on after its token was replaced")
	}
	if status, _ := r.post("/login", url.Values{"token": {testToken}}); status != http.StatusForbidden {
		t.Errorf("the token before: %d", status)
	}
}

// TestWrongTokens: after a few no more are looked at for a while, not even the right one.
func TestWrongTokens(t *testing.T) {
	now := time.Now()
	s := newSessions(func() ([]byte, error) { return []byte(testToken), nil })
	for i := range wrongBurst {
		if id, err := s.open("wrong", now); id != "" || err != nil {
			t.Fatalf("%d: %q %v", i, id, err)
		}
	}
	if _, err := s.open(testToken, now); err == nil || !strings.Contains(err.Error(), "Too many wrong tokens") {
		t.Errorf("after %d wrong ones: %v", wrongBurst, err)
	}
	if id, err := s.open(testToken, now.Add(wrongEach)); id == "" || err != nil {
		t.Errorf("later: %v", err)
	}
	for range 2 * maxSessions {
		if _, err := s.open(testToken, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.byID); n > maxSessions {
		t.Errorf("%d sessions", n)
	}
}

// TestLogsAreForWhoMay: what programs print, also where a status holds the end of
// it, is for who has signed in, unless the operator opened it to everybody.
func TestLogsAreForWhoMay(t *testing.T) {
	const printed = "DATABASE_PASSWORD=hunter2"
	state := populated(time.Now())
	state.Logs["container/shop"] = printed + "\n"
	state.Items[4].Status.Setup = &v1alpha1.SetupStatus{Revision: "b", Done: "a", Log: []string{printed}}
	paths := []string{"/objects/Container/shop", "/objects/Container/shop/logs", "/objects/Container/shop/logs/stream"}
	shown := func(r *rig, path string) bool {
		if strings.HasSuffix(path, "stream") {
			resp, err := r.browser.Get(r.url + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}
		_, body := r.get(path)
		return strings.Contains(body, printed)
	}
	for name, tc := range map[string]struct {
		change          func(*Config)
		without, within bool
	}{
		"a token":        {func(*Config) {}, false, true},
		"open logs":      {func(c *Config) { c.OpenLogs = true }, true, true},
		"no socket":      {func(c *Config) { c.OperateSocket, c.TokenFile = "", "" }, false, false},
		"open, no token": {func(c *Config) { c.OpenLogs, c.TokenFile = true, "" }, true, false},
	} {
		r := newRig(t, state, tc.change)
		for _, path := range paths {
			if got := shown(r, path); got != tc.without {
				t.Errorf("%s: %s shows it without signing in: %v", name, path, got)
			}
		}
		if r.config.TokenFile == "" {
			if status, _ := r.post("/objects/Container/shop/restart", nil); status != http.StatusForbidden {
				t.Errorf("%s: an action without a token: %d", name, status)
			}
			if status, _ := r.post("/login", url.Values{"token": {""}}); status != http.StatusNotFound {
				t.Errorf("%s: sign in: %d", name, status)
			}
			continue
		}
		r.signIn()
		for _, path := range paths {
			if got := shown(r, path); got != tc.within {
				t.Errorf("%s: %s shows it after signing in: %v", name, path, got)
			}
		}
	}
}

// TestConfig: everything that is wrong is told at once, with its place.
func TestConfig(t *testing.T) {
	load := func(text string) (*Config, error) {
		file := filepath.Join(t.TempDir(), "status.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadConfig(file)
	}
	c, err := load("{}\n")
	if err != nil || c.Listen != "127.0.0.1:9190" || c.Socket != "/run/tekton/read.sock" || c.OperateSocket != "" {
		t.Errorf("%+v %v", c, err)
	}
	if c, err = load("operateSocket: /run/tekton/operate.sock\ntokenFile: token\n"); err != nil || !filepath.IsAbs(c.TokenFile) {
		t.Errorf("%+v %v", c, err)
	}
	for text, want := range map[string][]string{
		"listen: 0.0.0.0:80\nhosts: [A.org]\nsocket: a\n": {"status.yaml:1:9: listen", "must be a loopback address", "hosts[0]", "must be a DNS name", "socket", "must be an absolute path"},
		"tokenFile: token\n":                              {"operateSocket: is required: logs and actions need it"},
		"operateSocket: /a\n":                             {"tokenFile: is required: write it", "is of no use"},
		"colour: red\n":                                   {"status.yaml:1:1", "colour"},
	} {
		_, err := load(text)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, without %q", text, err, w)
			}
		}
	}
}

// TestCheck: it finds a token that everybody may read, one that can be guessed, and
// a daemon that does not answer.
func TestCheck(t *testing.T) {
	r := newRig(t, populated(time.Now()))
	if err := r.config.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(r.config.TokenFile, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := r.config.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "everybody may read the token") {
		t.Error(err)
	}
	short := *r.config
	short.TokenFile = filepath.Join(t.TempDir(), "token")
	short.OperateSocket += "x"
	if err := os.WriteFile(short.TokenFile, []byte("secret\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	err := short.Check(t.Context())
	for _, want := range []string{"has less than 24 characters", "there is no socket"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, without %q", err, want)
		}
	}
}
