package supervise

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-logr/logr"
)

// Form is how supervisors are started and kept.
type Form string

const (
	// Supervised: started by the Manager in a session and cgroup of their own.
	Supervised Form = "supervised"
	// Systemd: started as transient units of the host's systemd.
	Systemd Form = "systemd"
)

// defaultParent names the cgroup, or the slice, that holds all units.
const defaultParent = "tekton"

// DetectForm returns Systemd on a host whose PID 1 is systemd.
func DetectForm() Form {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return Systemd
	}
	return Supervised
}

// Options of a Manager.
type Options struct {
	Form    Form   // required
	Program string // required: absolute path of tekton-supervise
	// Parent is the cgroup below which supervised units get theirs, and
	// without ".slice" the name of the slice of systemd's. Optional: "tekton".
	// Manager.Units counts everything in it as ours.
	Parent string
	Log    logr.Logger // optional
}

// Manager starts, stops and reads supervised processes. It holds no state that
// matters: a new one takes over everything. All methods may be called
// concurrently.
type Manager struct {
	opts   Options
	form   launcher
	events *hub
	busy   keyedLock
	seen   sync.Map // directory → seen
}

// launcher is what differs between the forms: everything about the unit, which
// is the cgroup or systemd's unit around a supervisor.
type launcher interface {
	// launch starts the supervisor of dir. When that cannot take up its work,
	// failed delivers why.
	launch(ctx context.Context, dir string, s Spec) (failed <-chan error, err error)
	// clear kills and removes what there is of the unit. A unit of somebody
	// else is a Conflict error and stays.
	clear(ctx context.Context, unit, mark string) error
	// setLimits does its part of changing limits; the supervisor does the rest.
	setLimits(ctx context.Context, unit string, l Limits) error
	units(ctx context.Context) ([]Unit, error)
	close() error
}

// New returns a Manager. Nothing is touched before it is used.
func New(o Options) (*Manager, error) {
	if !filepath.IsAbs(o.Program) {
		return nil, fmt.Errorf("supervise: Program %q is not an absolute path to tekton-supervise", o.Program)
	}
	if o.Parent == "" {
		o.Parent = defaultParent
	}
	if strings.ContainsAny(o.Parent, "/.") {
		return nil, fmt.Errorf("supervise: Parent %q must be a plain name", o.Parent)
	}
	m := &Manager{opts: o, events: newHub()}
	switch o.Form {
	case Supervised:
		m.form = &supervised{program: o.Program, parent: o.Parent, log: o.Log}
	case Systemd:
		m.form = &systemd{program: o.Program, slice: o.Parent + ".slice"}
	default:
		return nil, fmt.Errorf("supervise: Form %q is neither %q nor %q", o.Form, Supervised, Systemd)
	}
	return m, nil
}

// Close releases what the Manager holds in this process; supervised processes
// are not affected.
func (m *Manager) Close() error {
	m.events.close()
	return m.form.close()
}

// Unit is a unit or cgroup of ours that exists on the host.
type Unit struct {
	Name string // Spec.Unit
	Mark string // Spec.Mark, "" when unreadable
	// Processes in it, 0 for a cgroup that was left empty.
	Processes int
}

// Units lists what exists of ours on the host whatever the directories say,
// for a check that nothing was left. markPrefix selects ("tekton/<installation>/"; "" all).
func (m *Manager) Units(ctx context.Context, markPrefix string) ([]Unit, error) {
	all, err := m.form.units(ctx)
	if err != nil {
		return nil, err
	}
	var out []Unit
	for _, u := range all {
		if strings.HasPrefix(u.Mark, markPrefix) {
			out = append(out, u)
		}
	}
	return out, nil
}

// Clear kills and removes a unit whose directory is gone. A unit whose mark is
// of another installation than mark is a Conflict error and stays.
func (m *Manager) Clear(ctx context.Context, unit, mark string) error {
	return m.form.clear(ctx, unit, mark)
}

// keyedLock serializes what is done to one directory.
type keyedLock struct {
	mu   sync.Mutex
	keys map[string]*keyed
}

type keyed struct {
	token chan struct{}
	users int
}

func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	if l.keys == nil {
		l.keys = make(map[string]*keyed)
	}
	k := l.keys[key]
	if k == nil {
		k = &keyed{token: make(chan struct{}, 1)}
		l.keys[key] = k
	}
	k.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.keys, key)
		}
	}
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
