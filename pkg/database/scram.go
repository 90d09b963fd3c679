package database

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

const (
	scramPrefix = "SCRAM-SHA-256$"
	// scramIterations is PostgreSQL's own number and the least that RFC 7677 lets clients accept.
	scramIterations = 4096
	scramSaltSize   = 16
)

// newVerifier returns what PostgreSQL stores of a password. Computing it here
// keeps the password out of SQL, and so out of the server's log and activity view.
func newVerifier(password string) (string, error) {
	salt := make([]byte, scramSaltSize)
	rand.Read(salt)
	return verifier(password, salt, scramIterations)
}

// verifier renders SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY (RFC 5803).
func verifier(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive SCRAM keys: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s%d:%s$%s:%s", scramPrefix, iterations, b64(salt), b64(stored[:]), b64(mac(salted, "Server Key"))), nil
}

// matches reports whether the verifier was made of the password. What is no
// SCRAM verifier matches nothing.
func matches(stored, password string) bool {
	rest, ok := strings.CutPrefix(stored, scramPrefix)
	if !ok {
		return false
	}
	head, _, ok := strings.Cut(rest, "$")
	if !ok {
		return false
	}
	count, salt64, ok := strings.Cut(head, ":")
	if !ok {
		return false
	}
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 || iterations > 100*scramIterations {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil {
		return false
	}
	again, err := verifier(password, salt, iterations)
	return err == nil && subtle.ConstantTimeCompare([]byte(again), []byte(stored)) == 1
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
