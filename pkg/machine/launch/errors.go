package launch

import (
	"errors"
	"fmt"
)

// Exit codes of a launch that failed before nspawn ran.
const (
	ExitIDMap  = 120 // kernel or file system cannot map ids
	ExitSecret = 121 // a secret's file is missing or unusable
	ExitSystem = 122 // the system (rootfs, store path, volume, mount) is not there
	ExitOther  = 125
)

// Error is a failed launch with its exit code.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func fail(code int, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...)}
}

// Code returns the exit code for an error of Run.
func Code(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ExitOther
}

// Reason is the condition reason for an exit code of a launch that failed.
func Reason(code int) string {
	switch code {
	case ExitIDMap:
		return "IDMapUnsupported"
	case ExitSecret:
		return "SecretMissing"
	case ExitSystem:
		return "SystemMissing"
	}
	return "StartFailed"
}
