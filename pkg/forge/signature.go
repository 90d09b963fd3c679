package forge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
)

// ErrSignature is a delivery that none of the secrets has signed.
var ErrSignature = errors.New("no signature by any of the secrets")

// signatureHeaders in the order in which they are asked for; the first that is
// there counts, so that a wrong one is not made good by another.
var signatureHeaders = []string{"X-Hub-Signature-256", "X-Forgejo-Signature", "X-Gitea-Signature"}

// Verify checks that one of the secrets has signed a delivery's body as it came.
// Without a secret nothing is believed. What it costs in time says nothing of
// the secrets, nor which of them it was.
func Verify(h http.Header, body []byte, secrets ...[]byte) error {
	said, err := hex.DecodeString(strings.TrimPrefix(first(h, signatureHeaders...), "sha256="))
	if err != nil {
		return ErrSignature
	}
	good := false
	for _, secret := range secrets {
		if len(secret) == 0 {
			continue
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		good = hmac.Equal(mac.Sum(nil), said) || good
	}
	if !good {
		return ErrSignature
	}
	return nil
}

// first is the value of the first header that is there.
func first(h http.Header, names ...string) string {
	for _, name := range names {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}
