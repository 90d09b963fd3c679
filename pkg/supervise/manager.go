package supervise

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

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
type Manager struct{ opts Options }

// New returns a Manager.
func New(o Options) (*Manager, error) { return &Manager{o}, nil }

// Close releases what the Manager holds in this process; supervised processes
// are not affected.
func (m *Manager) Close() error { return nil }

var errUnsupported = errors.ErrUnsupported

// Start runs s in dir and returns once it runs: with Spec.Leader the leader is
// known, with Spec.Notify the process has said READY=1. When it ends before
// that, the error carries the last lines of its log. When dir has a running
// process already, its status is returned and nothing is done.
// Version and Boot of s are filled in. What an earlier, killed supervisor left
// running is killed first.
func (m *Manager) Start(ctx context.Context, dir string, s Spec) (Status, error) {
	return Status{}, errUnsupported
}

// Status reads dir; found is false when it has none. A process whose
// supervisor was killed reads as ended with code 137.
func (m *Manager) Status(dir string) (s Status, found bool, err error) {
	return Status{}, false, errUnsupported
}

// ReadSpec returns the spec that dir was started with last.
func (m *Manager) ReadSpec(dir string) (s Spec, found bool, err error) {
	return Spec{}, false, errUnsupported
}

// Stop ends what runs in dir: stop signal, after timeout (0: that of the spec)
// SIGKILL to all of it. When it returns nil all processes and the cgroup are
// gone, and dir has no status any more; the log stays. Gone already is success.
func (m *Manager) Stop(ctx context.Context, dir string, timeout time.Duration) error {
	return errUnsupported
}

// SetLimits changes the limits of what runs in dir, and in its spec.
func (m *Manager) SetLimits(ctx context.Context, dir string, l Limits) error {
	return errUnsupported
}

// Signal sends sig to the process in dir (with Spec.Leader: to systemd-nspawn).
func (m *Manager) Signal(ctx context.Context, dir string, sig syscall.Signal) error {
	return errUnsupported
}

// TailLog returns the last n lines of dir's log; nil when there is none.
func TailLog(dir string, n int) []string { return nil }

// LogOptions of OpenLog.
type LogOptions struct {
	Lines  int  // begin with the last Lines lines; 0: from the oldest kept
	Follow bool // go on with what is added, over rotations, until ctx ends
}

// OpenLog reads dir's log as one stream. With Follow, Read waits for more and
// returns io.EOF when ctx ends.
func OpenLog(ctx context.Context, dir string, o LogOptions) (io.ReadCloser, error) {
	return nil, errUnsupported
}

// Watch calls notify whenever a process in a child directory of parent starts,
// becomes ready, ends or loses its supervisor, and when children come or go,
// until ctx ends. It has the shape of resource.Driver's Watch.
func (m *Manager) Watch(ctx context.Context, parent string, notify func()) error {
	return errUnsupported
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
	return nil, errUnsupported
}
