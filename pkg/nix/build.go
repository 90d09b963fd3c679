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
// configDir is root's, with a preview's configuration; it goes, too.
const (
	homeDir   = "home"
	configDir = "config"
)

// description of one attempt to build a closure.
type description struct {
	job.Header
	Flake   string `json:"flake"`
	Trusted bool   `json:"trusted,omitempty"`
	Config  string `json:"config,omitempty"`
	Fetch   bool   `json:"fetch,omitempty"`
	// Memory that the build may have; 0: any.
	Memory int64 `json:"memory,omitempty"`
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
		err := b.releaseNext()
		for _, name := range []string{homeDir, configDir, rootDir} {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
		return err
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
	return errors.Join(removeNext(b.roots, b.Name), removeNext(b.roots, metaRoot(b.Name)))
}

// Roots of a closure: its result, and while it is built what it will be and from
// what, also of its previewMeta.
func derivationRoot(name string) string { return name + ".drv" }
func nextRoot(name string) string       { return name + ".next" }
func metaRoot(name string) string       { return name + ".meta" }

func removeNext(roots Roots, name string) error {
	return errors.Join(roots.Remove(derivationRoot(name)), roots.Remove(nextRoot(name)))
}

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
		next.StorePath, next.Meta = last.StorePath, last.Meta // the same reference gives the same result
		return b.Succeed(next)
	}
	drvs, err := b.evaluate(ctx, c, next.Locked, attr)
	if err != nil {
		return err
	}
	b.begin("building")
	for _, drv := range drvs {
		if b.Config != "" && !b.Fetch {
			if err := c.refuseFetches(ctx, drv); err != nil {
				return err
			}
		}
		if err := c.realise(ctx, drv); err != nil {
			return err
		}
		if _, err := os.Lstat(drv.Out); err != nil {
			return job.Failed(reasonBuild, "nix built %s without its output: %w", drv.Drv, err)
		}
	}
	if b.Config != "" {
		if next.Meta, err = readMeta(drvs[1].Out); err != nil {
			return err
		}
	}
	if err := b.roots.Put(ctx, b.Name, drvs[0].Out); err != nil {
		return err
	}
	next.StorePath = drvs[0].Out
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

// evaluate makes the derivations — the system's, and for a Config that of its
// previewMeta — and keeps them and what they are to become from the garbage collector.
func (b *build) evaluate(ctx context.Context, c *client, locked, attr string) ([]derivation, error) {
	for range evaluations {
		b.begin("evaluating")
		drvs, err := b.derivations(ctx, c, locked, attr)
		if err != nil {
			return nil, err
		}
		there := true
		for i, name := range []string{b.Name, metaRoot(b.Name)}[:len(drvs)] {
			if err := b.roots.Put(ctx, derivationRoot(name), drvs[i].Drv); err != nil {
				return nil, err
			}
			if err := b.roots.Put(ctx, nextRoot(name), drvs[i].Out); err != nil {
				return nil, err
			}
			there = there && exists(drvs[i].Drv)
		}
		if there {
			return drvs, nil
		}
	}
	return nil, job.Failed(reasonEvaluation, "the garbage collector took what %s#%s evaluates to %d times", locked, attr, evaluations)
}

func (b *build) derivations(ctx context.Context, c *client, locked, attr string) ([]derivation, error) {
	if b.Config != "" {
		return c.evaluatePreview(ctx, locked, attr)
	}
	drv, err := c.evaluate(ctx, locked+"#"+attr, b.Trusted)
	return []derivation{drv}, err
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
