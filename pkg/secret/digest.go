package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"tekton.host/pkg/host"
)

const keySize = 32

// Key digests secrets. A digest changes when the secret does; without the key
// it says nothing about the secret, not even about a guess of it.
type Key struct{ key []byte }

// LoadOrCreateKey reads the host's key, which is made once.
func LoadOrCreateKey(l host.Layout) (Key, error) {
	path := l.Key()
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == keySize:
		return Key{b}, nil
	case err == nil:
		return Key{}, fmt.Errorf("%s does not hold %d bytes; remove it, and a new key is made: secrets will then count as changed once, and agents have other host keys", path, keySize)
	case !errors.Is(err, fs.ErrNotExist):
		return Key{}, fmt.Errorf("read the key for digests: %w", err)
	}
	if err := os.MkdirAll(l.State, 0o755); err != nil {
		return Key{}, err
	}
	b = make([]byte, keySize)
	rand.Read(b)
	return Key{b}, host.WriteFile(path, b, 0o600)
}

// Digest of the named secret. Equal secrets of different names have different digests.
func (k Key) Digest(name string, value []byte) string {
	h := hmac.New(sha256.New, k.key)
	h.Write([]byte(name))
	h.Write([]byte{0})
	h.Write(value)
	return hex.EncodeToString(h.Sum(nil)[:16])
}
