package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
)

func (a *app) planCommand() *cobra.Command {
	var steps bool
	cmd := &cobra.Command{
		Use:   "plan [-f FILE...]",
		Short: "Show what the daemon would do; exit code 2 if anything",
		Long: "Show the daemon's own plan: which fields change, whether a machine restarts and\n" +
			"how, and what happens to data. With -f as if the files were applied; without,\n" +
			"what is still to be done. Exit code 0: nothing, 2: changes, 1: error.",
		Example: "  tekton plan -f web.yaml\n  tekton plan -o json",
		Args:    cobra.NoArgs,
	}
	paths := filesFlag(cmd, "proposed specs")
	output := formatFlag(cmd, asJSON, asYAML)
	cmd.Flags().BoolVar(&steps, "steps", false, "show each step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := output()
		if err != nil {
			return err
		}
		files, err := a.readFiles(*paths)
		if err != nil {
			return err
		}
		report, err := a.client.Plan(cmd.Context(), files)
		if err != nil {
			return err
		}
		if f == asTable {
			a.data.plan(a.out, report, steps)
		} else if err := a.write(f, report); err != nil {
			return err
		}
		for _, w := range report.Warnings {
			a.warn("%s", w)
		}
		if report.Changes() {
			return &exit{code: exitChanges}
		}
		return nil
	}
	return cmd
}

// plan prints the objects that change and a sum.
func (v view) plan(w io.Writer, report v1alpha1.PlanReport, steps bool) {
	count := map[v1alpha1.PlanAction]int{}
	for _, o := range report.Objects {
		count[o.Action]++
		if o.Action != v1alpha1.PlanNone {
			v.planObject(w, o, steps)
		}
	}
	if !report.Changes() {
		fmt.Fprintf(w, "Nothing to do: %s as specified.\n", plural(len(report.Objects), "object"))
		return
	}
	fmt.Fprintf(w, "Plan: %d to create, %d to update, %d to restart, %d to delete; %d unchanged.\n",
		count[v1alpha1.PlanCreate], count[v1alpha1.PlanUpdate], count[v1alpha1.PlanRestart], count[v1alpha1.PlanDelete], count[v1alpha1.PlanNone])
}

func (v view) planObject(w io.Writer, o v1alpha1.PlanObject, steps bool) {
	sign, paint := "~", v.Yellow
	switch o.Action {
	case v1alpha1.PlanCreate:
		sign, paint = "+", v.Green
	case v1alpha1.PlanDelete:
		sign, paint = "-", v.Red
	}
	name := v1alpha1.Ref{Kind: o.Kind, Name: o.Name}.String()
	fmt.Fprintf(w, "%s %s  %s", paint(sign), v.Bold(terminal.Escape(name)), paint(terminal.Escape(string(o.Action))))
	if at := position(o.Source); at != "" {
		fmt.Fprintf(w, "  %s", v.Faint(terminal.Escape(at)))
	}
	fmt.Fprintln(w)
	for _, f := range o.Fields {
		v.planField(w, f)
	}
	if o.Action == v1alpha1.PlanUpdate || o.Action == v1alpha1.PlanRestart {
		fmt.Fprintf(w, "    restart: %s\n", v.restart(o))
	}
	for _, d := range o.Data {
		text := terminal.Escape(dataLine(d))
		if d.Effect == v1alpha1.DataTrashed {
			text = v.Red(text)
		}
		fmt.Fprintf(w, "    data: %s\n", text)
	}
	for _, text := range o.Warnings {
		fmt.Fprintf(w, "    %s %s\n", v.Yellow("warning:"), terminal.Escape(text))
	}
	for i, step := range o.Steps {
		if steps {
			fmt.Fprintf(w, "    %s %s\n", v.Faint(fmt.Sprintf("%2d.", i+1)), terminal.Escape(step))
		}
	}
}

func (v view) restart(o v1alpha1.PlanObject) string {
	switch {
	case o.Restarts():
	case o.Class == v1alpha1.PlanServices:
		return v.Green("no") + " (the machine keeps running, its services start again)"
	case o.Class == v1alpha1.PlanSetup:
		return v.Green("no") + " (the machine keeps running; another checkout and setup, then its services start again)"
	default:
		return v.Green("no")
	}
	how := string(o.Class)
	switch o.Strategy {
	case "Overlap":
		how = joined(", ", how, "Overlap: the new instance takes over when it answers")
	case "Recreate":
		how = joined(", ", how, "Recreate: stopped, then started anew")
	default:
		how = joined(", ", how, o.Strategy)
	}
	if how == "" {
		return v.Yellow("yes")
	}
	return v.Yellow("yes") + terminal.Escape(" ("+how+")")
}

func (v view) planField(w io.Writer, f v1alpha1.PlanField) {
	path := terminal.Escape(f.Path)
	value := func(raw []byte) string { return terminal.Escape(string(terminal.EscapeJSON(plain(raw)))) }
	switch {
	case f.Old == nil:
		fmt.Fprintf(w, "    %s\n", v.Green(fmt.Sprintf("+ %s: %s", path, value(f.New))))
	case f.New == nil:
		fmt.Fprintf(w, "    %s\n", v.Red(fmt.Sprintf("- %s: %s", path, value(f.Old))))
	default:
		fmt.Fprintf(w, "    %s %s: %s → %s\n", v.Yellow("~"), path, v.Red(value(f.Old)), v.Green(value(f.New)))
	}
}

// plain is a JSON value as people write it: < > & are themselves, not \u003c.
func plain(raw []byte) []byte {
	var v any
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // as it was written
	if d.Decode(&v) != nil || e.Encode(v) != nil {
		return raw
	}
	return bytes.TrimSpace(b.Bytes())
}

// dataLine says what happens to a volume or database.
func dataLine(d v1alpha1.PlanData) string {
	effect := map[v1alpha1.DataEffect]string{
		v1alpha1.DataKept:     "kept",
		v1alpha1.DataCreated:  "created, empty",
		v1alpha1.DataTrashed:  "to the trash (tekton data restore brings it back)",
		v1alpha1.DataRetained: "retained for a later object of this kind and name",
		v1alpha1.DataAdopted:  "adopted from an earlier object",
		v1alpha1.DataDumped:   "kept; a dump of it goes to the trash first",
	}[d.Effect]
	if effect == "" {
		effect = string(d.Effect)
	}
	return strings.Join([]string{string(d.What), d.Name, effect}, " ")
}
