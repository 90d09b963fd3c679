package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/forge"
	"tekton.host/pkg/forge/forgetest"
)

const secretToken = "ghp_the-token-that-nobody-may-see"

func commit(i int) string { return fmt.Sprintf("%040x", i) }

// serve is a fake forge with a repository, and where it is.
func serve(t testing.TB) (*forgetest.Server, string) {
	t.Helper()
	s := forgetest.New()
	s.AddRepository(shop)
	s.AddToken(secretToken, "tekton-bot")
	s.Grant(shop, "tekton-bot", "write")
	url, stop, err := s.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s, url
}

func client(t testing.TB, o forge.Options) *forge.API {
	t.Helper()
	if o.Token == nil && o.App == nil {
		o.Token = func() (string, error) { return secretToken + "\n", nil }
	}
	if o.Service == "" {
		o.Service = forge.GitHub
	}
	c, err := forge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPullRequests(t *testing.T) {
	for _, service := range []forge.Service{forge.GitHub, forge.Forgejo} {
		t.Run(string(service), func(t *testing.T) {
			s, url := serve(t)
			c := client(t, forge.Options{Service: service, URL: url})
			for i := range 95 {
				s.Open(shop, forge.PullRequest{Base: "main", Branch: fmt.Sprintf("b%d", i), Commit: commit(i), Author: "dev", Draft: i%3 == 0, Fork: i%5 == 0, Labels: []string{"l"}})
			}
			s.OpenAGit(shop, forge.PullRequest{Base: "main", Commit: commit(95), Author: "stranger"})
			for n := 2; n <= 95; n += 7 {
				s.Close(shop, n)
			}
			s.Push(shop, 1, commit(1000))
			var want []forge.PullRequest
			for _, p := range s.PullRequests(shop) {
				got, err := c.PullRequest(t.Context(), shop, p.Number)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(p, got); diff != "" {
					t.Fatalf("-want +got:\n%s", diff)
				}
				if p.Open {
					want = append(want, p)
				}
			}
			for range 2 { // the second time most of it has not changed
				got, err := c.OpenPullRequests(t.Context(), shop)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
			if _, err := c.PullRequest(t.Context(), shop, 97); !errors.Is(err, forge.ErrNotFound) {
				t.Errorf("none: %v", err)
			}
			if _, err := c.OpenPullRequests(t.Context(), forge.Repository{Owner: "acme", Name: "other"}); !errors.Is(err, forge.ErrNotFound) {
				t.Errorf("no repository: %v", err)
			}
		})
	}
}

// TestUnchangedIsFree: what was asked before and is the same uses no limit up.
func TestUnchangedIsFree(t *testing.T) {
	s, url := serve(t)
	c := client(t, forge.Options{URL: url})
	for i := range 40 {
		s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(i)})
	}
	s.SetLimit(3, time.Now().Add(time.Hour)) // two pages
	for range 5 {
		list, err := c.OpenPullRequests(t.Context(), shop)
		if err != nil || len(list) != 40 {
			t.Fatalf("%d, %v", len(list), err)
		}
	}
}

// TestFullPageGrows: what comes after a last page that was full is seen, though that
// page has not changed since.
func TestFullPageGrows(t *testing.T) {
	for _, service := range []forge.Service{forge.GitHub, forge.Forgejo} {
		t.Run(string(service), func(t *testing.T) {
			s, url := serve(t)
			c := client(t, forge.Options{Service: service, URL: url})
			open := func(i int) int {
				return s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(i)})
			}
			n := open(0)
			for i := range 29 {
				open(i)
				s.Say(shop, n, "dev", fmt.Sprint(i))
			}
			s.Say(shop, n, "dev", "29")
			for want := 30; want <= 61; want++ {
				for range 2 { // the second time it has not changed
					if got, err := c.OpenPullRequests(t.Context(), shop); err != nil || len(got) != want {
						t.Fatalf("%d pull requests, %v, want %d", len(got), err, want)
					}
					if got, err := c.Comments(t.Context(), shop, n); err != nil || len(got) != want {
						t.Fatalf("%d comments, %v, want %d", len(got), err, want)
					}
				}
				open(want)
				s.Say(shop, n, "dev", fmt.Sprint(want))
			}
		})
	}
}

