package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"tekton.host/pkg/internal/terminal"
)

// format is the value of -o.
type format string

const (
	asTable format = ""
	asWide  format = "wide"
	asJSON  format = "json"
	asYAML  format = "yaml"
	asName  format = "name"
)

// formatFlag adds -o with the formats that the command has beside its table.
func formatFlag(cmd *cobra.Command, formats ...format) func() (format, error) {
	var names []string
	for _, f := range formats {
		names = append(names, string(f))
	}
	value := cmd.Flags().StringP("output", "o", "", "output as "+strings.Join(names, ", "))
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return func() (format, error) {
		if f := format(*value); f == asTable || slices.Contains(formats, f) {
			return f, nil
		}
		return "", usage("output %q is none of %s", *value, strings.Join(names, ", "))
	}
}

// list is how lists look in JSON.
type list[T any] struct {
	Items []T `json:"items"`
}

func listOf[T any](items []T) list[T] {
	if items == nil {
		items = []T{}
	}
	return list[T]{items}
}

// write writes v as JSON or YAML.
func (a *app) write(f format, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if f == asYAML {
		return a.writeYAML(text)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, terminal.EscapeJSON(text), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = a.out.Write(b.Bytes())
	return err
}

// writeYAML writes JSON as YAML. YAML lets some of what is hostile stand
// unescaped, so on a terminal it is escaped.
func (a *app) writeYAML(text []byte) error {
	doc, err := yaml.JSONToYAML(text)
	if err != nil {
		return err
	}
	if terminal.IsTerminal(a.out) {
		doc = []byte(terminal.EscapeLines(string(doc)))
	}
	_, err = a.out.Write(doc)
	return err
}

// table prints rows below their header.
func (a *app) table(header []string, rows [][]terminal.Cell) {
	var t terminal.Table
	io.WriteString(a.out, t.Format(append([][]terminal.Cell{a.header(header)}, rows...)))
}

func (a *app) header(names []string) []terminal.Cell {
	var cells []terminal.Cell
	for _, n := range names {
		cells = append(cells, terminal.Cell{Text: n, Paint: a.data.Bold})
	}
	return cells
}

// say prints a line of data, escaped.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.out, terminal.EscapeLines(fmt.Sprintf(format, args...)))
}
