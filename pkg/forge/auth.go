package forge

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// authorizer knows with what to ask for a repository.
type authorizer interface {
	credential(ctx context.Context, r Repository) (string, error)
	// account that limits are counted for.
	account(r Repository) string
	// forget a credential that was refused; it reports whether another may be had.
	forget(r Repository) bool
}

// token is that of a user.
type token func() (string, error)

func (t token) credential(context.Context, Repository) (string, error) {
	s, err := t()
	if err != nil {
		return "", fmt.Errorf("read the forge's token: %w", err)
	}
	if s = strings.TrimSpace(s); s == "" || strings.ContainsAny(s, " \r\n") {
		return "", errors.New("the forge's token is empty, or more than a line")
	}
	return s, nil
}

func (t token) account(Repository) string { return "" }
func (t token) forget(Repository) bool    { return false }

// App is a GitHub App. Each account that has installed it is asked with a token
// of that installation, which GitHub gives out for an hour.
type App struct {
	// ID or client ID.
	ID string
	// Key is its private key in PEM, asked for when it is needed.
	Key func() ([]byte, error)
}

// Check reports whether its key can be used.
func (a App) Check() error {
	_, err := a.jwt(time.Now())
	return err
}

// jwt is the app's own token, as RFC 7519 and GitHub have it: for ten minutes at
// most, and from a minute ago, as clocks differ.
func (a App) jwt(now time.Time) (string, error) {
	text, err := a.Key()
	if err != nil {
		return "", fmt.Errorf("read the app's key: %w", err)
	}
	key, err := privateKey(text)
	if err != nil {
		return "", fmt.Errorf("the app's key: %w", err)
	}
	claims, err := json.Marshal(map[string]any{"iss": a.ID, "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix()})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc.EncodeToString(claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign with the app's key: %w", err)
	}
	return signed + "." + enc.EncodeToString(signature), nil
}

func privateKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not in PEM: take the file that GitHub gave you")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if rsaKey, ok := key.(*rsa.PrivateKey); err == nil && ok {
		return rsaKey, nil
	}
	return nil, errors.New("it is no RSA key")
}

// renewBefore its end a token is no longer used.
const renewBefore = 5 * time.Minute

// installations of an app, each with the token that it was given last.
type installations struct {
	app App
	api *API

	mu      sync.Mutex
	byOwner map[string]*installation
}

type installation struct {
	mu      sync.Mutex // one asks for a token, the others wait for it
	id      int64
	token   string
	expires time.Time
}

func (i *installations) account(r Repository) string { return strings.ToLower(r.Owner) }

func (i *installations) of(r Repository) *installation {
	i.mu.Lock()
	defer i.mu.Unlock()
	in := i.byOwner[i.account(r)]
	if in == nil {
		in = &installation{}
		i.byOwner[i.account(r)] = in
	}
	return in
}

func (i *installations) credential(ctx context.Context, r Repository) (string, error) {
	in := i.of(r)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.token != "" && time.Until(in.expires) > renewBefore {
		return in.token, nil
	}
	if in.id == 0 {
		found, _, err := ask[struct{ ID int64 }](ctx, i.api, call{repo: r, app: true, method: http.MethodGet, path: path("repos", r.Owner, r.Name, "installation")})
		if err != nil {
			return "", fmt.Errorf("find the app's installation, is it installed for %s? %w", r, err)
		}
		in.id = found.ID
	}
	got, _, err := ask[struct {
		Token   string
		Expires time.Time `json:"expires_at"`
	}](ctx, i.api, call{repo: r, app: true, method: http.MethodPost, path: path("app", "installations", strconv.FormatInt(in.id, 10), "access_tokens")})
	if errors.Is(err, ErrNotFound) {
		in.id = 0 // installed anew, it has another
	}
	if err != nil {
		return "", fmt.Errorf("get a token for the app: %w", err)
	}
	if got.Token == "" {
		return "", errors.New("get a token for the app: the answer has none")
	}
	in.token, in.expires = got.Token, got.Expires
	return in.token, nil
}

func (i *installations) forget(r Repository) bool {
	in := i.of(r)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.token = ""
	return true
}