func TestComments(t *testing.T) {
	for _, service := range []forge.Service{forge.GitHub, forge.Forgejo} {
		t.Run(string(service), func(t *testing.T) {
			s, url := serve(t)
			c := client(t, forge.Options{Service: service, URL: url})
			n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(1)})
			for i := range 64 {
				s.Say(shop, n, "dev", fmt.Sprint(i))
			}
			id, err := c.SetComment(t.Context(), shop, n, 0, "ours")
			if err != nil {
				t.Fatal(err)
			}
			if again, err := c.SetComment(t.Context(), shop, n, id, "ours, edited"); err != nil || again != id {
				t.Errorf("%d, %v", again, err)
			}
			got, err := c.Comments(t.Context(), shop, n)
			if err != nil || len(got) != 65 {
				t.Fatalf("%d, %v", len(got), err)
			}
			for i, g := range got[:64] {
				if g.Body != fmt.Sprint(i) || g.Author != "dev" || g.Ours {
					t.Errorf("%d: %+v", i, g)
				}
			}
			if last := got[64]; last.ID != id || !last.Ours || last.Body != "ours, edited" || last.Author != "tekton-bot" || time.Since(last.Created) > time.Hour {
				t.Errorf("%+v", last)
			}
			if err := s.Unsay(shop, id); err != nil {
				t.Fatal(err)
			}
			if _, err := c.SetComment(t.Context(), shop, n, id, "x"); !errors.Is(err, forge.ErrNotFound) {
				t.Errorf("deleted: %v", err)
			}
			if _, err := c.SetComment(t.Context(), shop, 77, 0, "x"); !errors.Is(err, forge.ErrNotFound) {
				t.Errorf("of no pull request: %v", err)
			}
		})
	}
}

// TestImportedComments: who writes at another forge is nobody here, whatever name
// the comment is shown under once it was brought here.
func TestImportedComments(t *testing.T) {
	for _, service := range []forge.Service{forge.GitHub, forge.Forgejo} {
		t.Run(string(service), func(t *testing.T) {
			s, url := serve(t)
			c := client(t, forge.Options{Service: service, URL: url})
			n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(1)})
			s.Import(shop, n, "acme", "as the owner of a repository elsewhere")
			s.Import(shop, n, "tekton-bot", "as ourselves elsewhere")
			s.Say(shop, n, "acme", "here")
			for range 2 { // answered anew, and from memory
				got, err := c.Comments(t.Context(), shop, n)
				if err != nil || len(got) != 3 {
					t.Fatalf("%+v, %v", got, err)
				}
				if got[0].Author != "" || got[1].Author != "" || got[1].Ours || got[2].Author != "acme" {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// TestLongComments: who writes much fills no memory of ours.
func TestLongComments(t *testing.T) {
	s, url := serve(t)
	c := client(t, forge.Options{URL: url})
	n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(1)})
	long := strings.Repeat("ü", 65536)
	for range 40 {
		s.Say(shop, n, "dev", long)
	}
	for range 2 {
		got, err := c.Comments(t.Context(), shop, n)
		if err != nil || len(got) != 40 {
			t.Fatalf("%d, %v", len(got), err)
		}
		for _, g := range got {
			if len(g.Body) != 32<<10 || !strings.HasPrefix(long, g.Body) {
				t.Fatalf("%d bytes", len(g.Body))
			}
		}
	}
}

func TestMayWrite(t *testing.T) {
	for _, service := range []forge.Service{forge.GitHub, forge.Forgejo} {
		t.Run(string(service), func(t *testing.T) { testMayWrite(t, service) })
	}
}

func testMayWrite(t *testing.T, service forge.Service) {
	s, url := serve(t)
	c := client(t, forge.Options{Service: service, URL: url})
	s.Grant(shop, "adm", "admin")
	// Forgejo tells only administrators: that is an error, and no answer.
	if may, err := c.MayWrite(t.Context(), shop, "adm"); may == (service == forge.Forgejo) || errors.Is(err, forge.ErrRefused) != (service == forge.Forgejo) {
		t.Errorf("%v, %v", may, err)
	}
	s.Grant(shop, "tekton-bot", "admin")
	for user, permission := range map[string]string{"adm": "admin", "wri": "write", "rea": "read"} {
		s.Grant(shop, user, permission)
	}
	s.Grant(shop, "bot[bot]", "write")
	for user, want := range map[string]bool{"adm": true, "WRI": true, "rea": false, "stranger": false, "nobody": false, "bot[bot]": true, "acme": true, "": false, "..": false, "../../../user": false, "wri/x": false} {
		got, err := c.MayWrite(t.Context(), shop, user)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", user, got, err, want)
		}
	}
}

// TestLimits: a limit is an error that says how long, and until then nothing is asked.
func TestLimits(t *testing.T) {
	tests := map[string]struct {
		set      func(s *forgetest.Server)
		from, to time.Duration
		pauses   bool
	}{
		"primary":                  {func(s *forgetest.Server) { s.SetLimit(0, time.Now().Add(20*time.Minute)) }, 19 * time.Minute, 21 * time.Minute, true},
		"secondary":                {func(s *forgetest.Server) { s.SetFault(forgetest.SecondaryLimit(90 * time.Second)) }, 90 * time.Second, 90 * time.Second, true},
		"secondary without header": {func(s *forgetest.Server) { s.SetFault(forgetest.SecondaryLimit(0)) }, time.Minute, time.Minute, true},
		"bad gateway":              {func(s *forgetest.Server) { s.SetFault(forgetest.Unavailable(502)) }, time.Second, time.Minute, false},
		"slow":                     {func(s *forgetest.Server) { s.SetFault(forgetest.Slow(time.Minute)) }, time.Second, time.Minute, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, url := serve(t)
			c := client(t, forge.Options{URL: url, Timeout: 200 * time.Millisecond})
			tt.set(s)
			_, err := c.PullRequest(t.Context(), shop, 1)
			retry, ok := errors.AsType[*forge.RetryError](err)
			if !ok || retry.After < tt.from || retry.After > tt.to || retry.Limit != tt.pauses {
				t.Fatalf("%v: %+v", err, retry)
			}
			s.SetFault(nil)
			s.SetLimit(-1, time.Time{})
			s.Requests()
			_, err = c.PullRequest(t.Context(), shop, 1)
			if again, ok := errors.AsType[*forge.RetryError](err); ok != tt.pauses || ok && !again.Limit || tt.pauses == (len(s.Requests()) > 0) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestLimitEnds: once the limit is over it is asked again.
func TestLimitEnds(t *testing.T) {
	s, url := serve(t)
	c := client(t, forge.Options{URL: url})
	n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(1)})
	s.SetLimit(0, time.Now())
	if _, err := c.PullRequest(t.Context(), shop, n); err != nil { // over by now, or paused for a second
		retry, ok := errors.AsType[*forge.RetryError](err)
		if !ok || retry.After > 2*time.Second {
			t.Fatal(err)
		}
		time.Sleep(retry.After)
		if _, err := c.PullRequest(t.Context(), shop, n); err != nil {
			t.Error(err)
		}
	}
}

// TestRefused: what we may not do is no limit.
func TestRefused(t *testing.T) {
	s, url := serve(t)
	s.AddToken("reader", "stranger")
	c := client(t, forge.Options{URL: url, Token: func() (string, error) { return "reader", nil }})
	n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(1)})
	id := s.Say(shop, n, "dev", "x")
	_, err := c.SetComment(t.Context(), shop, n, id, "y")
	if _, ok := errors.AsType[*forge.RetryError](err); ok || !errors.Is(err, forge.ErrRefused) {
		t.Errorf("%v", err)
	}
	if got := s.Comments(shop, n)[0].Body; got != "x" {
		t.Errorf("it is %q now", got)
	}
}

