package systemdhost

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// ProgramsDir is where a host, which has no Go, finds the programs of tests.
const ProgramsDir = DataDir + "/programs"

// BuildPrograms builds packages into a directory beside the test program,
// which `go test` removes with its own. Inside a host they were copied.
func BuildPrograms(packages ...string) (dir string, err error) {
	if Inside() {
		return ProgramsDir, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(filepath.Dir(exe), "tekton-programs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", dir}, packages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w: %s", err, out)
	}
	return dir, nil
}

// ProgramFiles are the files below dir, by where a host is to find them.
func ProgramFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[filepath.Join(ProgramsDir, rel)] = path
		return err
	})
	return files, err
}
