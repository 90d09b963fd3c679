package database

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"tekton.host/pkg/resource"
)

// verified remembers which verifiers were found to be made of which password
// file: the derivation costs a millisecond of CPU, a pass looks at all of them.
// It is a cache of a pure function; a new daemon fills it once.
type verified struct {
	mu    sync.Mutex
	known map[string]verifiedEntry // by role name
}

type verifiedEntry struct {
	verifier string
	file     fileID
}

// fileID changes whenever a file's content may have.
type fileID struct {
	ino          uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func identify(path string) (fileID, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return fileID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, nil
}

// check reports whether the role's verifier was made of the password in file.
func (v *verified) check(r roleRow, file string) bool {
	id, err := identify(file)
	if err != nil {
		return false
	}
	entry := verifiedEntry{verifier: r.verifier, file: id}
	v.mu.Lock()
	hit := v.known[r.name] == entry
	v.mu.Unlock()
	if hit {
		return true
	}
	password, err := readPassword(file)
	if err != nil || !matches(r.verifier, password) {
		return false
	}
	v.remember(r.name, entry)
	return true
}

func (v *verified) remember(role string, entry verifiedEntry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil {
		v.known = map[string]verifiedEntry{}
	}
	v.known[role] = entry
}

// minPassword refuses a truncated or emptied file.
const minPassword = 16

// readPassword reads a password that was stored before. Its errors name the
// file, never the content.
func readPassword(file string) (string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", resource.Because("PasswordMissing", fmt.Errorf("the password file %s is not there yet", file))
	}
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	password := strings.TrimSpace(string(b))
	if len(password) < minPassword {
		return "", resource.Because("PasswordInvalid", fmt.Errorf("the password file %s holds fewer than %d characters; remove it, and a new password is made", file, minPassword))
	}
	return password, nil
}
