package nix

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/resource"
)

// Files of a closure's directory, beside those of its supervisor.
const (
	jobFile      = "job.json"      // job, written by the daemon before each attempt
	progressFile = "progress.json" // resource.Progress, written by the build
	outcomeFile  = "outcome.json"  // outcome of the latest attempt that came to its end
	resultFile   = "result.json"   // resource.Built of the latest success
	homeDir      = "home"          // of the evaluator; gone when the build has ended
)

// jobVersion of job.json.
const jobVersion = 1

// job is one attempt to build a closure.
type job struct {
	Version      int               `json:"version"`
	Installation string            `json:"installation"`
	Name         string            `json:"name"`
	Flake        string            `json:"flake"`
	Trusted      bool              `json:"trusted,omitempty"`
	Attempt      int               `json:"attempt"`
	Failures     int               `json:"failures,omitempty"` // before this attempt
	AskedAt      time.Time         `json:"askedAt"`
	Deadline     resource.Duration `json:"deadline"`
	// UID and GID that code is evaluated as.
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// outcome is how an attempt ended.
type outcome struct {
	Attempt int       `json:"attempt"`
	EndedAt time.Time `json:"endedAt"`
	// Reason is "" for a success.
	Reason  string   `json:"reason,omitempty"`
	Message string   `json:"message,omitempty"`
	Log     []string `json:"log,omitempty"`
}

// readJSON reads a file of a closure's directory; found is false when there is none.
func readJSON(dir, name string, into any) (found bool, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return false, fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return true, nil
}

func writeJSON(dir, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return host.WriteFile(filepath.Join(dir, name), raw, 0o600)
}
