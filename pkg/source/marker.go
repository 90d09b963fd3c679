package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/host"
)

// Marker is the file that says "this is the directory, not the empty mount
// point below it": where it is, a directory without specs means that none are
// wanted.
const Marker = ".tekton-source"

const markerText = `This directory is a source of tekton specs.
While this file is here, specs that are removed from the directory are taken
for removed, also the last one. Without it, an empty directory changes nothing.
`

// EnsureMarker makes the directory and its marker where they are missing.
func EnsureMarker(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make the source directory: %w", err)
	}
	file := filepath.Join(path, Marker)
	_, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return host.WriteFile(file, []byte(markerText), 0o644)
	}
	if err != nil {
		return fmt.Errorf("look for the marker of a source: %w", err)
	}
	return nil
}

// marked looks in the open directory, not under its path, which may lead
// elsewhere by now.
func (s *scan) marked() bool {
	var st unix.Stat_t
	err := retryEINTR(func() error { return unix.Fstatat(int(s.dir.Fd()), Marker, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}
