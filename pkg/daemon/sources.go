package daemon

import (
	"errors"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/reconcile"
	"tekton.host/pkg/source"
	"tekton.host/pkg/source/git"
	"tekton.host/pkg/spec"
)

// buildSources opens the configured sources. The default directory is made.
func (d *Daemon) buildSources() ([]reconcile.Source, error) {
	var out []reconcile.Source
	mirrors := map[string]bool{}
	for _, c := range d.opts.Host.Sources {
		if c.Git != nil {
			s, err := d.newGit(c)
			if err != nil {
				return nil, err
			}
			d.repositories[c.Name], mirrors[c.Name] = s, true
			out = append(out, s)
			continue
		}
		if c.Path == d.layout.Specs() {
			if err := source.EnsureMarker(c.Path); err != nil {
				return nil, err
			}
		}
		s, err := source.New(source.Options{Name: c.Name, Path: c.Path, Decode: d.decoder(c), Log: d.opts.Log.WithName("source")})
		if err != nil {
			return nil, err
		}
		d.sources[c.Name] = s
		out = append(out, s)
	}
	// A daemon that was killed left copies of keys in the run directories.
	return out, errors.Join(git.Forget(d.layout.Git(), mirrors), git.Forget(d.layout.RunService("git"), nil))
}

// decoder reads the files of a source.
func (d *Daemon) decoder(c v1alpha1.SourceConfig) func(string, []byte) ([]spec.Object, []spec.Problem) {
	return func(file string, data []byte) ([]spec.Object, []spec.Problem) {
		return spec.Decode(file, data, spec.Options{Host: &d.opts.Host, Allow: c.Allow})
	}
}
