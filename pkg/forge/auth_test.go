package forge_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tekton.host/pkg/forge"
)

func TestApp(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"as GitHub gives it": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
		"PKCS 8":             {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		t.Run(name, func(t *testing.T) {
			s, url := serve(t)
			s.AddApp(42, "tekton-previews", &key.PublicKey, "other", "acme")
			c := client(t, forge.Options{URL: url, App: &forge.App{ID: "42", Key: func() ([]byte, error) { return pem.EncodeToMemory(block), nil }}})
			n := s.Open(shop, forge.PullRequest{Base: "main", Branch: "b", Commit: commit(1)})
			work := func() {
				t.Helper()
				id, err := c.SetComment(t.Context(), shop, n, 0, "x")
				if err != nil {
					t.Fatal(err)
				}
				got, err := c.Comments(t.Context(), shop, n)
				if err != nil || got[len(got)-1].ID != id || !got[len(got)-1].Ours || got[0].Author != "tekton-previews[bot]" {
					t.Errorf("%+v, %v", got, err)
				}
			}
			tokens := func() int {
				return len(slices.DeleteFunc(s.Requests(), func(r string) bool { return !strings.HasSuffix(r, "/access_tokens") }))
			}
			work()
			work()
			if got := tokens(); got != 1 {
				t.Errorf("asked for %d tokens, want one", got)
			}
			s.SetTokenLife(4 * time.Minute) // and revokes what is out: 401, and another
			work()
			if got := tokens(); got < 2 {
				t.Errorf("asked for %d tokens that end soon, want one each time", got)
			}
			hidden := forge.Repository{Owner: "third", Name: "x"}
			s.AddRepository(hidden)
			if _, err := c.PullRequest(t.Context(), hidden, 1); !errors.Is(err, forge.ErrNotFound) || !strings.Contains(err.Error(), "is it installed for third/x?") {
				t.Errorf("not installed: %v", err)
			}
			if _, err := c.PullRequest(t.Context(), hidden, 1); strings.Contains(err.Error(), "clock") {
				t.Errorf("clocks are alike: %v", err)
			}
			for _, ahead := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
				s.SetClock(ahead)
				if _, err := c.PullRequest(t.Context(), shop, n); err == nil || !strings.Contains(err.Error(), "clock and the forge's are 2h0m0s apart") {
					t.Errorf("a clock that is wrong: %v", err)
				}
			}
			s.SetClock(0)
			// Another key is refused, without a loop.
			s.AddApp(42, "tekton-previews", &rsa.PublicKey{N: key.N, E: 3}, "acme")
			if _, err := c.PullRequest(t.Context(), shop, n); err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("wrong key: %v", err)
			}
		})
	}
}

// TestLimitIsOfOneAccount: what one installation used up, another may ask.
func TestLimitIsOfOneAccount(t *testing.T) {
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	s, url := serve(t)
	other := forge.Repository{Owner: "other", Name: "x"}
	s.AddRepository(other)
	s.AddApp(42, "tekton-previews", &key.PublicKey, "other", "acme")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	c := client(t, forge.Options{URL: url, App: &forge.App{ID: "42", Key: func() ([]byte, error) { return text, nil }}})
	s.SetLimit(0, time.Now().Add(time.Hour))
	if _, err := c.OpenPullRequests(t.Context(), shop); err == nil {
		t.Fatal("no limit")
	}
	s.SetLimit(-1, time.Time{})
	if _, err := c.OpenPullRequests(t.Context(), shop); err == nil {
		t.Error("acme asks on")
	}
	if _, err := c.OpenPullRequests(t.Context(), other); err != nil {
		t.Error(err)
	}
}
