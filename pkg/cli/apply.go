package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/why"
)

// defaultWait is how long --wait and wait wait.
const defaultWait = 5 * time.Minute

func filesFlag(cmd *cobra.Command, what string) *[]string {
	files := cmd.Flags().StringArrayP("filename", "f", nil, what+": a file, a directory, or - for standard input; may be repeated")
	cmd.MarkFlagFilename("filename", "yaml", "yml")
	return files
}

func (a *app) applyCommand() *cobra.Command {
	var source string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "apply -f FILE",
		Short:   "Write specs into a source of the daemon",
		Example: "  tekton apply -f web.yaml --wait\n  generate | tekton apply -f -",
		Args:    cobra.NoArgs,
	}
	paths := filesFlag(cmd, "specs")
	cmd.Flags().StringVar(&source, "source", "", "source to write to; default: the first")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the objects are Ready")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWait, "how long --wait waits")
	cmd.RegisterFlagCompletionFunc("source", a.completeSources)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(*paths) == 0 {
			return usage("apply needs -f FILE")
		}
		files, err := a.readFiles(*paths)
		if err != nil {
			return err
		}
		return a.applyFiles(cmd.Context(), source, files, wait, timeout)
	}
	return cmd
}

// applyFiles writes files to a source, and says what became of each document.
func (a *app) applyFiles(ctx context.Context, source string, files []v1alpha1.File, wait bool, timeout time.Duration) error {
	results, err := a.client.Apply(ctx, source, files)
	if err != nil {
		return err
	}
	var targets []target
	for _, r := range results {
		fmt.Fprintf(a.out, "%s %s\n", terminal.Escape(r.Ref.String()), a.data.applied(r.Action))
		for _, w := range r.Warnings {
			a.warn("%s: %s", r.Ref, w)
		}
		targets = append(targets, target{ref: r.Ref, generation: r.Generation, done: applied})
	}
	if !wait {
		return nil
	}
	return a.await(ctx, timeout, targets)
}

func (v view) applied(action v1alpha1.ApplyAction) string {
	switch action {
	case v1alpha1.ApplyCreated:
		return v.Green(string(action))
	case v1alpha1.ApplyConfigured:
		return v.Yellow(string(action))
	}
	return terminal.Escape(string(action))
}

// applied reports whether an applied object is as its spec says: Ready, or
// stopped because the spec asks for it, nobody for the object, or its ttl is over.
func applied(item *v1alpha1.Item) (bool, error) {
	if item == nil {
		return false, nil
	}
	switch p := item.Status.Phase; {
	case p.Resting():
		return true, nil
	case p == v1alpha1.PhaseDeleting: // what is applied comes when its namesake is gone
		return false, nil
	case p == v1alpha1.PhaseRejected:
		return false, fmt.Errorf("%s was rejected: %s", refOf(*item), causeText(*item))
	}
	if c := why.Condition(*item, v1alpha1.ConditionRolledBack); c != nil && c.Status == v1alpha1.ConditionTrue {
		return false, fmt.Errorf("%s is as it was before: %s", refOf(*item), joined(": ", c.Reason, c.Message))
	}
	// While a machine is set up anew, what it served before is Ready.
	if c := why.Condition(*item, v1alpha1.ConditionSetUp); c != nil && c.Status != v1alpha1.ConditionTrue {
		return false, nil
	}
	c := why.Condition(*item, v1alpha1.ConditionReady)
	return c != nil && c.Status == v1alpha1.ConditionTrue, nil
}

func (a *app) deleteCommand() *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "delete NAME... | -f FILE",
		Short:             "Delete objects; says what happens to their data",
		Long:              "Delete objects: their documents leave the source, their machines stop. Data is\nkept or goes to the trash, as each volume and database says; nothing is asked.",
		ValidArgsFunction: a.completeRefs,
	}
	paths := filesFlag(cmd, "specs whose objects are deleted")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the objects are gone")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWait, "how long --wait waits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 0) == (len(*paths) == 0) {
			return usage("delete needs names or -f FILE")
		}
		refs, err := a.resolve(cmd.Context(), args)
		if err == nil && len(*paths) > 0 {
			refs, err = a.refsIn(*paths)
		}
		if err != nil {
			return err
		}
		var targets []target
		var failures []error
		for _, ref := range refs {
			result, err := a.client.Delete(cmd.Context(), ref)
			if err != nil {
				failures = append(failures, err)
				continue
			}
			a.deleted(result)
			targets = append(targets, target{ref: ref, done: gone(result.UID)})
		}
		if wait {
			failures = append(failures, a.await(cmd.Context(), timeout, targets))
		}
		return joinErrors(failures)
	}
	return cmd
}

// joinErrors keeps a single error as it is, with its exit code and next step.
func joinErrors(errs []error) error {
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	code, next := explain(err)
	return &exit{code: code, err: err, next: next}
}

func (a *app) deleted(r v1alpha1.DeleteResult) {
	a.say("%s deleted", r.Ref)
	for _, d := range r.Data {
		a.say("  %s", dataLine(d))
	}
	for _, w := range r.Warnings {
		a.warn("%s: %s", r.Ref, w)
	}
}

// refsIn returns the objects of spec files, without their being valid in all else.
func (a *app) refsIn(paths []string) ([]v1alpha1.Ref, error) {
	files, err := a.readFiles(paths)
	if err != nil {
		return nil, err
	}
	var refs []v1alpha1.Ref
	for _, f := range files {
		objects, problems := spec.Decode(f.Name, f.Data, spec.Options{})
		for _, o := range objects {
			refs = append(refs, o.Ref())
		}
		for _, p := range problems {
			if p.Kind == "" || p.Name == "" {
				return nil, fmt.Errorf("find the objects to delete in %s: %w", f.Name, p)
			}
			refs = append(refs, v1alpha1.Ref{Kind: p.Kind, Name: p.Name})
		}
	}
	return unique(refs), nil
}

func unique(refs []v1alpha1.Ref) []v1alpha1.Ref {
	seen := map[v1alpha1.Ref]bool{}
	var all []v1alpha1.Ref
	for _, r := range refs {
		if !seen[r] {
			seen[r] = true
			all = append(all, r)
		}
	}
	return all
}
