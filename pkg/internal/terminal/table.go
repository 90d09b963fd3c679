package terminal

import (
	"strings"
	"unicode/utf8"
)

// gap between two columns.
const gap = 3

// Cell of a table. Paint colours the text after it was padded and escaped.
type Cell struct {
	Text  string
	Paint func(string) string
}

// Text is a cell without colour. Empty text shows as "-".
func Text(s string) Cell { return Cell{Text: s} }

// Table lays out rows in columns. Later rows keep to the widths of earlier
// ones where they fit, so that a watch can add rows.
type Table struct{ widths []int }

// Format returns the lines of rows.
func (t *Table) Format(rows [][]Cell) string {
	for _, row := range rows {
		for i, c := range row {
			if i == len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c.shown()))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, c := range row {
			text := c.shown()
			pad := t.widths[i] - utf8.RuneCountInString(text) + gap
			if c.Paint != nil {
				text = c.Paint(text)
			}
			b.WriteString(text)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", pad))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (c Cell) shown() string {
	if c.Text == "" {
		return "-"
	}
	return Escape(c.Text)
}
