package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// cache holds decoded JSON files until they change: a pass over a thousand
// machines costs one stat each. Files are replaced by rename, so that a change
// always shows in the inode or the times.
type cache[T any] struct {
	mu      sync.Mutex
	entries map[string]cached[T]
}

type cached[T any] struct {
	stamp stamp
	value T
}

// stamp tells one content of a path from another.
type stamp struct {
	inode       uint64
	size        int64
	mtim, ctime syscall.Timespec
}

// read returns the file's content; found is false when it is not there.
func (c *cache[T]) read(path string) (v T, found bool, err error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		c.forget(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return v, false, nil
		}
		return v, false, fmt.Errorf("read %s: %w", path, err)
	}
	now := stamp{st.Ino, st.Size, st.Mtim, st.Ctim}
	c.mu.Lock()
	have, ok := c.entries[path]
	c.mu.Unlock()
	if ok && have.stamp == now {
		return have.value, true, nil
	}
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string]cached[T])
	}
	c.entries[path] = cached[T]{now, v}
	return v, true, nil
}

func (c *cache[T]) forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, path)
}
