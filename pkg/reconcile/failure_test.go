package reconcile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/plan"
	"tekton.host/pkg/resource"
)

// TestDiskFull: whoever says it, in whatever driver, the reason is the same, and
// a person who has made room need not wait for the pause to end.
func TestDiskFull(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, err := range []error{
		&os.PathError{Op: "write", Path: "/state/ledger.json", Err: syscall.ENOSPC},
		resource.Because("LedgerWrite", fmt.Errorf("write the ledger: %w", syscall.ENOSPC)),
		errors.New(`FATAL: could not write to file "pg_wal/xlogtemp.1": No space left on device`),
	} {
		fs := failures{}
		step := resource.Step{Verb: resource.Put, Resource: resource.New("uid", "", "web", resource.Claim{Key: "web", Owner: "uid"})}
		fs.finish(step, err, now)
		f := fs[step.Resource.ID]
		c := v1alpha1.Condition{Reason: f.Reason, Message: f.Message}
		explainFull(&c)
		if c.Reason != "DiskFull" || !strings.Contains(c.Message, err.Error()) || !strings.Contains(c.Message, "next step: free space") {
			t.Errorf("%v: %+v", err, c)
		}
		if !f.RetryAt.After(now) {
			t.Errorf("%v: tried again at once", err)
		}
		fs.hurry(now)
		if f := fs[step.Resource.ID]; f.RetryAt.After(now) || f.Attempts != 1 {
			t.Errorf("%v: hurried: %+v", err, f)
		}
	}
}

// TestHurryTerminal: what no retry helps is left alone, until somebody asks for one.
func TestHurryTerminal(t *testing.T) {
	now := time.Unix(1e9, 0)
	fs := failures{}
	step := resource.Step{Verb: resource.Put, Resource: resource.New("uid", "", "web", resource.Claim{Key: "web", Owner: "uid"})}
	tried := func() bool {
		p := plan.Make(plan.Input{
			Desired:  resource.Desired{Present: map[resource.ID]resource.Resource{step.Resource.ID: step.Resource}, Complete: map[string]bool{"uid": true}},
			Observed: resource.Observed{resource.KindClaim: resource.Known()}, Failures: fs.facts(), Now: now,
		})
		return len(p.Steps) == 1
	}
	if !tried() {
		t.Fatal("the step is not asked for")
	}
	fs.finish(step, resource.Terminal("InvalidClaim", errors.New("it is wrong")), now)
	now = now.Add(time.Hour)
	if tried() {
		t.Error("tried again by itself")
	}
	fs.hurry(now)
	if !tried() {
		t.Error("not tried when asked for")
	}
	fs.finish(step, resource.Terminal("InvalidClaim", errors.New("it is wrong")), now)
	if tried() {
		t.Error("tried again though it was just refused")
	}
}
