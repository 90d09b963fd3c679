package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"tekton.host/pkg/spec"
)

// Options of a directory source.
type Options struct {
	// Name of the source. // required
	Name string
	// Path of the directory, absolute. It need not exist. // required
	Path string
	// Decode turns a file's content into objects. It must be pure: its result
	// is kept for as long as the content stays the same. // required
	Decode func(file string, data []byte) ([]spec.Object, []spec.Problem)
	// Now is the clock. // optional: time.Now
	Now func() time.Time
	// Log tells when the directory cannot be watched. // optional
	Log logr.Logger
}

// Directory is a source of *.yaml and *.yml files, not recursive. Files whose
// name starts with "." are not seen: editors and atomic writers use them.
type Directory struct {
	name   string
	path   string
	decode func(file string, data []byte) ([]spec.Object, []spec.Problem)
	now    func() time.Time
	log    logr.Logger
	probe  func(fd int) (writerState, error)

	newWatcher func() (*fsnotify.Watcher, error)
	pollEvery  time.Duration
	blindEvery time.Duration

	resync  atomic.Bool
	watched watchError

	mu      sync.Mutex
	cache   map[string]*content // by base name
	pending map[string]*wait    // by base name; the unsettled ones
}

// New returns the source of a directory.
func New(o Options) (*Directory, error) {
	switch {
	case o.Name == "":
		return nil, errors.New("source: it has no name")
	case !filepath.IsAbs(o.Path):
		return nil, fmt.Errorf("source %s: path %q must be absolute", o.Name, o.Path)
	case o.Decode == nil:
		return nil, fmt.Errorf("source %s: it has no decoder", o.Name)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return &Directory{
		name: o.Name, path: filepath.Clean(o.Path), decode: o.Decode, now: o.Now,
		log: o.Log.WithValues("source", o.Name), probe: probeWriters,
		newWatcher: fsnotify.NewWatcher, pollEvery: PollInterval, blindEvery: BlindInterval,
		cache: map[string]*content{}, pending: map[string]*wait{},
	}, nil
}

// Name of the source.
func (d *Directory) Name() string { return d.name }

// Resync makes the next snapshot read every file again, whatever its metadata says.
func (d *Directory) Resync() { d.resync.Store(true) }

// Snapshot reads the directory. Files that look as they did when they were
// last read cost one lstat each. Safe for concurrent use.
func (d *Directory) Snapshot(ctx context.Context) Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	scan := &scan{d: d, fresh: d.resync.Swap(false), snap: Snapshot{Source: d.name, Complete: true, ReadAt: d.now()}}
	if err := scan.run(ctx); err != nil {
		if scan.fresh {
			d.resync.Store(true)
		}
		scan.snap = Snapshot{Source: d.name, ReadAt: scan.snap.ReadAt, Err: err}
	}
	scan.snap.Revision = scan.revision()
	return scan.snap
}

// scan is the state of one reading of the directory.
type scan struct {
	d       *Directory
	fresh   bool // trust no metadata
	dir     *os.File
	dirStat unix.Stat_t
	snap    Snapshot
	digests []string // one a file, what Revision is made of
}

func (s *scan) run(ctx context.Context) error {
	names, err := s.list()
	if err != nil {
		return err
	}
	defer s.dir.Close()
	s.snap.Marked = s.marked()
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s: %w", s.d.path, err)
		}
		s.add(name, s.look(name))
	}
	seen := func(name string) bool { _, ok := slices.BinarySearch(names, name); return ok }
	for name := range s.d.cache {
		if !seen(name) {
			delete(s.d.cache, name)
		}
	}
	for name := range s.d.pending {
		if !seen(name) {
			delete(s.d.pending, name)
		}
	}
	return nil
}

// list opens the directory and returns the names of its candidates, sorted.
func (s *scan) list() ([]string, error) {
	dir, err := os.OpenFile(s.d.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the directory %s of source %s is not there: nothing is deleted meanwhile; create or mount it, or correct sources[].path", s.d.path, s.d.name)
	}
	if err != nil {
		return nil, fmt.Errorf("the directory of source %s cannot be read, nothing is deleted meanwhile: %w", s.d.name, err)
	}
	names, err := dir.Readdirnames(-1)
	if err == nil {
		err = unix.Fstat(int(dir.Fd()), &s.dirStat)
	}
	if err == nil && s.dirStat.Mode&0o444 == 0 {
		// As with a file: root could, but that nobody may is taken as meant.
		err = fmt.Errorf("its mode is %04o: nobody may read it; next step: chmod 0755", s.dirStat.Mode&0o7777)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("the directory %s of source %s cannot be listed, nothing is deleted meanwhile: %w", s.d.path, s.d.name, err)
	}
	s.dir = dir
	names = slices.DeleteFunc(names, func(n string) bool { return !SpecFile(n) })
	slices.Sort(names)
	return names, nil
}

