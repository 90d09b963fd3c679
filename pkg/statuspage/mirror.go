package statuspage

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/client"
	"tekton.host/pkg/spec"
)

const (
	// keptEvents are the latest, of which the page shows some.
	keptEvents = 1000
	// askAgain is how long after a daemon went away it is asked again, and how often
	// what it tells nobody by itself is looked at.
	askAgain   = time.Second
	lookAgain  = 5 * time.Second
	askTimeout = 20 * time.Second
)

// View is what the daemon has said last. Nobody changes one.
type View struct {
	// Synced is when the daemon was last heard; zero: never yet.
	Synced time.Time
	// Err is why it is not heard now.
	Err      error
	Version  v1alpha1.VersionInfo
	Items    []v1alpha1.Item  // sorted by kind and name
	Events   []v1alpha1.Event // oldest first
	Sources  []v1alpha1.SourceStatus
	Problems []spec.Problem
}

// Item of a reference, or nil.
func (v View) Item(ref v1alpha1.Ref) *v1alpha1.Item {
	for i := range v.Items {
		if v.Items[i].Ref() == ref {
			return &v.Items[i]
		}
	}
	return nil
}

// mirror keeps a View, so that however many look at the page the daemon is asked once.
type mirror struct {
	daemon *client.Client
	log    logr.Logger
	now    func() time.Time

	mu      sync.Mutex
	view    View
	changed chan struct{}
}

func newMirror(daemon *client.Client, log logr.Logger, now func() time.Time) *mirror {
	return &mirror{daemon: daemon, log: log, now: now, changed: make(chan struct{}), view: View{Err: errors.New("it has not answered yet")}}
}

// View returns the present one, and a channel that is closed when there is another.
func (m *mirror) View() (View, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.view
	if v.Err == nil {
		v.Synced = m.now()
	}
	return v, m.changed
}

func (m *mirror) update(change func(v *View)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.view)
	close(m.changed)
	m.changed = make(chan struct{})
}

// advice on a daemon that is not reached: ours, as the client's is for its command line.
func advice(err error) string {
	e, ok := errors.AsType[*client.UnreachableError](err)
	switch {
	case !ok:
		return ""
	case errors.Is(e.Err, fs.ErrPermission):
		return "Let the user of tekton-status into the group of that socket, and restart it: docs/status-page.md has how."
	}
	return "Is tektond running (systemctl status tektond), and does its Host name a group for that socket?"
}

// run follows the daemon until ctx ends.
func (m *mirror) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := m.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		// Each try that fails as the one before is no news, least of all for who looks.
		if v, _ := m.View(); v.Err == nil || v.Err.Error() != err.Error() {
			m.log.Info("the daemon says nothing", "why", err.Error())
			m.update(func(now *View) { now.Err, now.Synced = err, v.Synced })
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
}

// follow hears the daemon until it says no more. Objects and events come by
// themselves; the rest is looked at when they do, and now and then.
func (m *mirror) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := m.look(ctx); err != nil {
		return err
	}
	synced := make(chan struct{})
	var parts sync.WaitGroup
	defer parts.Wait()
	part := func(run func() error) { parts.Go(func() { cancel(run()) }) }
	part(func() error { return m.watch(ctx, synced) })
	part(func() error { return m.hear(ctx, synced) })
	part(func() error {
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(lookAgain):
			}
			if err := m.look(ctx); err != nil {
				return err
			}
		}
	})
	<-ctx.Done()
	return context.Cause(ctx)
}

// watch keeps the objects. What was there before is shown until all are known.
func (m *mirror) watch(ctx context.Context, synced chan struct{}) error {
	items := map[v1alpha1.Ref]v1alpha1.Item{}
	all := false
	for e, err := range m.daemon.Watch(ctx) {
		if err != nil {
			return err
		}
		switch e.Type {
		case v1alpha1.WatchSynced:
			all = true
			close(synced)
		case v1alpha1.WatchPut:
			items[e.Item.Ref()] = *e.Item
		case v1alpha1.WatchDelete:
			delete(items, e.Item.Ref())
		}
		if all {
			sorted := make([]v1alpha1.Item, 0, len(items))
			for _, item := range items {
				sorted = append(sorted, item)
			}
			slices.SortFunc(sorted, func(a, b v1alpha1.Item) int {
				return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Metadata.Name, b.Metadata.Name))
			})
			m.update(func(v *View) { v.Items, v.Err = sorted, nil })
		}
	}
	return errors.New("the daemon ended the stream of objects")
}

// hear keeps the latest events, all of them anew: another daemon counts anew.
func (m *mirror) hear(ctx context.Context, synced <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-synced:
	}
	var events []v1alpha1.Event
	for e, err := range m.daemon.Events(ctx, 0, true) {
		if err != nil {
			return err
		}
		events = append(events, e)
		if len(events) > 2*keptEvents {
			events = slices.Clone(events[len(events)-keptEvents:])
		}
		latest := events[max(0, len(events)-keptEvents):]
		m.update(func(v *View) { v.Events = slices.Clip(latest) })
	}
	return errors.New("the daemon ended the stream of events")
}

// look asks for what the daemon does not tell by itself.
func (m *mirror) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	version, err := m.daemon.Version(ctx)
	if err != nil {
		return err
	}
	sources, err := m.daemon.Sources(ctx)
	if err != nil {
		return err
	}
	problems, err := m.daemon.Problems(ctx)
	if err != nil {
		return err
	}
	if v, _ := m.View(); !reflect.DeepEqual([]any{v.Version, v.Sources, v.Problems}, []any{version, sources, problems}) {
		m.update(func(v *View) { v.Version, v.Sources, v.Problems = version, sources, problems })
	}
	return nil
}
