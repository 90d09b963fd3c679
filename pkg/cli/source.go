package cli

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

func (a *app) sourceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "source", Short: "List where specs come from; sync, suspend and resume git sources"}
	list := &cobra.Command{Use: "list", Short: "List where specs come from, and what is wrong there", Args: cobra.NoArgs}
	output := formatFlag(list, asJSON, asYAML, asName)
	list.RunE = func(cmd *cobra.Command, _ []string) error { return a.listSources(cmd, output) }
	sync := &cobra.Command{
		Use:               "sync NAME...",
		Short:             "Look at the remotes of git sources now",
		Long:              "Look at the remotes of git sources now. It returns when what the branch has is in\neffect, or says why it is not.",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeSources,
		RunE: func(cmd *cobra.Command, args []string) error {
			var failures []error
			for _, name := range args {
				st, err := a.client.SyncSource(cmd.Context(), name)
				if err != nil {
					failures = append(failures, err)
					continue
				}
				a.say("source/%s is at commit %s", name, short(st.Commit))
			}
			return joinErrors(failures)
		},
	}
	suspend := &cobra.Command{
		Use: "suspend NAME...", Short: "Look at the remotes of git sources no more; what is in effect stays", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSources,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "source/%s suspended", func(name string) error { return a.client.SuspendSource(cmd.Context(), name) })
		},
	}
	resume := &cobra.Command{
		Use: "resume NAME...", Short: "Look at the remotes of suspended git sources again", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSources,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "source/%s resumed", func(name string) error { return a.client.ResumeSource(cmd.Context(), name) })
		},
	}
	cmd.AddCommand(list, sync, suspend, resume)
	return cmd
}

func (a *app) listSources(cmd *cobra.Command, output func() (format, error)) error {
	f, err := output()
	if err != nil {
		return err
	}
	sources, err := a.client.Sources(cmd.Context())
	if err != nil {
		return err
	}
	switch f {
	case asJSON, asYAML:
		return a.write(f, listOf(sources))
	case asName:
		for _, s := range sources {
			a.say("%s", s.Name)
		}
		return nil
	}
	var rows [][]terminal.Cell
	for _, s := range sources {
		g := cmp.Or(s.Git, &v1alpha1.GitStatus{})
		rows = append(rows, []terminal.Cell{
			terminal.Text(s.Name), terminal.Text(fromWhere(s)), terminal.Text(fmt.Sprint(s.Objects)),
			terminal.Text(short(g.Commit)), terminal.Text(a.timestamp(g.SyncedAt)), a.sourceState(s),
		})
	}
	a.table([]string{"NAME", "FROM", "OBJECTS", "COMMIT", "SYNCED", "STATE"}, rows)
	problems, err := a.client.Problems(cmd.Context())
	for _, p := range problems {
		a.warn("%s", p.Error())
	}
	for _, s := range sources {
		a.warnSource(s)
	}
	return err
}

// fromWhere is a directory, or a repository with branch and directory.
func fromWhere(s v1alpha1.SourceStatus) string {
	if s.Git == nil {
		return s.Path
	}
	if s.Path == "" {
		return s.Git.URL + " " + s.Git.Branch
	}
	return s.Git.URL + " " + s.Git.Branch + ":" + s.Path
}

func (a *app) sourceState(s v1alpha1.SourceStatus) terminal.Cell {
	g := cmp.Or(s.Git, &v1alpha1.GitStatus{})
	switch {
	case len(s.Held) > 0:
		return terminal.Cell{Text: fmt.Sprintf("Holds %d", len(s.Held)), Paint: a.data.Red}
	case g.Suspended:
		return terminal.Cell{Text: "Suspended", Paint: a.data.Yellow}
	case g.Rejected != "":
		return terminal.Cell{Text: "Rejected " + short(g.Rejected), Paint: a.data.Red}
	case g.Error != "":
		return terminal.Cell{Text: "Failing", Paint: a.data.Red}
	case !s.Complete:
		return terminal.Cell{Text: "Incomplete", Paint: a.data.Yellow}
	}
	return terminal.Cell{Text: "Complete", Paint: a.data.Green}
}

// short is a commit's id for people.
func short(commit string) string { return commit[:min(len(commit), 12)] }
