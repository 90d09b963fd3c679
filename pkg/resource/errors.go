package resource

import (
	"errors"
	"time"
)

// ReasonProbeFailed is the reason of an answer that did not come by its
// deadline: a replacement is then taken back.
const ReasonProbeFailed = "ProbeFailed"

// ReasonSetupTimeout is that of a setup that did not come to its end by its
// deadline: a replacement is then taken back, too.
const ReasonSetupTimeout = "SetupTimeout"

// ErrStale says that the thing is not as the plan saw it: plan again at once.
var ErrStale = errors.New("changed since it was planned")

// TerminalError says that a retry cannot help until the spec, a secret or the
// host's configuration changes. Reason is a CamelCase condition reason.
type TerminalError struct {
	Reason string
	Err    error
}

func (e *TerminalError) Error() string { return e.Err.Error() }
func (e *TerminalError) Unwrap() error { return e.Err }

// Terminal wraps err as terminal with a condition reason.
func Terminal(reason string, err error) error { return &TerminalError{reason, err} }

// WaitingError says that something else has to happen first; look again after
// After, without counting it as a failure.
type WaitingError struct {
	Reason string
	After  time.Duration
	Err    error
}

func (e *WaitingError) Error() string { return e.Err.Error() }
func (e *WaitingError) Unwrap() error { return e.Err }

// Waiting wraps err as waiting.
func Waiting(reason string, after time.Duration, err error) error {
	return &WaitingError{reason, after, err}
}

// takenRetry is when to look again for something that only a person can change.
const takenRetry = 10 * time.Second

// Taken says that something that is not ours stands where ours is to be, or is
// missing or other than ours needs it. Whoever changes that tells nobody, so it is
// looked at again.
func Taken(reason string, err error) error { return Waiting(reason, takenRetry, err) }

// Any other error is retried with backoff: 1 s doubling to 5 min, with jitter.
// ReasonError gives such an error a CamelCase condition reason.
type ReasonError struct {
	Reason string
	Err    error
}

func (e *ReasonError) Error() string { return e.Err.Error() }
func (e *ReasonError) Unwrap() error { return e.Err }

// Because gives a retried error a condition reason.
func Because(reason string, err error) error { return &ReasonError{reason, err} }

// Reason returns the condition reason that err carries, else fallback.
func Reason(err error, fallback string) string {
	if e, ok := errors.AsType[*TerminalError](err); ok {
		return e.Reason
	}
	if e, ok := errors.AsType[*WaitingError](err); ok {
		return e.Reason
	}
	if e, ok := errors.AsType[*ReasonError](err); ok {
		return e.Reason
	}
	return fallback
}
