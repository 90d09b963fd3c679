package terminal

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// Style writes colours, or none.
type Style struct{ colour bool }

// Colour modes.
const (
	ColourAuto   = "auto"
	ColourAlways = "always"
	ColourNever  = "never"
)

// NewStyle returns the style for what is written to w. In mode auto there are
// colours on a terminal, unless NO_COLOR is set or TERM is dumb.
func NewStyle(w io.Writer, mode string, getenv func(string) string) (Style, error) {
	switch mode {
	case ColourAlways:
		return Style{true}, nil
	case ColourNever:
		return Style{}, nil
	case ColourAuto:
		return Style{IsTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}, nil
	}
	return Style{}, fmt.Errorf("colour %q is none of auto, always, never", mode)
}

// IsTerminal reports whether a reader or writer is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s Style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold, Faint and colours paint text that was escaped before.
func (s Style) Bold(text string) string   { return s.paint("1", text) }
func (s Style) Faint(text string) string  { return s.paint("2", text) }
func (s Style) Red(text string) string    { return s.paint("31", text) }
func (s Style) Green(text string) string  { return s.paint("32", text) }
func (s Style) Yellow(text string) string { return s.paint("33", text) }
func (s Style) Cyan(text string) string   { return s.paint("36", text) }
