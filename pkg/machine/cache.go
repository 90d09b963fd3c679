package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// settled is how old a directory's last change must be before what was read
// from it is remembered: a second change within the clock's tick would not show.
const settled = 50 * time.Millisecond

// dirCache remembers what was read from directories until they change, so that
// a pass over a thousand of them costs one stat each. It holds for files that
// are only ever replaced by rename, which changes the directory.
type dirCache[T any] struct {
	mu      sync.Mutex
	entries map[string]dirEntry[T]
}

type dirEntry[T any] struct {
	stamp stamp
	value T
}

type stamp struct {
	inode       uint64
	mtim, ctime syscall.Timespec
}

// get returns load's result of the directory as it is now. A directory that is
// not there yields the zero value.
func (c *dirCache[T]) get(dir string, load func() (T, error)) (T, error) {
	var st syscall.Stat_t
	var zero T
	if err := syscall.Lstat(dir, &st); err != nil {
		c.mu.Lock()
		delete(c.entries, dir)
		c.mu.Unlock()
		if errors.Is(err, fs.ErrNotExist) {
			return zero, nil
		}
		return zero, &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	now := stamp{st.Ino, st.Mtim, st.Ctim}
	c.mu.Lock()
	have, ok := c.entries[dir]
	c.mu.Unlock()
	if ok && have.stamp == now {
		return have.value, nil
	}
	began := time.Now()
	v, err := load()
	if err != nil || began.Sub(time.Unix(st.Ctim.Unix())) < settled {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string]dirEntry[T])
	}
	c.entries[dir] = dirEntry[T]{now, v}
	return v, nil
}

// bound forgets everything once much more than n directories are remembered:
// those that went are among them.
func (c *dirCache[T]) bound(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) > 2*n+16 {
		clear(c.entries)
	}
}

// readJSON reads a file; found is false when it is not there.
func readJSON[T any](path string) (v T, found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, false, fmt.Errorf("decode %s: %w; restore it from a backup or move it away", path, err)
	}
	return v, true, nil
}
