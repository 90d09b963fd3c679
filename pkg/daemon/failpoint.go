package daemon

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"tekton.host/pkg/resource"
)

// FailpointEnv names a step at which the daemon kills itself, as a crash in
// just that place would: "after:link.put", "before:unit.delete",
// "after:claim.put:3" for the third such step. With "hang:link.put" the planner
// stops for good when it is told of the step. It is for tests of recovery.
const FailpointEnv = "TEKTON_FAILPOINT"

// failpoint is where to die.
type failpoint struct {
	when string // before, after, hang
	kind resource.Kind
	verb resource.Verb
	nth  int64
	seen atomic.Int64
	die  func()
}

func parseFailpoint(s string) (*failpoint, error) {
	when, rest, _ := strings.Cut(s, ":")
	step, count, counted := strings.Cut(rest, ":")
	kind, verb, _ := strings.Cut(step, ".")
	f := &failpoint{when: when, kind: resource.Kind(kind), verb: resource.Verb(verb), nth: 1, die: killSelf}
	var err error
	if counted {
		f.nth, err = strconv.ParseInt(count, 10, 64)
	}
	if err != nil || f.nth < 1 || kind == "" || (when != "after" && when != "before" && when != "hang") || (f.verb != resource.Put && f.verb != resource.Delete) {
		return nil, fmt.Errorf("%s=%q is not of the form before|after|hang:KIND.put|delete[:N], such as after:link.put:2; correct or unset it", FailpointEnv, s)
	}
	return f, nil
}

// killSelf ends the process as kill -9 does: nothing is flushed, closed or reported.
func killSelf() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// guard wraps the drivers, and what the planner calls for each step, where the
// environment asks for a failpoint.
func guard(drivers []resource.Driver, onStep func(resource.Step, error), setting string) ([]resource.Driver, func(resource.Step, error), error) {
	if setting == "" {
		return drivers, onStep, nil
	}
	f, err := parseFailpoint(setting)
	if err != nil {
		return nil, nil, err
	}
	if f.when == "hang" {
		return drivers, func(s resource.Step, _ error) {
			if f.reachedBy([]resource.Step{s}) {
				select {}
			}
		}, nil
	}
	out := make([]resource.Driver, len(drivers))
	for i, d := range drivers {
		out[i] = &guarded{d, f}
	}
	return out, onStep, nil
}

type guarded struct {
	resource.Driver
	point *failpoint
}

// Apply dies before or after the batch with the step: a batch is one
// transaction, so a crash inside it is one of the two.
func (g *guarded) Apply(ctx context.Context, steps []resource.Step) []error {
	hit := g.point.reachedBy(steps)
	if hit && g.point.when == "before" {
		g.point.die()
	}
	errs := g.Driver.Apply(ctx, steps)
	if hit && g.point.when == "after" {
		g.point.die()
	}
	return errs
}

func (f *failpoint) reachedBy(steps []resource.Step) bool {
	hit := false
	for _, s := range steps {
		if s.Resource.Kind == f.kind && s.Verb == f.verb && f.seen.Add(1) == f.nth {
			hit = true
		}
	}
	return hit
}
