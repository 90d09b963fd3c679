package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"tekton.host/pkg/machine/handover"
	"tekton.host/pkg/resource"
)

// What a machine's directory holds besides the supervisor's files.
const (
	RecordFile = "instance.json" // Record
	UpperDir   = "upper"         // writable layer, or the whole root of an ephemeral storePath
	WorkDir    = "work"          // overlayfs's own
	StageDir   = "stage"         // empty; mount point in the launcher's namespace
	KeysDir    = "keys"          // authorized keys by name of the user, where somebody logs in
)

// RecordVersion of instance.json.
const RecordVersion = 1

// Record is instance.json: whose the machine is and what it is.
type Record struct {
	Version  int               `json:"version"`
	Mark     string            `json:"mark"`
	Instance resource.Instance `json:"instance"`
}

// ReadRecord reads the record of a machine's directory.
func ReadRecord(dir string) (Record, error) {
	b, err := os.ReadFile(filepath.Join(dir, RecordFile))
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("decode %s: %w", filepath.Join(dir, RecordFile), err)
	}
	if r.Version != RecordVersion {
		return Record{}, fmt.Errorf("%s has version %d, this tekton reads %d", filepath.Join(dir, RecordFile), r.Version, RecordVersion)
	}
	return r, nil
}

// VolumePath is the directory of a volume below the volumes' root. The last part
// may begin with a dot: so does the name of a kept root (compile.RootVolume).
func VolumePath(root, name string) (string, error) {
	parts := strings.SplitN(name, ".", 3)
	if len(parts) != 3 || strings.Contains(strings.TrimPrefix(parts[2], "."), ".") {
		return "", fmt.Errorf("volume name %q is not KIND.NAME.VOLUME", name)
	}
	for _, p := range parts {
		if p == "" || p == "." || strings.ContainsAny(p, "/\x00") {
			return "", fmt.Errorf("volume name %q has an invalid part", name)
		}
	}
	return filepath.Join(root, parts[0], parts[1], parts[2]), nil
}

// reserved are trees inside a machine that are not for binds.
var reserved = []string{"/proc", "/sys", "/dev", "/run/host", "/run/tekton", handover.KeysDir, "/run/tekton-ssh"}

// Validate reports what in an instance cannot be launched whatever the host's state.
func Validate(i resource.Instance) error {
	s := i.System
	set := 0
	for _, given := range []bool{s.Host, s.RootFS != "", s.StorePath != ""} {
		if given {
			set++
		}
	}
	if set != 1 {
		return errors.New("exactly one of system.host, system.rootfs and system.storePath must be set")
	}
	if s.StorePath != "" {
		if dir, name := path.Split(s.StorePath); dir != storeDir+"/" || name == "" || name == ".." {
			return fmt.Errorf("storePath %q is not %s/NAME", s.StorePath, storeDir)
		}
	}
	for _, b := range i.Volumes {
		if err := validTarget(b.Target, s.StorePath != ""); err != nil {
			return fmt.Errorf("volume %s: %w", b.Source, err)
		}
	}
	for _, b := range i.Mounts {
		if err := validTarget(b.Target, false); err != nil {
			return fmt.Errorf("mount %s: %w", b.Source, err)
		}
		if !path.IsAbs(b.Source) {
			return fmt.Errorf("mount %s: the host's path must be absolute", b.Source)
		}
	}
	for _, e := range i.Environment {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" || strings.Contains(e, "\x00") {
			return fmt.Errorf("environment: %q is not NAME=VALUE", k)
		}
	}
	return nil
}

func validTarget(target string, rootAllowed bool) error {
	if !path.IsAbs(target) || path.Clean(target) != target || strings.ContainsAny(target, "\x00\n") {
		return fmt.Errorf("target %q is not a clean absolute path", target)
	}
	if target == "/" && !rootAllowed {
		return errors.New("target / is for the root volume of a storePath only")
	}
	for _, r := range reserved {
		if target == r || strings.HasPrefix(target, r+"/") {
			return fmt.Errorf("target %s is inside %s, which belongs to the container manager", target, r)
		}
	}
	if target == "/run" {
		return errors.New("target /run would hide the first process")
	}
	return nil
}
