package nix

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tekton.host/pkg/job"
	"tekton.host/pkg/resource"
)

// Reasons of a failed build.
const (
	reasonLock       = "LockFailed"
	reasonEvaluation = "EvaluationFailed"
	reasonBuild      = "BuildFailed"
	reasonTimeout    = "BuildTimeout"
	reasonNixMissing = "NixMissing"
)

// evaluations of code whose derivation was collected before it was rooted.
const evaluations = 3

// jobVersion of a build's description.
const jobVersion = 1

// homeDir in a build's directory is the evaluator's; gone when the build has ended.
const homeDir = "home"

// description of one attempt to build a closure.
type description struct {
	job.Header
	Flake   string `json:"flake"`
	Trusted bool   `json:"trusted,omitempty"`
	// UID and GID that code is evaluated as.
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// RunBuild makes the attempt of a closure's directory. It is the whole work of
// the supervised process; what it says on out is the build's log.
func RunBuild(ctx context.Context, dir string, out io.Writer) error {
	b := &build{Attempt: job.Attempt{Dir: dir, Out: out, Failed: reasonBuild, Timeout: reasonTimeout}, log: newLogReader()}
	b.Progress = b.progress
	return b.Run(ctx, jobVersion, &b.description, b.run, func() error {
		return errors.Join(b.releaseNext(), os.RemoveAll(filepath.Join(dir, homeDir)))
	})
}

type build struct {
	job.Attempt
	description
	roots Roots

	mu  sync.Mutex
	log *logReader
}

// releaseNext lets go of what only the attempt needed.
func (b *build) releaseNext() error {
	return errors.Join(b.roots.Remove(derivationRoot(b.Name)), b.roots.Remove(nextRoot(b.Name)))
}

// Roots of a closure: its result, and while it is built what it will be and from what.
func derivationRoot(name string) string { return name + ".drv" }
func nextRoot(name string) string       { return name + ".next" }

// run locks, evaluates and builds.
func (b *build) run(ctx context.Context) error {
	b.roots = NewRoots(b.Installation)
	c, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	b.begin("locking")
	ref, attr, _ := strings.Cut(b.Flake, "#")
	next, err := c.lock(ctx, ref)
	if err != nil {
		return err
	}
	b.Say("tekton: %s is %s", ref, next.Locked)
	var last resource.Built
	if _, err := b.Last(&last); err == nil && last.Locked == next.Locked && b.kept(last.StorePath) {
		next.StorePath = last.StorePath // the same reference gives the same result
		return b.Succeed(next)
	}
	drv, err := b.evaluate(ctx, c, next.Locked+"#"+attr)
	if err != nil {
		return err
	}
	b.begin("building")
	if err := c.realise(ctx, drv); err != nil {
		return err
	}
	if _, err := os.Lstat(drv.Out); err != nil {
		return job.Failed(reasonBuild, "nix built %s without its output: %w", drv.Drv, err)
	}
	if err := b.roots.Put(ctx, b.Name, drv.Out); err != nil {
		return err
	}
	next.StorePath = drv.Out
	return b.Succeed(next)
}

// kept reports whether a store path is there and ours to keep.
func (b *build) kept(path string) bool {
	roots, err := b.roots.List()
	return err == nil && path != "" && roots[b.Name] == path && exists(path)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// evaluate makes the derivation, and keeps it and what it is to become from the
// garbage collector.
func (b *build) evaluate(ctx context.Context, c *client, installable string) (derivation, error) {
	for range evaluations {
		b.begin("evaluating")
		drv, err := c.evaluate(ctx, installable, b.Trusted)
		if err != nil {
			return derivation{}, err
		}
		if err := b.roots.Put(ctx, derivationRoot(b.Name), drv.Drv); err != nil {
			return derivation{}, err
		}
		if err := b.roots.Put(ctx, nextRoot(b.Name), drv.Out); err != nil {
			return derivation{}, err
		}
		if exists(drv.Drv) {
			return drv, nil
		}
	}
	return derivation{}, job.Failed(reasonEvaluation, "the garbage collector took what %s evaluates to %d times", installable, evaluations)
}

// begin says what is done now.
func (b *build) begin(phase string) {
	b.Begin(phase)
	b.mu.Lock()
	b.log = newLogReader()
	b.mu.Unlock()
}

// line takes one line of a program of Nix.
func (b *build) line(raw []byte) {
	b.mu.Lock()
	text := b.log.line(raw)
	b.mu.Unlock()
	if text != "" {
		b.Say("%s", text)
	}
}

func (b *build) progress() any {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.log.progress()
	p.Phase = b.Phase()
	return p
}
