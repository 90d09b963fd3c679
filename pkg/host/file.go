package host

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// WriteFile replaces path atomically and durably: temporary file, fsync,
// rename, fsync of the directory. After a power cut there is the old content
// or the new one. The permissions of a file that is there stay.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, nil)
}

// RewriteFile is WriteFile for a file that is there: also its owner stays.
func RewriteFile(path string, data []byte, was fs.FileInfo) error {
	return write(path, data, was.Mode().Perm(), was.Sys().(*syscall.Stat_t))
}

func write(path string, data []byte, perm fs.FileMode, owner *syscall.Stat_t) error {
	// Without the directory option renameio tries $TMPDIR first, which may lie on another file system.
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(perm), renameio.WithExistingPermissions(), renameio.IgnoreUmask())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer f.Cleanup()
	if owner != nil {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the entries of a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// LoadOrCreateInstallation returns the installation id of a state directory,
// made once: 12 hex digits.
func LoadOrCreateInstallation(l Layout) (string, error) {
	b, err := os.ReadFile(l.Installation())
	if err == nil {
		if id := strings.TrimSpace(string(b)); len(id) == 12 {
			return id, nil
		}
		return "", fmt.Errorf("%s does not hold an installation id of 12 hex digits; restore it from a backup: it marks what is ours", l.Installation())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 6)
	rand.Read(raw)
	id := hex.EncodeToString(raw)
	if err := os.MkdirAll(l.State, 0o755); err != nil {
		return "", err
	}
	return id, WriteFile(l.Installation(), []byte(id+"\n"), 0o644)
}

// Full returns an error when nothing more fits on the file system of dir,
// whether of content or of names.
func Full(dir string) error {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || (s.Blocks == 0 || s.Bavail > 0) && (s.Files == 0 || s.Ffree > 0) {
		return nil // a number of 0 means no limit
	}
	return &fs.PathError{Op: "write to", Path: dir, Err: unix.ENOSPC}
}
