package ingress

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"tekton.host/pkg/resource"
	"tekton.host/pkg/supervise"
)

// serviceEntries are what this package and the supervisor put into the
// service's directory, beside the generations.
var serviceEntries = []string{
	"current", "certificates", "storage",
	supervise.SpecFile, supervise.StatusFile, supervise.LockFile, supervise.LogFile, supervise.ControlFile,
}

// removeAll removes the service's directory. What others have put there stays.
func (s store) removeAll(installation string) error {
	numbers, err := s.list()
	for _, n := range numbers {
		err = errors.Join(err, s.removeGeneration(generationName(n), installation))
	}
	entries, errRead := os.ReadDir(s.dir)
	if errRead != nil && !errors.Is(errRead, fs.ErrNotExist) {
		return errors.Join(err, errRead)
	}
	for _, e := range entries {
		// Temporary files of a write that was cut short are .NAME followed by digits.
		name := strings.TrimPrefix(e.Name(), ".")
		if slices.ContainsFunc(serviceEntries, func(own string) bool {
			return name == own || strings.HasPrefix(name, own+".") || name != e.Name() && strings.HasPrefix(name, own)
		}) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(err, removeEmpty(s.generations()), removeEmpty(s.dir))
}

// removeGeneration removes a generation's files and then its directories,
// which stay with what others have put there.
func (s store) removeGeneration(name, installation string) error {
	dir := filepath.Join(s.generations(), name)
	sites, err := filepath.Glob(filepath.Join(dir, "sites", "*.caddy"))
	if err != nil {
		return err
	}
	mark := "# " + resource.Mark{Installation: installation}.String()
	for _, site := range sites {
		b, err := os.ReadFile(site)
		if err != nil {
			return err
		}
		// A file whose writing was cut short has not even the whole mark.
		if n := min(len(b), len(mark)); string(b[:n]) != mark[:n] {
			continue
		}
		if err := os.Remove(site); err != nil {
			return err
		}
	}
	for _, file := range []string{mainFile, importedFile, manifestFile} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(removeEmpty(filepath.Join(dir, "sites")), removeEmpty(dir))
}

// removeEmpty removes a directory, unless there is something in it.
func removeEmpty(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
