package terminal

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hostile reports whether a rune can change more than its own place: C0 and C1
// controls, DEL, and what reorders or breaks lines invisibly.
func hostile(r rune) bool {
	switch {
	case unicode.IsControl(r):
		return true
	case r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069': // overrides of direction
		return true
	case r == '\u2028', r == '\u2029', r == '\ufeff': // separators, byte order mark
		return true
	}
	return false
}

func appendEscaped(b []byte, r rune) []byte {
	switch {
	case r == '\n':
		return append(b, `\n`...)
	case r == '\r':
		return append(b, `\r`...)
	case r == '\t':
		return append(b, `\t`...)
	case r < 0x80:
		return fmt.Appendf(b, `\x%02x`, r)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}

// appendLines escapes text but for line ends and tabs. A carriage return
// before a line end is part of it. It stops before an incomplete rune or a
// trailing carriage return unless final is set, and returns the rest.
func appendLines(out, text []byte, final bool) (escaped, rest []byte) {
	for len(text) > 0 {
		if !final && (!utf8.FullRune(text) || bytes.Equal(text, []byte{'\r'})) {
			return out, text
		}
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case r == '\n' || r == '\t':
			out = append(out, text[0])
		case r == '\r' && len(text) > 1 && text[1] == '\n':
		case hostile(r):
			out = appendEscaped(out, r)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out, nil
}

// EscapeLines makes text of several lines harmless.
func EscapeLines(s string) string {
	out, _ := appendLines(nil, []byte(s), true)
	return string(out)
}

// Escape makes text harmless and one line.
func Escape(s string) string {
	s = EscapeLines(s)
	if !strings.ContainsAny(s, "\n\t") {
		return s
	}
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(s)
}

// EscapeJSON makes JSON harmless without changing its meaning: what is hostile
// stands in strings only, where \uXXXX is the same.
func EscapeJSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r >= 0x7f && r != utf8.RuneError && hostile(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

// Escaper is a writer that makes what it passes on harmless.
type Escaper struct {
	w    io.Writer
	rest []byte
}

// NewEscaper returns an Escaper. Flush it at the end.
func NewEscaper(w io.Writer) *Escaper { return &Escaper{w: w} }

func (e *Escaper) Write(p []byte) (int, error) {
	out, rest := appendLines(nil, append(e.rest, p...), false)
	e.rest = rest
	if _, err := e.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what may have been the beginning of a rune.
func (e *Escaper) Flush() error {
	out, _ := appendLines(nil, e.rest, true)
	e.rest = nil
	_, err := e.w.Write(out)
	return err
}
