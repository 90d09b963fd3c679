package activator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tekton.host/pkg/resource"
)

const (
	// version of both files. Each side reads its own version and older ones.
	version   = 1
	tableFile = "gates.json"
	// stateDir is the process's own below the service's directory.
	stateDir  = "state"
	stateFile = "state.json"
	// maxState bounds what the driver reads of the process.
	maxState = 16 << 20
)

// table is what the process is told.
type table struct {
	Version      int            `json:"version"`
	Installation string         `json:"installation"`
	Listen       netip.AddrPort `json:"listen,omitzero"`
	// UID and GID that it serves as.
	UID   uint32  `json:"uid"`
	GID   uint32  `json:"gid"`
	Gates []entry `json:"gates"` // sorted by name
}

// entry is one gate and whose it is.
type entry struct {
	Name  string        `json:"name"`
	Owner string        `json:"owner"`
	Value resource.Gate `json:"value"`
}

// state is what the process tells: who is asleep.
type state struct {
	Version int              `json:"version"`
	Table   string           `json:"table"` // digest of the table that it goes by
	Asleep  map[string]sleep `json:"asleep"`
}

// sleep of a gate.
type sleep struct {
	Owner string    `json:"owner"`
	Since time.Time `json:"since"`
	// Generation of the gate when it fell asleep.
	Generation int64 `json:"generation,omitempty"`
}

func (t *table) encode() ([]byte, error) {
	t.Version = version
	slices.SortFunc(t.Gates, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	b, err := json.MarshalIndent(t, "", "  ")
	return append(b, '\n'), err
}

func decodeTable(b []byte) (t table, err error) {
	if err := json.Unmarshal(b, &t); err != nil {
		return table{}, fmt.Errorf("read %s: %w", tableFile, err)
	}
	return t, known(tableFile, t.Version)
}

func known(file string, v int) error {
	if v < 1 || v > version {
		return fmt.Errorf("read %s: version %d is not known to this program, which knows %d", file, v, version)
	}
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// readState reads what the process has said; the zero state when it has not yet.
// The directory is that of an unprivileged process: what is in it may be anything,
// and something else at the next look. A FIFO is not waited for.
func readState(dir string) (s state, err error) {
	f, err := os.OpenFile(filepath.Join(dir, stateDir, stateFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return state{}, err
	}
	if !info.Mode().IsRegular() {
		return state{}, fmt.Errorf("%s of the activator is no regular file", stateFile)
	}
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&s); err != nil {
		return state{}, fmt.Errorf("read %s of the activator: %w", stateFile, err)
	}
	return s, known(stateFile, s.Version)
}
