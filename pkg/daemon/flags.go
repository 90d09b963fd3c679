package daemon

import (
	"errors"
	"os"
	"path/filepath"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

// Flags are what the command line says of the host's configuration.
type Flags struct {
	Config   string
	SpecDir  string
	StateDir string
	Socket   string
}

// Load reads the configuration, lets the flags override it, and fills in
// defaults. The error lists all problems with their positions.
func (f Flags) Load() (*v1alpha1.Host, error) {
	h := &v1alpha1.Host{TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHost}}
	if f.Config != "" {
		data, err := os.ReadFile(f.Config)
		if err != nil {
			return nil, err
		}
		decoded, problems := spec.DecodeHost(f.Config, data)
		if len(problems) > 0 {
			errs := make([]error, len(problems))
			for i, p := range problems {
				errs[i] = p
			}
			return nil, errors.Join(errs...)
		}
		h = decoded
	}
	if f.StateDir != "" {
		dir, err := filepath.Abs(f.StateDir)
		if err != nil {
			return nil, err
		}
		// What was derived from the state directory follows it.
		h.Spec.StateDir, h.Spec.SecretsDir = dir, ""
		if f.Config == "" {
			h.Spec.Sources = nil
		}
	}
	if f.Socket != "" {
		path, err := filepath.Abs(f.Socket)
		if err != nil {
			return nil, err
		}
		h.Spec.RunDir = filepath.Dir(path)
	}
	if f.SpecDir != "" {
		dir, err := filepath.Abs(f.SpecDir)
		if err != nil {
			return nil, err
		}
		h.Spec.Sources = []v1alpha1.SourceConfig{{Name: "local", Path: dir}}
	}
	h.Default()
	if errs := h.Validate(); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return h, nil
}
