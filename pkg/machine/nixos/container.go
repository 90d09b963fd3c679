package nixos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"tekton.host/pkg/host"
	"tekton.host/pkg/machine/nixos/conf"
	"tekton.host/pkg/supervise"
)

// Container is one container as it is to be.
type Container struct {
	Name string // of NixOS, in file and unit names
	Conf conf.Conf
	// System is the store path that it boots.
	System string
	// Root is the directory of its root, on the host.
	Root string
	// Guard prepares the root's Guarded paths; Conf.ExtraFlags bind them onto
	// themselves.
	Guard bool
	// Files are bound into the container out of a tmpfs.
	Files []File
	// Resolver is what the root's resolv.conf is to say, "" leaves it alone.
	Resolver string
	Limits   supervise.Limits
	// Owner is the user and group of Files.
	Owner int

	StopTimeout time.Duration
	Generation  int64
	Fingerprint string
	Failures    int
	// Inputs is a digest of all but the system: when it stays the same, a
	// running container switches to another system, else it starts anew.
	Inputs string
}

// Guarded are the paths of a root that the unit's script makes, writes to or
// changes the mode of, on the host and following links. A container that
// could put a link there would have the host's root do that anywhere. As mount
// points, which its user namespace cannot take away, they stay what they are.
var Guarded = []string{"/etc", "/etc/machine-id", "/root", "/usr", "/usr/bin", "/var", "/var/lib", "/var/lib/private"}

// File is one of Container.Files; Conf.ExtraFlags bind it from Manager.FilePath.
type File struct {
	Name string
	Data []byte
}

// stateFile in a machine's directory says which container the machine is, and
// what it was started with.
const stateFile = "container.json"

type state struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Mark    string `json:"mark"`
	// Started until it is stopped by us.
	Started bool `json:"started,omitempty"`
	// Starting until systemd was asked for it: a daemon that dies before has
	// started nothing, and what does not run then has not ended.
	Starting    bool          `json:"starting,omitempty"`
	StopTimeout time.Duration `json:"stopTimeout,omitempty"`
	Generation  int64         `json:"generation,omitempty"`
	// Fingerprint of what runs; "" after a switch that did not end well.
	Fingerprint string `json:"fingerprint,omitempty"`
	Inputs      string `json:"inputs,omitempty"`
	Failures    int    `json:"failures,omitempty"`
}

const stateVersion = 1

var validName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,11}$`)

// unitName is the unit of a container.
func unitName(name string) string { return "container@" + name + ".service" }

// Has reports whether the machine of a directory is a container.
func Has(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, stateFile))
	return err == nil
}

func readState(dir string) (s state, found bool, err error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	if err := json.Unmarshal(b, &s); err != nil || !validName.MatchString(s.Name) {
		return s, false, fmt.Errorf("%s is damaged (%w); restore it from a backup or move it away", path, err)
	}
	return s, true, nil
}

func writeState(dir string, s state) error {
	s.Version = stateVersion
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return host.WriteFile(filepath.Join(dir, stateFile), append(b, '\n'), 0o600)
}
