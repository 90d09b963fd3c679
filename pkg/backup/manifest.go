package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Format of archives. A higher one was made by a later tekton.
const Format = 1

// Entries that are no parts.
const (
	headName     = "backup.json"
	manifestName = "manifest.json"
	sumName      = "manifest.sha256"
	// maxDocument bounds what of these is read into memory.
	maxDocument = 16 << 20
)

// Head is what an archive begins with.
type Head struct {
	Format int `json:"format"`
	// Tekton is the version that made it.
	Tekton       string    `json:"tekton"`
	Installation string    `json:"installation"`
	Instance     string    `json:"instance,omitempty"`
	Hostname     string    `json:"hostname,omitempty"`
	MachineID    string    `json:"machineID,omitempty"`
	CreatedAt    time.Time `json:"createdAt"`
}

// Manifest is what an archive ends with.
type Manifest struct {
	Head
	FinishedAt time.Time `json:"finishedAt"`
	Parts      []Part    `json:"parts"`
	// Missing are parts that should be there and could not be read: with any the
	// archive is not whole.
	Missing []string `json:"missing,omitempty"`
	// Remarks say what was left out, or changed while it was read.
	Remarks []string `json:"remarks,omitempty"`
}

// Part is a file or a tree of the archive.
type Part struct {
	Name    string `json:"name"`
	Entries int64  `json:"entries"`
	Bytes   int64  `json:"bytes"` // content of files
	// SHA256 of what its entries are and hold, in their order.
	SHA256 string `json:"sha256"`
}

// Parts that there is one of.
const (
	PartHost    = "host.yaml"
	PartSecrets = "secrets"
)

// Groups of parts: GROUP/PART.
const (
	GroupState     = "state"
	GroupSources   = "sources"
	GroupDatabases = "databases"
	GroupFiles     = "files"
)

func isGroup(name string) bool {
	return name == GroupState || name == GroupSources || name == GroupDatabases || name == GroupFiles
}

// partOf is the part that an entry belongs to.
func partOf(name string) (string, error) {
	first, rest, below := strings.Cut(name, "/")
	switch {
	case first == PartHost && !below, first == PartSecrets:
		return first, nil
	case isGroup(first) && below:
		second, _, _ := strings.Cut(rest, "/")
		return first + "/" + second, nil
	}
	return "", fmt.Errorf("%q is in no part that this tekton knows", name)
}

// cleanName checks that a name of an entry is one below the archive's top.
func cleanName(name string) (string, error) {
	clean := strings.TrimSuffix(name, "/")
	if clean == "" || strings.HasPrefix(clean, "/") || clean == ".." || strings.HasPrefix(clean, "../") || path.Clean(clean) != clean || clean == "." || strings.ContainsRune(clean, 0) {
		return "", fmt.Errorf("%q is no name in an archive", name)
	}
	return clean, nil
}

var errDamaged = errors.New("the archive is damaged, or was changed")

// decode reads one document strictly.
func decode[T any](r io.Reader, what string) (v T, raw []byte, err error) {
	raw, err = io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return v, nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(raw) > maxDocument {
		return v, nil, fmt.Errorf("%s is longer than %d bytes: %w", what, maxDocument, errDamaged)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&v); err != nil {
		return v, nil, fmt.Errorf("read %s: %w: %w", what, errDamaged, err)
	}
	return v, raw, nil
}

func encode(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}
