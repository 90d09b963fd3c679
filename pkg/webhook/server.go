package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/gofrs/flock"

	"tekton.host/pkg/forge"
)

const (
	// lookers and tellers at a time.
	lookers = 4
	tellers = 2
)

// Forge is one that deliveries come from and truth is asked of.
type Forge struct {
	// Name in the configuration and in the path of deliveries. // required
	Name string
	// URL of its pages; repositories are below it. // required
	URL string
	// Client of its API. // required
	Client forge.Client
	// Secrets that a delivery is signed with, any of them. // required
	Secrets func() ([][]byte, error)
}

// Options of a Server.
type Options struct {
	// Specs is the directory of the previews' specs, a source of the daemon. // required
	Specs string
	// State is a directory of our own. // required
	State string
	// Forges by whatever order. // required
	Forges []Forge
	// Daemon that the specs are for. // required
	Daemon Daemon
	// Teller of what became of pull requests. // optional
	Teller Teller
	// Max previews at a time, of all Repositories; 0: no limit.
	Max int
	// Sweep is how often all open pull requests are looked at. // required
	Sweep time.Duration
	// Log of what changed. // optional
	Log logr.Logger
}

// Server receives deliveries and keeps the specs.
type Server struct {
	options Options
	lock    *flock.Flock
	log     logr.Logger
	forges  map[string]Forge
	store   *Store
	meant   identities
	journal *Journal
	watcher *watcher
	metrics *metrics
	looks   *work
	tells   *work
	sweeps  chan struct{}
	odd     map[string]string // what a sweep told of a Repository's
	reading *budget

	placing sync.Mutex // one spec comes or goes at a time
	rooms   rooms
	failing map[Ref]int // looks in a row that failed

	mu       sync.Mutex
	outcomes map[Key]concluded
	said     map[string]bool // what is told once
}

// concluded is the latest outcome of a pull request.
type concluded struct {
	ref     Ref
	outcome Outcome
	told    string
}

// New opens the directories. It starts nothing.
func New(o Options) (*Server, error) {
	if o.Specs == "" || o.State == "" || len(o.Forges) == 0 || o.Daemon == nil || o.Sweep <= 0 {
		return nil, errors.New("webhook: an option that is required is missing")
	}
	store, err := OpenStore(o.Specs, o.State)
	if err != nil {
		return nil, err
	}
	meant, err := openIdentities(o.State)
	if err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(o.State, "lock"))
	if alone, err := lock.TryLock(); err != nil || !alone {
		return nil, fmt.Errorf("another tekton-webhook uses %s, or it cannot be locked (%v); give this one another state", o.State, err)
	}
	s := &Server{
		options: o, log: o.Log, forges: map[string]Forge{}, store: store, meant: meant, looks: newWork(), tells: newWork(),
		lock: lock, sweeps: make(chan struct{}, 1), odd: map[string]string{}, reading: newBudget(), rooms: rooms{}, failing: map[Ref]int{}, outcomes: map[Key]concluded{}, said: map[string]bool{},
	}
	for _, f := range o.Forges {
		s.forges[f.Name] = f
	}
	if s.journal, err = OpenJournal(o.State); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	s.watcher = &watcher{daemon: o.Daemon, changed: s.viewChanged, log: o.Log, again: reconnect}
	s.metrics = newMetrics(s)
	for _, k := range s.journal.Pending() {
		s.looks.add(k)
	}
	return s, nil
}

// Run looks at what there is to look at until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { s.watcher.run(ctx) })
	parts.Go(func() { s.looks.run(ctx, lookers, s.look) })
	parts.Go(func() { s.tells.run(ctx, tellers, s.tell) })
	parts.Go(func() { s.sweepAll(ctx) })
	parts.Wait()
}

// Close writes what waits. Nobody uses the server any more.
func (s *Server) Close() error { return errors.Join(s.journal.Close(), s.lock.Unlock()) }

// Handler answers deliveries, and who asks how it goes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhook/{forge}", s.receive)
	mux.HandleFunc("POST /webhook/{forge}/{$}", s.receive) // as many a URL is written
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.Handle("GET /metrics", s.metrics.handler())
	return mux
}

// viewChanged: other rules are a reason to look at all of a repository, another
// preview is one to tell of, and one that is gone leaves room.
func (s *Server) viewChanged(old, new View) {
	if !new.Known {
		return
	}
	if !old.Known {
		for _, k := range s.journal.Pending() {
			s.looks.add(k)
		}
		s.requestSweep()
	} else if len(changedRepositories(old, new)) > 0 {
		s.requestSweep()
	}
	for file, item := range new.Previews {
		if old.Previews[file] != item {
			s.previewChanged(file, false)
		}
	}
	for file := range old.Previews {
		if new.Previews[file] == nil {
			s.previewChanged(file, true)
		}
	}
}

func (s *Server) previewChanged(file string, gone bool) {
	r, ours := s.store.Ref(file)
	if !ours {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, c := range s.outcomes {
		if c.ref != r {
			continue
		}
		if gone {
			s.looks.add(k)
		}
		s.tells.add(k)
	}
}

// forgeOf is the forge that a git URL leads to, and the repository there.
func forgeOf(forges []Forge, gitURL string) (Forge, forge.Repository, bool) {
	for _, f := range forges {
		if at, ok := locate(gitURL, f.URL); ok {
			return f, at, true
		}
	}
	return Forge{}, forge.Repository{}, false
}
