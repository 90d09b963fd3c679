package nix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tekton.host/pkg/resource"
)

// Reasons of a failed build.
const (
	reasonLock        = "LockFailed"
	reasonEvaluation  = "EvaluationFailed"
	reasonBuild       = "BuildFailed"
	reasonTimeout     = "BuildTimeout"
	reasonInterrupted = "Interrupted"
	reasonNixMissing  = "NixMissing"
)

const (
	// progressEvery bounds how often the progress is written.
	progressEvery = 300 * time.Millisecond
	// outcomeLines of the log are kept in the outcome, of at most outcomeLine bytes.
	outcomeLines = 20
	outcomeLine  = 500
	// evaluations of code whose derivation was collected before it was rooted.
	evaluations = 3
)

// errFailed says that the build came to its end, and that it has failed; its
// outcome is written.
var errFailed = errors.New("the build has failed")

// RunBuild makes the attempt of a closure's directory. It is the whole work of
// the supervised process; what it says on out is the build's log.
func RunBuild(ctx context.Context, dir string, out io.Writer) error {
	var j job
	if found, err := readJSON(dir, jobFile, &j); err != nil || !found {
		return errors.Join(err, fmt.Errorf("%s has no readable %s", dir, jobFile))
	}
	if j.Version != jobVersion {
		return fmt.Errorf("%s has version %d, this tekton builds %d", jobFile, j.Version, jobVersion)
	}
	b := &build{job: j, dir: dir, out: out, roots: NewRoots(j.Installation), log: newLogReader()}
	deadline, cancel := context.WithTimeout(ctx, time.Duration(j.Deadline))
	defer cancel()
	var reporting sync.WaitGroup
	reported, stop := context.WithCancel(deadline)
	reporting.Go(func() { b.report(reported) })
	err := b.run(deadline)
	stop()
	reporting.Wait()
	if ctx.Err() != nil {
		return ctx.Err() // asked to stop: that is no outcome
	}
	return errors.Join(b.close(deadline, err), os.RemoveAll(filepath.Join(dir, homeDir)))
}

type build struct {
	job
	dir   string
	out   io.Writer
	roots Roots

	mu      sync.Mutex
	log     *logReader
	phase   string
	last    []string // lines of the log
	changed bool     // since the progress was written
}

// failure is an error with the reason that status shows.
type failure struct {
	reason string
	err    error
}

func (f *failure) Error() string { return f.err.Error() }

func failed(reason, format string, args ...any) error {
	return &failure{reason, fmt.Errorf(format, args...)}
}

// close says how the attempt ended.
func (b *build) close(ctx context.Context, err error) error {
	o := outcome{Attempt: b.Attempt, EndedAt: time.Now()}
	if err != nil {
		o.Reason, o.Message, o.Log = reasonBuild, bounded(err.Error(), 2*outcomeLine), b.last
		if f, ok := errors.AsType[*failure](err); ok {
			o.Reason = f.reason
		}
		if ctx.Err() != nil {
			o.Reason, o.Message = reasonTimeout, fmt.Sprintf("%s took longer than %s", b.phase, time.Duration(b.Deadline))
		}
		b.say("tekton: %s: %s", o.Reason, o.Message)
		err = errFailed
	}
	return errors.Join(err, b.releaseNext(), writeJSON(b.dir, outcomeFile, o), os.RemoveAll(filepath.Join(b.dir, progressFile)))
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
	b.say("tekton: %s is %s", ref, next.Locked)
	var last resource.Built
	if _, err := readJSON(b.dir, resultFile, &last); err == nil && last.Locked == next.Locked && b.kept(last.StorePath) {
		next.StorePath = last.StorePath // the same reference gives the same result
		return writeJSON(b.dir, resultFile, next)
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
		return failed(reasonBuild, "nix built %s without its output: %w", drv.Drv, err)
	}
	if err := b.roots.Put(ctx, b.Name, drv.Out); err != nil {
		return err
	}
	next.StorePath = drv.Out
	return writeJSON(b.dir, resultFile, next)
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
	return derivation{}, failed(reasonEvaluation, "the garbage collector took what %s evaluates to %d times", installable, evaluations)
}

// begin says what is done now.
func (b *build) begin(phase string) {
	b.mu.Lock()
	b.phase, b.log, b.changed = phase, newLogReader(), true
	b.mu.Unlock()
}

// line takes one line of a program of Nix.
func (b *build) line(raw []byte) {
	b.mu.Lock()
	text := b.log.line(raw)
	b.changed = true
	b.mu.Unlock()
	if text != "" {
		b.say("%s", text)
	}
}

func (b *build) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		line = strings.TrimSuffix(line, "\n")
		fmt.Fprintln(b.out, line)
		b.last = append(b.last, bounded(line, outcomeLine))
		b.last = slices.Delete(b.last, 0, max(len(b.last)-outcomeLines, 0))
	}
}

func bounded(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// report writes the progress until ctx ends.
func (b *build) report(ctx context.Context) {
	for {
		b.writeProgress()
		select {
		case <-time.After(progressEvery):
		case <-ctx.Done():
			return
		}
	}
}

// writeProgress is for status only: it is not synced, and losing it loses nothing.
func (b *build) writeProgress() {
	b.mu.Lock()
	p, changed := b.log.progress(), b.changed
	p.Phase, b.changed = b.phase, false
	b.mu.Unlock()
	if !changed {
		return
	}
	raw, err := json.Marshal(p)
	path := filepath.Join(b.dir, progressFile)
	if err == nil && os.WriteFile(path+".new", raw, 0o600) == nil {
		_ = os.Rename(path+".new", path)
	}
}
