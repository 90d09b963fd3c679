package forgetest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tekton.host/pkg/forge"
)

// app is a GitHub App and where it is installed.
type app struct {
	id     int64
	slug   string
	key    *rsa.PublicKey
	life   time.Duration
	owners []string // installation n+1 is of the n-th
}

// asApp marks who came with the app's own token.
const asApp = "\x00app"

// check verifies an app's JSON web token as GitHub does.
func (a *app) check(token string, r *request) answer {
	bad := func(message string) answer {
		return refuse(http.StatusUnauthorized, message, "https://docs.github.com/rest")
	}
	part := strings.Split(token, ".")
	var head struct{ Alg string }
	var claims struct {
		Iat, Exp int64
		Iss      json.RawMessage
	}
	signature, err := base64.RawURLEncoding.DecodeString(part[2])
	if err != nil || !decodePart(part[0], &head) || !decodePart(part[1], &claims) || head.Alg != "RS256" {
		return bad("A JSON web token could not be decoded")
	}
	digest := sha256.Sum256([]byte(part[0] + "." + part[1]))
	if rsa.VerifyPKCS1v15(a.key, crypto.SHA256, digest[:], signature) != nil {
		return bad("A JSON web token could not be decoded")
	}
	t := time.Now().Add(r.s.ahead)
	switch {
	case strings.Trim(string(claims.Iss), `"`) != strconv.FormatInt(a.id, 10):
		return bad("Integration not found")
	case claims.Iat > t.Unix():
		return bad("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
	case claims.Exp <= t.Unix():
		return bad("'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
	case claims.Exp > t.Add(10*time.Minute).Unix():
		return bad("'Expiration time' claim ('exp') is too far in the future")
	}
	r.as = account{login: asApp}
	return answer{}
}

func decodePart(s string, v any) bool {
	text, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && json.Unmarshal(text, v) == nil
}

// needsApp refuses all others.
func (r *request) needsApp() (answer, bool) {
	if r.forgejo || r.as.login != asApp {
		return refuse(http.StatusUnauthorized, "A JSON web token could not be decoded", "https://docs.github.com/rest"), false
	}
	return answer{}, true
}

func (r *request) theApp() answer {
	if a, ok := r.needsApp(); !ok {
		return a
	}
	return ok(map[string]any{"id": r.s.app.id, "slug": r.s.app.slug, "name": r.s.app.slug, "owner": userJSON("acme")})
}

func (r *request) installation() answer {
	if a, ok := r.needsApp(); !ok {
		return a
	}
	repo := r.s.repos[key(forge.Repository{Owner: r.PathValue("owner"), Name: r.PathValue("repo")})]
	if repo == nil {
		return notFound()
	}
	i := slices.IndexFunc(r.s.app.owners, func(o string) bool { return strings.EqualFold(o, repo.name.Owner) })
	if i < 0 {
		return notFound()
	}
	return ok(map[string]any{"id": i + 1, "account": userJSON(repo.name.Owner), "app_id": r.s.app.id, "repository_selection": "all"})
}

func (r *request) accessToken() answer {
	if a, ok := r.needsApp(); !ok {
		return a
	}
	i := number(r.PathValue("id"), 0, len(r.s.app.owners)+1)
	if i < 1 || i > len(r.s.app.owners) {
		return notFound()
	}
	token := fmt.Sprintf("ghs_%036d", r.s.id())
	expires := time.Now().Add(r.s.app.life)
	r.s.tokens[token] = account{login: r.s.app.slug + "[bot]", owner: r.s.app.owners[i-1], expires: expires}
	return answer{status: http.StatusCreated, body: map[string]any{
		"token": token, "expires_at": expires.UTC().Format(time.RFC3339), "repository_selection": "all",
		"permissions": map[string]any{"pull_requests": "write", "issues": "write", "deployments": "write", "metadata": "read"},
	}}
}
