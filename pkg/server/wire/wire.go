package wire

import (
	"runtime"
	"runtime/debug"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// Code says what sort of error it is.
type Code string

const (
	NotFound    Code = "NotFound"    // no such object, secret, data or source
	Invalid     Code = "Invalid"     // the request or the specs in it are wrong
	Conflict    Code = "Conflict"    // it is not in a state that allows this
	Forbidden   Code = "Forbidden"   // not for this user
	Unavailable Code = "Unavailable" // not now; try again
	Internal    Code = "Internal"
)

// Error is how a request fails. A Backend returns it to choose the code; any
// other error is Internal.
type Error struct {
	Code Code `json:"code"`
	// Message says what, where and why, without secrets.
	Message string `json:"message"`
	// Next is what the user can do about it.
	Next string `json:"next,omitempty"`
	// Problems of the specs in the request.
	Problems []spec.Problem `json:"problems,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Paths of the API.
const (
	PathVersion  = "/v1/version"
	PathObjects  = "/v1/objects"
	PathSources  = "/v1/sources"
	PathEvents   = "/v1/events"
	PathProblems = "/v1/problems"
	PathUsage    = "/v1/usage"
	PathPlan     = "/v1/plan"
	PathApply    = "/v1/apply"
	PathSecrets  = "/v1/secrets"
	PathData     = "/v1/data"
	PathBackup   = "/v1/backup"
	PathProfile  = "/v1/debug/pprof"
	// PathMetrics answers in Prometheus' text format.
	PathMetrics = "/metrics"
)

// Limits of requests.
const (
	MaxRequest = 32 << 20 // bytes of specs
	MaxSecret  = 1 << 20  // bytes of one secret
)

// PlanRequest asks for the plan with files laid over what the sources hold.
type PlanRequest struct {
	Files []v1alpha1.File `json:"files,omitempty"`
}

// ApplyRequest puts files into a source.
type ApplyRequest struct {
	// Source to write to; empty: the first.
	Source string          `json:"source,omitempty"`
	Files  []v1alpha1.File `json:"files"`
}

// ExecProtocol is the value of the Upgrade header.
const ExecProtocol = "tekton-exec/1"

// ExecRequest starts a command in a machine.
type ExecRequest struct {
	Command []string `json:"command"`
	// WorkDir inside; empty: the root directory.
	WorkDir string `json:"workDir,omitempty"`
	// Terminal is set for a command on a terminal.
	Terminal *Terminal `json:"terminal,omitempty"`
}

// Terminal is the client's terminal.
type Terminal struct {
	// Type is $TERM.
	Type string `json:"type,omitempty"`
	Size Size   `json:"size"`
}

// Size of a terminal in characters.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// version is set by the linker; hack/build.sh does.
var version string

// Build says what this program is.
func Build() v1alpha1.VersionInfo {
	if version != "" {
		return v1alpha1.VersionInfo{Version: version, GoVersion: runtime.Version(), APIVersion: v1alpha1.APIVersion}
	}
	v := v1alpha1.VersionInfo{Version: "unknown", GoVersion: runtime.Version(), APIVersion: v1alpha1.APIVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	return v
}
