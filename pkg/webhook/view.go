package webhook

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/api/v1alpha1"
)

// Daemon is what is asked of tektond.
type Daemon interface {
	// Watch yields what is there, WatchSynced, and then each change, until an error.
	Watch(ctx context.Context) iter.Seq2[v1alpha1.WatchEvent, error]
	// Sources returns the state of each source.
	Sources(ctx context.Context) ([]v1alpha1.SourceStatus, error)
	// SyncSource looks at a git source's remote now.
	SyncSource(ctx context.Context, source string) (v1alpha1.GitStatus, error)
}

// View is what the daemon has said last.
type View struct {
	// Known is false while the daemon has not said all of it, or says nothing more.
	Known bool
	// Repositories by name. One that was refused is there, and nil.
	Repositories map[string]*v1alpha1.RepositorySpec
	// Previews by the file that they are written in.
	Previews map[string]*v1alpha1.Item
}

// watcher keeps the view.
type watcher struct {
	daemon  Daemon
	changed func(old, new View)
	log     logr.Logger
	again   time.Duration // after which to ask a daemon that went away

	mu   sync.Mutex
	view View
}

// reconnect after a daemon that went away.
const reconnect = time.Second

// View returns the present one. Nobody changes it.
func (w *watcher) View() View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

func (w *watcher) set(v View) {
	w.mu.Lock()
	old := w.view
	w.view = v
	w.mu.Unlock()
	w.changed(old, v)
}

// run watches the daemon until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for said := ""; ctx.Err() == nil; {
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if old := w.View(); old.Known {
			old.Known = false
			w.set(old)
			said = ""
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			w.log.Info("the daemon says nothing; nothing is removed meanwhile", "why", said)
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.again):
		}
	}
}

// follow one connection. What was known before counts until this one has said all.
func (w *watcher) follow(ctx context.Context) error {
	next := View{Repositories: map[string]*v1alpha1.RepositorySpec{}, Previews: map[string]*v1alpha1.Item{}}
	for e, err := range w.daemon.Watch(ctx) {
		switch {
		case err != nil:
			return err
		case e.Type == v1alpha1.WatchSynced:
			next.Known = true
		case e.Item == nil || !next.apply(e):
			continue
		}
		if next.Known {
			w.set(next)
			next = View{Known: true, Repositories: maps.Clone(next.Repositories), Previews: maps.Clone(next.Previews)}
		}
	}
	return nil
}

// apply an event; false: it changes nothing.
func (v *View) apply(e v1alpha1.WatchEvent) bool {
	gone := e.Type == v1alpha1.WatchDelete
	name, file := e.Item.Metadata.Name, e.Item.Metadata.Source.File
	switch e.Item.Kind {
	case v1alpha1.KindPreview:
		for f, old := range v.Previews { // its file may have been another
			if old.Metadata.Name == name {
				delete(v.Previews, f)
			}
		}
		if !gone {
			v.Previews[file] = e.Item
		}
	case v1alpha1.KindRepository:
		if gone {
			delete(v.Repositories, name)
			return true
		}
		v.Repositories[name] = repositorySpec(e.Item.Spec)
	default:
		return false
	}
	return true
}

// repositorySpec reads a spec as the API shows it; nil: it has none that we understand.
func repositorySpec(shown any) *v1alpha1.RepositorySpec {
	raw, err := json.Marshal(shown)
	if err != nil || shown == nil {
		return nil
	}
	s := &v1alpha1.RepositorySpec{}
	if json.Unmarshal(raw, s) != nil || s.URL == "" {
		return nil
	}
	return s
}

// changedRepositories are the names of those that are new, other or gone.
func changedRepositories(old, new View) []string {
	var names []string
	for name, spec := range new.Repositories {
		if before, had := old.Repositories[name]; !had || !reflect.DeepEqual(before, spec) {
			names = append(names, name)
		}
	}
	for name := range old.Repositories {
		if _, has := new.Repositories[name]; !has {
			names = append(names, name)
		}
	}
	return names
}