// TestRefusalSaysWhatIsMissing: a permission, as GitHub names it.
func TestRefusalSaysWhatIsMissing(t *testing.T) {
	s, url := serve(t)
	s.SetFault(forgetest.Forbidden("issues=write; pull_requests=write"))
	_, err := client(t, forge.Options{URL: url}).SetComment(t.Context(), shop, 1, 0, "x")
	if !errors.Is(err, forge.ErrRefused) || !strings.Contains(err.Error(), `It needs "issues=write; pull_requests=write"`) {
		t.Errorf("%v", err)
	}
}

func TestCancelled(t *testing.T) {
	s, url := serve(t)
	c := client(t, forge.Options{URL: url})
	s.SetFault(forgetest.Slow(time.Minute))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.PullRequest(ctx, shop, 1)
	if _, ok := errors.AsType[*forge.RetryError](err); ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestNotLedAway: a redirect to elsewhere is an error, and the token stays here.
func TestNotLedAway(t *testing.T) {
	var visits atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { visits.Add(1) }))
	defer other.Close()
	s, url := serve(t)
	c := client(t, forge.Options{URL: url})
	for _, status := range []int{301, 302, 307, 308} {
		s.SetFault(forgetest.Redirect(status, other.URL))
		_, err := c.PullRequest(t.Context(), shop, 1)
		if _, ok := errors.AsType[*forge.RetryError](err); ok || err == nil || !strings.Contains(err.Error(), "not followed") {
			t.Errorf("%d: %v", status, err)
		}
		if _, err := c.SetComment(t.Context(), shop, 1, 0, "x"); err == nil || !strings.Contains(err.Error(), "not followed") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("%d visits elsewhere", n)
	}
	// A repository that was renamed is found where it is now.
	n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(1)})
	s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
		path, old := strings.CutPrefix(r.URL.Path, "/api/v3/repos/acme/store/")
		if old {
			http.Redirect(w, r, url+"/api/v3/repos/acme/shop/"+path, http.StatusMovedPermanently)
		}
		return old
	})
	if p, err := c.PullRequest(t.Context(), forge.Repository{Owner: "acme", Name: "store"}, n); err != nil || p.Number != n {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestNoTokenInErrors: whatever a forge answers, even the token itself.
func TestNoTokenInErrors(t *testing.T) {
	for _, status := range []int{200, 301, 400, 401, 403, 404, 422, 429, 500} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"message":"you sent %s\u001b[31m\n"}`, r.Header.Get("Authorization"))
		}))
		c := client(t, forge.Options{URL: h.URL})
		_, err := c.PullRequest(t.Context(), shop, 1)
		if err == nil || strings.Contains(err.Error(), secretToken) || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%d: %v", status, err)
		}
		h.Close()
	}
}

// TestAnswersAreNotBelieved: what others rely on is checked.
func TestAnswersAreNotBelieved(t *testing.T) {
	good := `{"number":1,"state":"open","head":{"ref":"b","sha":"` + commit(1) + `","repo":{"id":1}},"base":{"ref":"main","repo":{"id":1}}}`
	for answer, want := range map[string]string{
		good: "",
		strings.Replace(good, `:1,"s`, `:2,"s`, 1):            "got 2",
		strings.Replace(good, "open", "locked", 1):            "neither open nor closed",
		strings.Replace(good, commit(1), "HEAD", 1):           "is no commit",
		strings.Replace(good, `"b"`, `"a\nb"`, 1):             "no proper branch",
		strings.Replace(good, `"main"`, `""`, 1):              "no proper branch",
		`[]`:                                                  "not what was expected",
		``:                                                    "not what was expected",
		`{"number":1`:                                         "not what was expected",
		`"` + strings.Repeat("x", 17<<20) + `"`:               "more than 16777216 bytes",
		strings.Replace(good, `{"id":1}`, `null`, 1):          "",
		strings.Replace(good, `"b"`, `"refs/pull/1/head"`, 1): "",
		strings.Replace(good, `{`, `{"flow":1,`, 1):           "",
	} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		p, err := client(t, forge.Options{URL: h.URL}).PullRequest(t.Context(), shop, 1)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.80s: %v", answer, err)
		}
		if err == nil && p.Fork != (answer != good) {
			t.Errorf("%s: fork %v", answer, p.Fork)
		}
		h.Close()
	}
}

// TestOddIsLeftOut: what is odd in a list is told, and keeps nothing from the others,
// also when the list is remembered.
func TestOddIsLeftOut(t *testing.T) {
	one := func(n int, branch, sha string) string {
		return fmt.Sprintf(`{"number":%d,"state":"open","head":{"ref":%q,"sha":%q,"repo":{"id":1}},"base":{"ref":"main","repo":{"id":1}}}`, n, branch, sha)
	}
	list := strings.Join([]string{one(1, "a", commit(1)), one(2, "a", ""), one(3, strings.Repeat("x", 256), commit(3)), "null", `{"number":"5"}`, `"6"`, one(7, "a", commit(7))}, ",")
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, "[%s]", list)
	}))
	defer h.Close()
	c := client(t, forge.Options{URL: h.URL})
	for range 2 {
		got, err := c.OpenPullRequests(t.Context(), shop)
		if _, odd := errors.AsType[*forge.OddError](err); !odd || !strings.Contains(err.Error(), "pull request 2 ") || !strings.Contains(err.Error(), "pull request 3:") {
			t.Error(err)
		}
		if len(got) != 2 || got[0].Number != 1 || got[1].Number != 7 || got[1].Commit != commit(7) {
			t.Errorf("%+v", got)
		}
	}
}

func TestNew(t *testing.T) {
	tok := func() (string, error) { return "x", nil }
	for name, o := range map[string]forge.Options{
		"plain http":        {Service: forge.GitHub, URL: "http://git.example.org", Token: tok},
		"no credential":     {Service: forge.GitHub},
		"two":               {Service: forge.GitHub, Token: tok, App: &forge.App{}},
		"app of Forgejo":    {Service: forge.Forgejo, URL: "https://git.example.org", App: &forge.App{}},
		"no URL of Forgejo": {Service: forge.Forgejo, Token: tok},
		"other service":     {Service: "gitlab", URL: "https://git.example.org", Token: tok},
		"password in URL":   {Service: forge.GitHub, URL: "https://me:pw@git.example.org", Token: tok},
		"no host":           {Service: forge.GitHub, URL: "git.example.org", Token: tok},
	} {
		if _, err := forge.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, bad := range []string{"", "two\nlines", "with space"} {
		c := client(t, forge.Options{URL: "http://127.0.0.1:1", Token: func() (string, error) { return bad, nil }})
		if _, err := c.PullRequest(t.Context(), shop, 1); err == nil || !strings.Contains(err.Error(), "token is empty, or more than a line") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
