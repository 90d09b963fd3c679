package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/spec"
)

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "explain KIND[.FIELD...]",
		Short:             "Say what a field of a kind means, its type and its default",
		Example:           "  tekton explain container\n  tekton explain container.spec.routes\n  tekton explain host.spec.ingress.tls",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFields,
		RunE: func(_ *cobra.Command, args []string) error {
			word, path, _ := strings.Cut(args[0], ".")
			kind, err := anyKind(word)
			if err != nil {
				return err
			}
			f, err := spec.Explain(kind, path)
			if err != nil {
				return &exit{code: exitUsage, err: err, next: "tekton explain " + strings.ToLower(kind) + " shows its fields"}
			}
			a.showField(kind, f)
			return nil
		},
	}
}

// anyKind is the kind that a word means, the Host included.
func anyKind(word string) (string, error) {
	if kind, ok := kindNamed(word, spec.Kinds()); ok {
		return kind, nil
	}
	return "", noKind(word, spec.Kinds())
}

func (a *app) showField(kind string, f spec.Field) {
	a.say("%s", a.data.Bold(joined(" ", kind, f.Path)))
	a.say("  %s", f.Description)
	var facts [][]terminal.Cell
	for _, fact := range [][2]string{{"Type:", f.Type}, {"Default:", f.Default}, {"Required:", word(f.Required, "yes")}} {
		if fact[1] != "" {
			facts = append(facts, []terminal.Cell{{Text: fact[0], Paint: a.data.Bold}, terminal.Text(fact[1])})
		}
	}
	var t terminal.Table
	io.WriteString(a.out, t.Format(facts))
	if len(f.Fields) == 0 {
		return
	}
	var rows [][]terminal.Cell
	for _, sub := range f.Fields {
		rows = append(rows, []terminal.Cell{
			terminal.Text(sub.Name), terminal.Text(sub.Type), terminal.Text(joined(" ", word(sub.Required, "required"), sub.Default)), terminal.Text(sub.Description),
		})
	}
	a.say("")
	a.table([]string{"FIELD", "TYPE", "DEFAULT", "MEANING"}, rows)
}

func word(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

// completeFields completes a kind, then its fields one level at a time.
func completeFields(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	const more = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	i := strings.LastIndex(typed, ".")
	if i < 0 {
		return lower(spec.Kinds()), more
	}
	word, path, _ := strings.Cut(typed[:i], ".")
	kind, err := anyKind(word)
	if err != nil {
		return nil, more
	}
	f, err := spec.Explain(kind, path)
	if err != nil {
		return nil, more
	}
	var words []string
	for _, sub := range f.Fields {
		words = append(words, typed[:i+1]+sub.Name)
	}
	return words, more
}

func lower(all []string) []string {
	return names(all, strings.ToLower)
}
