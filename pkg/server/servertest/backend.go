package servertest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"

	"sigs.k8s.io/yaml"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/server"
	"tekton.host/pkg/server/wire"
	"tekton.host/pkg/spec"
)

// State is what the Backend answers with. It may be read from JSON.
type State struct {
	Items     []v1alpha1.Item                  `json:"items"`
	Sources   []v1alpha1.SourceStatus          `json:"sources"`
	Problems  []spec.Problem                   `json:"problems"`
	Plan      v1alpha1.PlanReport              `json:"plan"`
	History   map[string][]v1alpha1.Generation `json:"history"` // by "container/web"
	Events    []v1alpha1.Event                 `json:"events"`
	Usage     v1alpha1.UsageReport             `json:"usage"`
	Secrets   []v1alpha1.SecretInfo            `json:"secrets"`
	Data      []v1alpha1.DataItem              `json:"data"`
	Backup    v1alpha1.BackupInfo              `json:"backup"`
	Deletions map[string][]v1alpha1.PlanData   `json:"deletions"` // by "container/web"
	Logs      map[string]string                `json:"logs"`      // by "container/web"
	Previous  map[string]string                `json:"previous"`
	Version   v1alpha1.VersionInfo             `json:"version"`
	Errors    map[string]*wire.Error           `json:"errors"` // by method
	Leaders   map[v1alpha1.Ref]server.Leader   `json:"-"`
	LogReader func(v1alpha1.Ref) io.ReadCloser `json:"-"`
}

// Backend keeps a State.
type Backend struct {
	mu      sync.Mutex
	state   State
	changed chan struct{}
	// Values of the secrets that were set.
	values map[string][]byte
	calls  []string
}

var _ server.Backend = (*Backend)(nil)

// New returns a Backend with a state.
func New(s State) *Backend {
	return &Backend{state: s, changed: make(chan struct{}), values: map[string][]byte{}}
}

// Update changes the state and tells the watchers.
func (b *Backend) Update(change func(*State)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.state)
	close(b.changed)
	b.changed = make(chan struct{})
}

// Calls returns what was asked for beside reads.
func (b *Backend) Calls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

// Secret returns the value that was set.
func (b *Backend) Secret(name string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.values[name]
}

// enter locks, records a call and returns the error that the test wants.
func (b *Backend) enter(method, call string) (unlock func(), err error) {
	b.mu.Lock()
	if call != "" {
		b.calls = append(b.calls, method+" "+call)
	}
	if e := b.state.Errors[method]; e != nil {
		return b.mu.Unlock, e
	}
	return b.mu.Unlock, nil
}

func (b *Backend) find(ref v1alpha1.Ref) (int, error) {
	i := slices.IndexFunc(b.state.Items, func(it v1alpha1.Item) bool { return it.Kind == ref.Kind && it.Metadata.Name == ref.Name })
	if i < 0 {
		return i, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no %s", ref)}
	}
	return i, nil
}

// List implements server.Objects.
func (b *Backend) List(context.Context) ([]v1alpha1.Item, error) {
	unlock, err := b.enter("List", "")
	defer unlock()
	return slices.Clone(b.state.Items), err
}

// Changed implements server.Objects.
func (b *Backend) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Sources implements server.Objects.
func (b *Backend) Sources(context.Context) ([]v1alpha1.SourceStatus, error) {
	unlock, err := b.enter("Sources", "")
	defer unlock()
	return slices.Clone(b.state.Sources), err
}

// Problems implements server.Objects.
func (b *Backend) Problems(context.Context) ([]spec.Problem, error) {
	unlock, err := b.enter("Problems", "")
	defer unlock()
	return slices.Clone(b.state.Problems), err
}

// Events implements server.Events.
func (b *Backend) Events(_ context.Context, after int64) ([]v1alpha1.Event, error) {
	unlock, err := b.enter("Events", "")
	defer unlock()
	return slices.DeleteFunc(slices.Clone(b.state.Events), func(e v1alpha1.Event) bool { return e.Seq <= after }), err
}

// EventsChanged implements server.Events.
func (b *Backend) EventsChanged() <-chan struct{} { return b.Changed() }

// History implements server.Objects.
func (b *Backend) History(_ context.Context, ref v1alpha1.Ref) ([]v1alpha1.Generation, error) {
	unlock, err := b.enter("History", "")
	defer unlock()
	if err != nil {
		return nil, err
	}
	_, err = b.find(ref)
	return b.state.History[ref.String()], err
}

// Plan implements server.Objects.
func (b *Backend) Plan(_ context.Context, files []v1alpha1.File) (v1alpha1.PlanReport, error) {
	unlock, err := b.enter("Plan", fmt.Sprintf("%d files", len(files)))
	defer unlock()
	return b.state.Plan, err
}

