package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

func (a *app) historyCommand() *cobra.Command {
	var number int64
	cmd := &cobra.Command{
		Use:               "history NAME",
		Short:             "Show the latest generations of an object's spec, or what one changed",
		Example:           "  tekton history web\n  tekton history web --diff 7",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeRefs,
	}
	output := formatFlag(cmd, asJSON, asYAML)
	cmd.Flags().Int64Var(&number, "diff", 0, "what this generation changed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := output()
		if err != nil {
			return err
		}
		ref, err := a.resolveOne(cmd.Context(), args...)
		if err != nil {
			return err
		}
		all, err := a.client.History(cmd.Context(), ref)
		switch {
		case err != nil:
			return err
		case cmd.Flags().Changed("diff"):
			return a.generation(ref, all, number)
		case f != asTable:
			return a.write(f, listOf(all))
		}
		a.generations(all)
		return nil
	}
	return cmd
}

// generations prints the newest last, where the eye is.
func (a *app) generations(all []v1alpha1.Generation) {
	var rows [][]terminal.Cell
	for i, g := range all {
		rows = append(rows, []terminal.Cell{
			terminal.Text(fmt.Sprint(g.Generation)), terminal.Text(a.timestamp(g.Time)), terminal.Text(joined(" ", g.Source.Name, position(g.Source))),
			terminal.Text(changesOf(all, i)),
		})
	}
	a.table([]string{"GENERATION", "SEEN", "SOURCE", "CHANGES"}, rows)
}

// shownChanges is how many changed fields the table names.
const shownChanges = 3

// changesOf names the fields that differ from the generation before.
func changesOf(all []v1alpha1.Generation, i int) string {
	if i == 0 {
		return ""
	}
	fields := v1alpha1.Diff(all[i-1].Document, all[i].Document)
	var names []string
	for _, f := range fields[:min(len(fields), shownChanges)] {
		names = append(names, f.Path)
	}
	more := ""
	if n := len(fields) - len(names); n > 0 {
		more = fmt.Sprintf(" (+%d)", n)
	}
	return strings.Join(names, ", ") + more
}

// generation prints what a generation changed.
func (a *app) generation(ref v1alpha1.Ref, all []v1alpha1.Generation, number int64) error {
	i := slices.IndexFunc(all, func(g v1alpha1.Generation) bool { return g.Generation == number })
	if i < 0 {
		return notFound("tekton history "+ref.String()+" lists those that are kept", "generation %d of %s is not kept", number, ref)
	}
	g := all[i]
	fmt.Fprintf(a.out, "%s\n", a.data.Bold(terminal.Escape(fmt.Sprintf("%s generation %d, %s, %s", ref, g.Generation, a.timestamp(g.Time), joined(" ", g.Source.Name, position(g.Source))))))
	if i == 0 && g.Generation > 1 {
		fmt.Fprintln(a.err, "The generation before it is not kept: this is all of it.")
	}
	var before []byte
	if i > 0 {
		before = all[i-1].Document
	}
	for _, f := range v1alpha1.Diff(before, g.Document) {
		a.data.planField(a.out, f)
	}
	return nil
}
