package cli

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/spec"
)

func (a *app) validateCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:     "validate FILE...",
		Short:   "Check spec files offline; print all problems",
		Example: "  tekton validate web.yaml\n  tekton validate --config /etc/tekton/host.yaml specs/",
		Args:    cobra.MinimumNArgs(1),
	}
	output := formatFlag(cmd, asJSON, asYAML)
	cmd.Flags().StringVar(&config, "config", "", "the Host file whose defaults and limits apply")
	cmd.MarkFlagFilename("config", "yaml", "yml")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		f, err := output()
		if err != nil {
			return err
		}
		host, err := a.hostFile(config)
		if err != nil {
			return err
		}
		files, err := a.readFiles(args)
		if err != nil {
			return err
		}
		objects, problems := validate(files, host)
		if f != asTable {
			err = a.write(f, listOf(problems))
		}
		if err != nil {
			return err
		}
		for _, p := range problems {
			if f == asTable {
				io.WriteString(a.out, a.data.problem(p, a.sources[p.File]))
			}
		}
		if len(problems) > 0 {
			return &exit{code: exitError, err: fmt.Errorf("%s in %s", plural(len(problems), "problem"), plural(len(files), "file"))}
		}
		fmt.Fprintf(a.err, "%s in %s: valid\n", plural(objects, "object"), plural(len(files), "file"))
		return nil
	}
	return cmd
}

// hostFile reads the daemon's configuration; nil without one.
func (a *app) hostFile(path string) (*v1alpha1.HostSpec, error) {
	if path == "" {
		return nil, nil
	}
	data, err := a.readFile(path)
	if err != nil {
		return nil, err
	}
	a.sources[path] = data
	host, problems := spec.DecodeHost(path, data)
	if len(problems) > 0 {
		for _, p := range problems {
			io.WriteString(a.err, a.talk.problem(p, data))
		}
		return nil, fmt.Errorf("%s has %s", path, plural(len(problems), "problem"))
	}
	return &host.Spec, nil
}

// validate returns the number of valid objects and all problems, also names
// that two files use.
func validate(files []v1alpha1.File, host *v1alpha1.HostSpec) (objects int, all []spec.Problem) {
	first := map[string]spec.Position{}
	for _, f := range files {
		found, problems := spec.Decode(f.Name, f.Data, spec.Options{Host: host})
		if len(found) == 0 && len(problems) > 0 && !slices.ContainsFunc(problems, func(p spec.Problem) bool { return !isHost(p) }) {
			if _, problems = spec.DecodeHost(f.Name, f.Data); len(problems) == 0 {
				objects++
			}
		}
		objects += len(found)
		all = append(all, problems...)
		for _, o := range found {
			name := o.Meta().Name
			unique := o.UniqueName()
			if at, ok := first[unique]; ok && at.File != f.Name {
				all = append(all, o.Problem("metadata.name", spec.ReasonDuplicateName, fmt.Sprintf("%q is already the name of an object at %s", name, at)))
				continue
			}
			first[unique] = o.Position
		}
	}
	return objects, all
}

// isHost says that a document is the daemon's configuration, which is no error
// in a file of its own that is only checked.
func isHost(p spec.Problem) bool {
	return p.Kind == v1alpha1.KindHost && p.Reason == spec.ReasonUnknownKind
}
