package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/doctor"
	"tekton.host/pkg/host"
)

// Mend carries out one change that a finding proposes.
func Mend(ctx context.Context, c doctor.Change, h v1alpha1.HostSpec, programs string) error {
	switch c.Kind {
	case doctor.MakeDir:
		// Those above are the host's, or made open enough to pass.
		if err := os.MkdirAll(filepath.Dir(c.Path), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(c.Path, fs.FileMode(c.Mode)); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return nil
			}
			return err
		}
		return os.Chmod(c.Path, fs.FileMode(c.Mode)) // whatever the umask
	case doctor.SetMode:
		return setMode(c.Path, fs.FileMode(c.Mode))
	case doctor.WriteFile:
		if err := os.MkdirAll(filepath.Dir(c.Path), 0o755); err != nil {
			return err
		}
		return host.WriteFile(c.Path, []byte(c.Text), fs.FileMode(c.Mode))
	case doctor.SetSetting:
		return os.WriteFile(settingFile(c.Path), []byte(c.Text), 0)
	case doctor.RemoveTrial:
		return removeTrial(ctx, h, programs)
	}
	return fmt.Errorf("%q is no change that this version knows", c.Kind)
}

// setMode never follows a link.
func setMode(path string, mode fs.FileMode) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(filepath.Base(path))
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 || strings.HasSuffix(path, "/") {
		return fmt.Errorf("%s is a link: its mode is not changed", path)
	}
	return root.Chmod(filepath.Base(path), mode)
}