// Apply implements server.Objects: each document becomes an item that is Pending.
func (b *Backend) Apply(_ context.Context, source string, files []v1alpha1.File) ([]v1alpha1.ApplyResult, error) {
	unlock, err := b.enter("Apply", source)
	defer unlock()
	if err != nil {
		return nil, err
	}
	var results []v1alpha1.ApplyResult
	for _, f := range files {
		for doc := range bytes.SplitSeq(f.Data, []byte("\n---\n")) {
			var item v1alpha1.Item
			if err := yaml.Unmarshal(doc, &item); err != nil {
				return nil, err
			}
			item.Metadata.Source = v1alpha1.SourcePosition{Name: cmp.Or(source, "local"), File: f.Name, Line: 1}
			results = append(results, b.put(item))
		}
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return results, nil
}

func (b *Backend) put(item v1alpha1.Item) v1alpha1.ApplyResult {
	ref := v1alpha1.Ref{Kind: item.Kind, Name: item.Metadata.Name}
	result := v1alpha1.ApplyResult{Ref: ref, Action: v1alpha1.ApplyCreated, Generation: 1, Source: item.Metadata.Source}
	item.Metadata.Generation = 1
	item.Status = v1alpha1.Status{Phase: v1alpha1.PhasePending, Conditions: []v1alpha1.Condition{}}
	i, err := b.find(ref)
	if err != nil {
		b.state.Items = append(b.state.Items, item)
		return result
	}
	old := b.state.Items[i]
	if reflect.DeepEqual(old.Spec, item.Spec) {
		result.Action, result.Generation = v1alpha1.ApplyUnchanged, old.Metadata.Generation
		return result
	}
	item.Metadata.Generation = old.Metadata.Generation + 1
	item.Status = old.Status
	result.Action, result.Generation = v1alpha1.ApplyConfigured, item.Metadata.Generation
	b.state.Items[i] = item
	return result
}

// Delete implements server.Objects.
func (b *Backend) Delete(_ context.Context, ref v1alpha1.Ref) (v1alpha1.DeleteResult, error) {
	unlock, err := b.enter("Delete", ref.String())
	defer unlock()
	if err != nil {
		return v1alpha1.DeleteResult{}, err
	}
	i, err := b.find(ref)
	if err != nil {
		return v1alpha1.DeleteResult{}, err
	}
	uid := b.state.Items[i].Metadata.UID
	b.state.Items = slices.Delete(b.state.Items, i, i+1)
	close(b.changed)
	b.changed = make(chan struct{})
	return v1alpha1.DeleteResult{Ref: ref, UID: uid, Data: b.state.Deletions[ref.String()]}, nil
}

// SyncSource implements server.Objects: what the source's Error says is why it fails.
func (b *Backend) SyncSource(_ context.Context, source string) (v1alpha1.GitStatus, error) {
	unlock, err := b.enter("SyncSource", source)
	defer unlock()
	if err != nil {
		return v1alpha1.GitStatus{}, err
	}
	g, err := b.repository(source)
	switch {
	case err != nil:
		return v1alpha1.GitStatus{}, err
	case g.Suspended:
		return *g, &wire.Error{Code: wire.Conflict, Message: fmt.Sprintf("source %s is suspended", source), Next: "tekton source resume " + source}
	case g.Error != "":
		return *g, &wire.Error{Code: wire.Invalid, Message: g.Error}
	}
	return *g, nil
}

// SuspendSource implements server.Objects.
func (b *Backend) SuspendSource(_ context.Context, source string, suspended bool) error {
	unlock, err := b.enter("SuspendSource", fmt.Sprintf("%s %t", source, suspended))
	defer unlock()
	if err != nil {
		return err
	}
	g, err := b.repository(source)
	if err == nil {
		g.Suspended = suspended
	}
	return err
}

func (b *Backend) repository(source string) (*v1alpha1.GitStatus, error) {
	for _, s := range b.state.Sources {
		switch {
		case s.Name == source && s.Git == nil:
			return nil, &wire.Error{Code: wire.Conflict, Message: fmt.Sprintf("source %s is a directory", source)}
		case s.Name == source:
			return s.Git, nil
		}
	}
	return nil, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no source %q", source)}
}

// ReleaseDeletes implements server.Objects.
func (b *Backend) ReleaseDeletes(_ context.Context, source string) ([]v1alpha1.Ref, error) {
	unlock, err := b.enter("ReleaseDeletes", source)
	defer unlock()
	if err != nil {
		return nil, err
	}
	for i, s := range b.state.Sources {
		if s.Name == source {
			b.state.Sources[i].Held = nil
			return s.Held, nil
		}
	}
	return nil, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no source %q", source)}
}
