package reconcile

import (
	"context"
	"time"

	"github.com/go-logr/logr"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/resource"
	"tekton.host/pkg/source"
)

// Source is where specs come from.
type Source interface {
	Name() string
	// Snapshot reads the source.
	Snapshot(ctx context.Context) source.Snapshot
	// Resync has the next Snapshot read everything, also what looks unchanged.
	Resync()
	// Watch calls notify when the source may have changed, until ctx ends.
	Watch(ctx context.Context, notify func()) error
}

// Secrets is what the engine needs of the secrets directory.
type Secrets interface {
	// Digests of all secrets by name.
	Digests() (map[string]string, error)
	Watch(ctx context.Context, notify func()) error
}

// Options of an Engine.
type Options struct {
	Config                    // required
	Drivers []resource.Driver // required
	Sources []Source          // required
	Secrets Secrets           // required
	Now     func() time.Time  // optional: time.Now
	Log     logr.Logger       // optional
	// ParallelStarts bounds machine starts; they are bound by CPU.
	ParallelStarts int // required
	// Missing is what was remembered of missing objects, and Remember keeps it:
	// a restart of the daemon must not lift the brake of a mass deletion. Optional.
	Missing  absence.State
	Remember func(absence.State) error
	// OnStep is told of each step that ended; for failpoints and tests. Optional.
	OnStep func(resource.Step, error)
	// Meter is told how long things take. Optional.
	Meter Meter
}

// Meter is told how long things take, by several goroutines at once.
type Meter interface {
	// Pass of the planner.
	Pass(took time.Duration, err error)
	// Look at an input: a driver, a source, the secrets.
	Look(input string, took time.Duration)
	// Step that ended; steps that were applied together took as long as all.
	Step(s resource.Step, took time.Duration, err error)
}

type noMeter struct{}

func (noMeter) Pass(time.Duration, error)                {}
func (noMeter) Look(string, time.Duration)               {}
func (noMeter) Step(resource.Step, time.Duration, error) {}
