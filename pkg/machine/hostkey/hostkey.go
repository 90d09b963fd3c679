// Package hostkey derives the ssh host keys of machines.
//
// Invariants:
//   - A key depends on the installation's secret and a name alone: it is the same
//     after a machine was deleted and made again, and nothing is stored for it.
//   - Keys of different names, and the secret itself, say nothing about each other.
//   - It is pure: no I/O.
package hostkey

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/ssh"
)

// purpose keeps what is derived here apart from all else that is made of the
// secret. The number goes up when keys are to change.
const purpose = "tekton ssh host key 1\x00"

// Key is the host key of one machine.
type Key struct{ private ed25519.PrivateKey }

// Derive returns the key of a name.
func Derive(secret []byte, name string) Key {
	seed, err := hkdf.Key(sha256.New, secret, nil, purpose+name, ed25519.SeedSize)
	if err != nil {
		panic(err) // only of a length that no key has
	}
	return Key{ed25519.NewKeyFromSeed(seed)}
}

// Private is the key in the form that sshd reads.
func (k Key) Private() ([]byte, error) {
	block, err := ssh.MarshalPrivateKey(k.private, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// Public is the key as in a file of known hosts, behind the name.
func (k Key) Public() string {
	public, err := ssh.NewPublicKey(k.private.Public())
	if err != nil {
		panic(err) // ssh knows ed25519
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}
