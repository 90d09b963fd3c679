package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/host"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// Options of a Source.
type Options struct {
	Name   string // required
	URL    string // required; https, ssh, or http to this host
	Branch string // required
	// Path of the directory in the repository; empty: its top.
	Path string
	// Interval between looks, and how long one may take. // required
	Interval, Timeout time.Duration
	// MaxSize of what one fetch may bring, in bytes. // required
	MaxSize int64
	// Partial takes a commit's good files though others have problems.
	Partial bool

	// Files of the operator, each optional.
	SSHKeyFile, KnownHostsFile string
	TokenFile, Username        string
	AllowedSignersFile         string // commits must be signed where it is set

	// Dir is where the mirror is kept, below a directory of root's; RunDir is
	// made anew for each run, on a tmpfs. // required
	Dir, RunDir string
	// User that git runs as, where we are root. // required
	User string
	// Decode turns a file's content into objects. It must be pure. // required
	Decode func(file string, data []byte) ([]spec.Object, []spec.Problem)
	// Now is the clock. // optional: time.Now
	Now func() time.Time
	Log logr.Logger // optional
}

// Source is a branch of a git repository.
type Source struct {
	Options
	asked   chan struct{} // a look is asked for
	loading sync.Mutex    // one load of the mirror

	mu        sync.Mutex
	loaded    bool     // the mirror was looked at
	attempted bool     // the remote was asked once, with any result
	good      *reading // in effect
	rejected  *Rejection
	err       error // of the last look, other than a rejection
	syncedAt  time.Time
	suspended bool
	waiting   []chan<- error
}

// New returns the source of a branch. It runs nothing yet.
func New(o Options) (*Source, error) {
	switch {
	case o.Name == "" || o.URL == "" || o.Branch == "" || o.Dir == "" || o.RunDir == "" || o.User == "":
		return nil, fmt.Errorf("source %q: a git source needs name, URL, branch, directories and user", o.Name)
	case o.Interval <= 0 || o.Timeout <= 0 || o.MaxSize <= 0 || o.Decode == nil:
		return nil, fmt.Errorf("source %s: a git source needs interval, timeout, size and decoder", o.Name)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	o.Log = o.Log.WithValues("source", o.Name)
	s := &Source{Options: o, asked: make(chan struct{}, 1)}
	_, err := os.Lstat(s.marker())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("source %s: is it suspended? %w", o.Name, err)
	}
	s.suspended = err == nil
	return s, nil
}

// marker is there while the source is suspended.
func (s *Source) marker() string { return s.Dir + suspendedSuffix }

const suspendedSuffix = ".suspended"

// Name of the source.
func (s *Source) Name() string { return s.Options.Name }

// Resync does nothing: what a commit's id names cannot have changed.
func (s *Source) Resync() {}

// firstWait asks for another snapshot while the remote was not asked yet.
const firstWait = time.Second

// Snapshot is the commit in effect. It never waits for the remote.
func (s *Source) Snapshot(ctx context.Context) source.Snapshot {
	err := s.load(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	// A commit is no empty mount point: what it does not have is not wanted.
	snap := source.Snapshot{Source: s.Options.Name, ReadAt: s.Now(), Marked: true, Revision: s.revision()}
	if s.rejected != nil {
		snap.Problems = s.rejected.Problems
	}
	if !s.attempted && !s.suspended {
		snap.RetryAfter = firstWait
	}
	if s.good != nil {
		snap.Complete, snap.Objects, snap.Files = true, s.good.objects, s.good.files
		snap.Problems = append(snap.Problems[:len(snap.Problems):len(snap.Problems)], s.good.problems...)
		return snap
	}
	if err == nil {
		err = s.trouble()
	}
	if err == nil && s.suspended {
		err = ErrSuspended
	}
	if err == nil {
		err = errors.New("it was not fetched yet")
	}
	snap.Err = fmt.Errorf("no commit of %s at %s is in effect, nothing is deleted meanwhile: %w", s.Branch, s.URL, err)
	return snap
}

// revision changes when the snapshot does.
func (s *Source) revision() string {
	out := ""
	if s.good != nil {
		out = s.good.ID
	}
	if s.rejected != nil {
		out += "!" + s.rejected.Commit
	}
	return out
}

// trouble is why the branch's newest commit is not in effect; nil: it is, or nobody knows.
func (s *Source) trouble() error {
	if s.err == nil && s.rejected != nil {
		return s.rejected
	}
	return s.err
}

// Status is where the source stands.
type Status struct {
	Commit      string // in effect
	CommittedAt time.Time
	Rejected    string // a newer commit that is not used
	SyncedAt    time.Time
	Err         error // why the branch's newest commit is not in effect
	Suspended   bool
}

// Status returns where the source stands.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{SyncedAt: s.syncedAt, Err: s.trouble(), Suspended: s.suspended}
	if s.good != nil {
		st.Commit, st.CommittedAt = s.good.ID, s.good.At
	}
	if s.rejected != nil {
		st.Rejected = s.rejected.Commit
	}
	return st
}

// ErrSuspended is the answer to a Sync of a suspended source.
var ErrSuspended = errors.New("the source is suspended")

// Suspend has the remote not looked at until Resume, also by later daemons.
func (s *Source) Suspend() error {
	if err := os.MkdirAll(filepath.Dir(s.Dir), 0o711); err != nil {
		return err
	}
	if err := host.WriteFile(s.marker(), nil, 0o644); err != nil {
		return err
	}
	s.setSuspended(true)
	return nil
}

// Resume undoes Suspend, and looks at once.
func (s *Source) Resume() error {
	if err := os.Remove(s.marker()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("resume source %s: %w", s.Options.Name, err)
	}
	s.setSuspended(false)
	s.ask()
	return nil
}

func (s *Source) setSuspended(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = yes
}

func (s *Source) isSuspended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspended
}

// Forget removes from dir, that of mirrors or of run directories, what belongs
// to none of these sources. No run may be under way.
func Forget(dir string, configured map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !configured[strings.TrimSuffix(e.Name(), suspendedSuffix)] {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