// SpecFile reports whether a file of this name is a spec file.
func SpecFile(name string) bool {
	return !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"))
}

// add enters what was found under a name into the snapshot.
func (s *scan) add(name string, f finding) {
	file := s.file(name)
	if f.gone {
		return // between the listing and the look
	}
	s.snap.Files = append(s.snap.Files, file)
	if f.retry == 0 {
		delete(s.d.pending, name)
	}
	state := ""
	switch {
	case f.lost:
		state = "lost"
		s.snap.Complete = false
		s.snap.Problems = append(s.snap.Problems, *f.problem)
	case f.problem != nil:
		state = f.problem.Reason + ": " + f.problem.Message
		s.snap.Problems = append(s.snap.Problems, *f.problem)
	case f.retry > 0:
		state = "unsettled"
		s.snap.Unsettled = append(s.snap.Unsettled, file)
		if s.snap.RetryAfter == 0 || f.retry < s.snap.RetryAfter {
			s.snap.RetryAfter = f.retry
		}
	default:
		state = f.content.digest
		s.snap.Objects = append(s.snap.Objects, f.content.objects...)
		s.snap.Problems = append(s.snap.Problems, f.content.problems...)
	}
	s.digests = append(s.digests, file, state)
}

func (s *scan) file(name string) string { return filepath.Join(s.d.path, name) }

func (s *scan) revision() string {
	h := sha256.New()
	fmt.Fprintf(h, "%t %t %v\n", s.snap.Complete, s.snap.Marked, s.snap.Err)
	if s.snap.Err == nil {
		for _, digest := range s.digests {
			io.WriteString(h, digest)
			io.WriteString(h, "\x00") // no file name holds one
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// look finds out what is under a name now.
func (s *scan) look(name string) finding {
	var st unix.Stat_t
	err := retryEINTR(func() error { return unix.Fstatat(int(s.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{gone: true}
	case err != nil:
		return finding{lost: true, problem: s.problem(name, ReasonUnreadableFile, "cannot be looked at: %v", err)}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err := retryEINTR(func() error { return unix.Fstatat(int(s.dir.Fd()), name, &st, 0) })
		if err != nil {
			return s.brokenLink(name, err)
		}
	}
	if f, ok := s.refuse(name, &st); ok {
		return f
	}
	key := keyOf(&st)
	if c := s.d.cache[name]; c != nil && c.key == key && !c.racy && !s.fresh {
		return finding{content: c}
	}
	return s.load(name)
}

// brokenLink: the target of `..data` style links may be missing for a moment
// while they are swapped, so a problem here is no reason to forget anything.
func (s *scan) brokenLink(name string, err error) finding {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return finding{problem: s.problem(name, ReasonDanglingLink,
			"is a symbolic link that leads nowhere (%v); what it declared stays as it is until the link or its target is repaired or the link is removed", err)}
	}
	return finding{problem: s.problem(name, ReasonUnreadableFile, "its link cannot be followed: %v", err)}
}

// refuse names what must not even be opened.
func (s *scan) refuse(name string, st *unix.Stat_t) (finding, bool) {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return finding{problem: s.problem(name, ReasonNotRegularFile,
			"is a %s, not a file; remove it or rename it", cmp.Or(sorts[st.Mode&unix.S_IFMT], "special file"))}, true
	case st.Mode&0o444 == 0:
		// Root could read it all the same; that nobody may is taken as meant.
		return finding{problem: s.problem(name, ReasonUnreadableFile,
			"has mode %04o: nobody may read it; what it declared stays as it is; next step: chmod 0644", st.Mode&0o7777)}, true
	case st.Nlink > 1 && !s.mayName(st):
		return finding{problem: s.problem(name, ReasonHardLink,
			"has another name elsewhere, and others than its owner may write here; next step: replace it by a copy, or chmod go-w %s", s.d.path)}, true
	case st.Size > MaxFileSize:
		return finding{problem: s.tooLarge(name)}, true
	}
	return finding{}, false
}

func (s *scan) tooLarge(name string) *spec.Problem {
	return s.problem(name, ReasonFileTooLarge, "is larger than %d bytes; split it into several files", MaxFileSize)
}

func (s *scan) problem(name, reason, format string, args ...any) *spec.Problem {
	return &spec.Problem{Position: spec.Position{File: s.file(name)}, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

var sorts = map[uint32]string{
	unix.S_IFDIR: "directory", unix.S_IFIFO: "named pipe", unix.S_IFSOCK: "socket",
	unix.S_IFCHR: "character device", unix.S_IFBLK: "block device",
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
