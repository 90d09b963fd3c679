package forge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAPIURL(t *testing.T) {
	for _, tt := range []struct {
		service   Service
		url, want string
	}{
		{GitHub, "", "https://api.github.com"},
		{GitHub, "https://github.com/", "https://api.github.com"},
		{GitHub, "https://api.github.com", "https://api.github.com"},
		{GitHub, "https://acme.ghe.com", "https://api.acme.ghe.com"},
		{GitHub, "https://git.example.org:8443", "https://git.example.org:8443/api/v3"},
		{Forgejo, "https://codeberg.org/", "https://codeberg.org/api/v1"},
		{Forgejo, "https://example.org/git/", "https://example.org/git/api/v1"},
		{Forgejo, "http://[::1]:3000", "http://[::1]:3000/api/v1"},
	} {
		if got, err := apiURL(tt.service, tt.url); err != nil || got != tt.want {
			t.Errorf("%s %q: %q, %v, want %q", tt.service, tt.url, got, err, tt.want)
		}
	}
}

func TestNextPage(t *testing.T) {
	for link, want := range map[string]int{
		`<https://api.github.com/repositories/1/pulls?per_page=30&page=2>; rel="next", <https://api.github.com/repositories/1/pulls?per_page=30&page=5>; rel="last"`: 2,
		`<https://x/?page=1>; rel="prev", <https://x/?page=3>; rel="next"`:                                                                                           3,
		`<https://x/?page=1>; rel="prev"`:                                0,
		`<https://x/?page=1>; rel="prev", <https://x/?page=9>; rel=next`: 9,
		`<https://x/?page=x>; rel="next"`:                                0,
		`<://>; rel="next"`:                                              0,
		``:                                                               0,
	} {
		if got := nextPage(link); got != want {
			t.Errorf("%s: %d, want %d", link, got, want)
		}
	}
}

func TestLimit(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		status int
		header map[string]string
		said   string
		after  time.Duration
		is     bool
	}{
		"primary":                {403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772367000"}, "", 10*time.Minute + time.Second, true},
		"primary, 429":           {429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772367000"}, "", 10*time.Minute + time.Second, true},
		"over by our clock":      {403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772366000"}, "", time.Second, true},
		"without a sane end":     {403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}, "", time.Hour + time.Minute, true},
		"without an end":         {403, map[string]string{"X-RateLimit-Remaining": "0"}, "", time.Minute, true},
		"secondary":              {403, map[string]string{"Retry-After": "30", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772367000"}, "", 30 * time.Second, true},
		"secondary, silent":      {403, nil, "You have exceeded a secondary rate limit", time.Minute, true},
		"nonsense":               {429, map[string]string{"Retry-After": "-5"}, "", time.Second, true},
		"forbidden":              {403, map[string]string{"X-RateLimit-Remaining": "4999"}, "Resource not accessible by integration", 0, false},
		"not found":              {404, map[string]string{"X-RateLimit-Remaining": "0"}, "", 0, false},
		"too many, nothing more": {429, nil, "", time.Minute, true},
	} {
		h := http.Header{}
		for k, v := range tt.header {
			h.Set(k, v)
		}
		after, is := limit(response{status: tt.status, header: h}, tt.said, now)
		if after != tt.after || is != tt.is {
			t.Errorf("%s: %v, %v, want %v, %v", name, after, is, tt.after, tt.is)
		}
	}
}

// TestKnownIsBounded: answers are remembered up to a size, each and all of them.
func TestKnownIsBounded(t *testing.T) {
	c := &API{known: map[string]known{}}
	for i := range 1000 {
		c.remember(fmt.Sprint(i%900), known{text: make([]byte, maxKnownAnswer-i)})
		sum := 0
		for _, k := range c.known {
			sum += len(k.text)
		}
		if sum != c.knownSize || sum > maxKnown {
			t.Fatalf("%d bytes, counted %d", sum, c.knownSize)
		}
	}
	c.remember("0", known{text: make([]byte, maxKnownAnswer+1)})
	if k := c.remembered("0"); k.text != nil {
		t.Errorf("%d bytes of one answer", len(k.text))
	}
}

func TestShortened(t *testing.T) {
	if got := shortened(strings.Repeat("ü", 141)); got != strings.Repeat("ü", 139)+"…" {
		t.Error(got)
	}
	if s := strings.Repeat("ü", 140); shortened(s) != s {
		t.Error("140 are not too many")
	}
}

// FuzzPull: whatever a forge answers, what goes on is what it says it is.
func FuzzPull(f *testing.F) {
	f.Add([]byte(`{"number":1,"state":"open","labels":[{"name":"x"}],"head":{"ref":"b","sha":"` + strings.Repeat("a", 40) + `","repo":{"id":1}},"base":{"ref":"main","repo":{"id":1}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var w wirePull
		if json.Unmarshal(text, &w) != nil {
			return
		}
		p, err := w.value()
		if err != nil {
			return
		}
		if p.Number < 1 || len(p.Branch) == 0 || len(p.Branch) > maxBranch || len(p.Base) == 0 || len(p.Base) > maxBranch || strings.Trim(p.Commit, "0123456789abcdef") != "" || strings.ContainsAny(p.Branch+p.Base, "\n\x00\x1b") {
			t.Errorf("%+v", p)
		}
		if !p.Fork && (w.Head.Repo == nil || w.Base.Repo == nil) {
			t.Errorf("of no repository, and yet no fork: %+v", p)
		}
	})
}
