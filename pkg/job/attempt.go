package job

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

	"tekton.host/pkg/host"
)

const (
	// progressEvery bounds how often the progress is written.
	progressEvery = 300 * time.Millisecond
	// outcomeLines of the log are kept in the outcome, of at most outcomeLine bytes.
	outcomeLines = 20
	outcomeLine  = 500
)

// errFailed says that the attempt came to its end, and that it has failed; its
// outcome is written.
var errFailed = errors.New("the attempt has failed")

// Failure is an error with the reason that status shows.
type Failure struct {
	Reason string
	Err    error
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Failed returns a Failure.
func Failed(reason, format string, args ...any) error {
	return &Failure{reason, fmt.Errorf(format, args...)}
}

// Attempt is the whole work of the supervised process.
type Attempt struct {
	Dir string
	// Out takes the log.
	Out io.Writer
	// Failed and Timeout are the reasons of a failure that gives none itself,
	// and of one by the deadline.
	Failed, Timeout string
	// Progress returns what is told of the progress. It is called concurrently.
	Progress func() any

	mu    sync.Mutex
	phase string
	last  []string // lines of the log
}

// Run makes the attempt that is described in the directory. work ends with its
// context; tidy is called after it, whatever came of it, unless the process was
// asked to stop.
func (a *Attempt) Run(ctx context.Context, version int, d Description, work func(context.Context) error, tidy func() error) error {
	if found, err := load(a.Dir, version, d); err != nil || !found {
		return errors.Join(err, fmt.Errorf("%s has no readable %s", a.Dir, DescriptionFile))
	}
	h := d.Head()
	deadline, cancel := context.WithTimeout(ctx, time.Duration(h.Deadline))
	defer cancel()
	var reporting sync.WaitGroup
	reported, stop := context.WithCancel(deadline)
	reporting.Go(func() { a.report(reported) })
	err := work(deadline)
	stop()
	reporting.Wait()
	if ctx.Err() != nil {
		return ctx.Err() // asked to stop: that is no outcome
	}
	o := a.outcome(deadline, h, err)
	if o.Reason != "" {
		a.Say("tekton: %s: %s", o.Reason, o.Message)
		err = errFailed
	}
	return errors.Join(err, tidy(), writeJSON(a.Dir, outcomeFile, o), os.RemoveAll(filepath.Join(a.Dir, progressFile)))
}

// outcome says how the attempt ended.
func (a *Attempt) outcome(ctx context.Context, h *Header, err error) outcome {
	o := outcome{Attempt: h.Attempt, EndedAt: time.Now()}
	if err == nil {
		return o
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o.Reason, o.Message, o.Log = a.Failed, host.Shorten(err.Error(), 2*outcomeLine), slices.Clone(a.last)
	if f, ok := errors.AsType[*Failure](err); ok {
		o.Reason = f.Reason
	}
	if ctx.Err() != nil {
		o.Reason, o.Message = a.Timeout, fmt.Sprintf("%s took longer than %s", a.phase, time.Duration(h.Deadline))
	}
	return o
}

// Last reads the result of the latest success.
func (a *Attempt) Last(into any) (found bool, err error) { return readJSON(a.Dir, resultFile, into) }

// Succeed writes the result, durably.
func (a *Attempt) Succeed(result any) error { return writeJSON(a.Dir, resultFile, result) }

// Begin says what is done now.
func (a *Attempt) Begin(phase string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phase = phase
}

// Phase is what is done now.
func (a *Attempt) Phase() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.phase
}

// Say writes lines to the log.
func (a *Attempt) Say(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		line = strings.TrimSuffix(line, "\n")
		fmt.Fprintln(a.Out, line)
		a.last = append(a.last, host.Shorten(line, outcomeLine))
		a.last = slices.Delete(a.last, 0, max(len(a.last)-outcomeLines, 0))
	}
}

// report writes the progress until ctx ends. It is for status only: it is not
// synced, and losing it loses nothing.
func (a *Attempt) report(ctx context.Context) {
	path, last := filepath.Join(a.Dir, progressFile), ""
	for {
		raw, err := json.Marshal(a.Progress())
		if err == nil && string(raw) != last && os.WriteFile(path+".new", raw, 0o600) == nil {
			_ = os.Rename(path+".new", path)
			last = string(raw)
		}
		select {
		case <-time.After(progressEvery):
		case <-ctx.Done():
			return
		}
	}
}
