package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/spec"
)

// MaxFileSize of a spec file in bytes. A spec has a few hundred; what is
// larger is a mistake (a log, an archive) and would only cost memory.
const MaxFileSize = 1 << 20

// racyWindow: a file that changed this shortly before it was read may change
// again within the same tick of the kernel's clock (at most 10 ms) and keep its
// times, so its metadata is not trusted the next time.
const racyWindow = 50 * time.Millisecond

// coarseWindow is the same for file systems that keep whole seconds (vfat: two).
const coarseWindow = 2100 * time.Millisecond

// Reasons of problems with whole files.
const (
	ReasonUnreadableFile = "UnreadableFile"
	ReasonNotRegularFile = "NotRegularFile"
	ReasonDanglingLink   = "DanglingLink"
	ReasonLinkOutside    = "LinkOutside"
	ReasonHardLink       = "HardLink"
	ReasonFileTooLarge   = "FileTooLarge"
	ReasonEmptyFile      = "EmptyFile"
)

// finding is what one look at one name yielded: exactly one of gone, problem
// (lost too when not even its metadata could be read), retry and content.
type finding struct {
	gone    bool
	lost    bool
	problem *spec.Problem
	retry   time.Duration
	content *content
}

// content is a file that was read and decoded.
type content struct {
	key      fileKey
	since    time.Time // when this key was first seen
	racy     bool      // the key does not prove that the file is unchanged
	digest   string    // of the bytes
	objects  []spec.Object
	problems []spec.Problem
}

// fileKey changes when the file does. The times alone do not prove it: the Nix
// store sets all of them to the epoch, and `cp -p` keeps mtime; a new inode or
// a new ctime gives both away.
type fileKey struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func keyOf(st *unix.Stat_t) fileKey {
	return fileKey{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// racyAt reports whether a file with this key, read at t, could change without
// a change of its key.
func (k fileKey) racyAt(t time.Time) bool {
	window := racyWindow
	if k.ctime.Nsec == 0 {
		window = coarseWindow
	}
	changed := time.Unix(k.ctime.Unix())
	age := t.Sub(changed)
	// A time in the future is a clock that was set back: it proves nothing.
	return age < window
}

// load reads and decodes a file that is not in the cache as it is now.
func (s *scan) load(name string) finding {
	fd, f := s.open(name)
	if fd < 0 {
		return f
	}
	defer unix.Close(fd)

	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return s.unreadable(name, err)
	}
	if f, ok := s.refuse(name, &st); ok { // it was replaced since the look
		return f
	}
	key := keyOf(&st)
	if wait := s.unsettled(name, fd, key); wait > 0 {
		return finding{retry: wait}
	}
	data, err := readAll(fd)
	if err != nil {
		return s.unreadable(name, err)
	}
	if len(data) > MaxFileSize {
		return finding{problem: s.tooLarge(name)}
	}
	// Somebody may have begun to write while we read.
	if err := unix.Fstat(fd, &st); err != nil || keyOf(&st) != key {
		return finding{retry: s.postpone(name, key)}
	}
	if wait := s.unsettled(name, fd, key); wait > 0 {
		return finding{retry: wait}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		delete(s.d.cache, name)
		return finding{problem: s.problem(name, ReasonEmptyFile,
			"is empty; what it declared stays as it is; next step: write it again, or remove the file if its objects are to go")}
	}
	return finding{content: s.keep(name, key, data)}
}

// keep decodes, unless these very bytes were decoded before, and caches.
func (s *scan) keep(name string, key fileKey, data []byte) *content {
	sum := sha256.Sum256(data)
	c := &content{key: key, digest: hex.EncodeToString(sum[:]), since: s.since(name, key), racy: key.racyAt(s.d.now())}
	if old := s.d.cache[name]; old != nil && old.digest == c.digest {
		c.objects, c.problems = old.objects, old.problems
	} else {
		c.objects, c.problems = s.d.decode(s.file(name), data)
	}
	s.d.cache[name] = c
	return c
}

// open opens a file for reading without ever blocking: on a pipe that took the
// file's place, on a lease that somebody else holds. A negative descriptor
// comes with the reason.
func (s *scan) open(name string) (int, finding) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	how := unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd := -1
	err := retryEINTR(func() (err error) { fd, err = unix.Openat2(int(s.dir.Fd()), name, &how); return err })
	if errors.Is(err, unix.EXDEV) {
		var f finding
		if fd, f, err = s.openOutside(name, flags); f.problem != nil {
			return -1, f
		}
	}
	switch {
	case err == nil:
		return fd, finding{}
	case errors.Is(err, unix.EAGAIN), errors.Is(err, fs.ErrNotExist):
		// Leased, or replaced at this very moment.
		return -1, finding{retry: s.postpone(name, fileKey{})}
	}
	return -1, s.unreadable(name, err)
}

// openOutside opens what a link leads to out of the directory. It looks before
// it opens: by now the link may lead to a device that acts on being opened.
func (s *scan) openOutside(name string, flags int) (fd int, f finding, err error) {
	place := -1
	err = retryEINTR(func() (err error) {
		place, err = unix.Openat(int(s.dir.Fd()), name, unix.O_PATH|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, finding{}, err
	}
	defer unix.Close(place)
	var st unix.Stat_t
	if err := unix.Fstat(place, &st); err != nil {
		return -1, finding{}, err
	}
	if f, refused := s.refuse(name, &st); refused {
		return -1, f, nil
	}
	if !s.mayName(&st) {
		return -1, finding{problem: s.problem(name, ReasonLinkOutside,
			"is a symbolic link out of the directory, which is not followed: others than the owner of the target may write here; next step: replace it by a copy, or chmod go-w %s", s.d.path)}, nil
	}
	err = retryEINTR(func() (err error) { fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", place), flags, 0); return err })
	return fd, finding{}, err
}

// mayName reports whether a file from elsewhere that has a name in the
// directory gives those who can write there nothing: we read as root, and an
// error's text would tell about the file.
func (s *scan) mayName(target *unix.Stat_t) bool {
	return s.dirStat.Mode&0o022 == 0 && (s.dirStat.Uid == 0 || s.dirStat.Uid == target.Uid)
}

func (s *scan) unreadable(name string, err error) finding {
	return finding{problem: s.problem(name, ReasonUnreadableFile, "cannot be read: %v; what it declared stays as it is", err)}
}

// readAll reads at most one byte more than MaxFileSize.
func readAll(fd int) ([]byte, error) {
	data := make([]byte, 0, 4096)
	for len(data) <= MaxFileSize {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := unix.Read(fd, data[len(data):min(cap(data), MaxFileSize+1)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return data, nil
		}
		data = data[:len(data)+n]
	}
	return data, nil
}
