package job

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

// Files of a job's directory, beside those of its supervisor.
const (
	// DescriptionFile is a Description, written by the daemon before each attempt.
	DescriptionFile = "job.json"
	progressFile    = "progress.json" // written by the attempt
	outcomeFile     = "outcome.json"  // outcome of the latest attempt that came to its end
	resultFile      = "result.json"   // of the latest success
)

// Header is what each job says of its attempt.
type Header struct {
	Version      int               `json:"version"`
	Installation string            `json:"installation"`
	Name         string            `json:"name"`
	Attempt      int               `json:"attempt"`
	Failures     int               `json:"failures,omitempty"` // before this attempt
	AskedAt      time.Time         `json:"askedAt"`
	Deadline     resource.Duration `json:"deadline"`
}

// Head of a description.
func (h *Header) Head() *Header { return h }

// Description is what an attempt is to do: a pointer to a struct that embeds a Header.
type Description interface{ Head() *Header }

// outcome is how an attempt ended.
type outcome struct {
	Attempt int       `json:"attempt"`
	EndedAt time.Time `json:"endedAt"`
	// Reason is "" for a success.
	Reason  string   `json:"reason,omitempty"`
	Message string   `json:"message,omitempty"`
	Log     []string `json:"log,omitempty"`
}

// load reads a description; found is false when a crash has left none.
func load(dir string, version int, into Description) (found bool, err error) {
	found, err = readJSON(dir, DescriptionFile, into)
	if have := into.Head().Version; err == nil && found && have != version {
		err = fmt.Errorf("%s has version %d, this tekton reads %d", DescriptionFile, have, version)
	}
	return found, err
}

// readJSON reads a file of a job's directory; found is false when there is none.
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
