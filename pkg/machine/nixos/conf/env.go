package conf

import (
	"fmt"
	"strings"
)

// assignments reads KEY=VALUE lines with systemd's quoting: comments begin with
// # or ;, a backslash at a line's end continues it, single quotes take
// everything, double quotes keep a backslash that escapes nothing.
func assignments(text string) (map[string]string, error) {
	out := map[string]string{}
	for n := 1; text != ""; n++ {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';' {
			continue
		}
		key, raw, found := strings.Cut(strings.TrimLeft(line, " \t"), "=")
		if !found {
			continue // systemd ignores it
		}
		value, rest, err := unquote(raw, text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		n += strings.Count(text, "\n") - strings.Count(rest, "\n")
		out[strings.TrimSpace(key)], text = value, rest
	}
	return out, nil
}

// unquote reads a value that begins in line and, where a quote or a backslash
// carries it on, ends in one of the lines of next.
func unquote(line, next string) (value, rest string, err error) {
	var b strings.Builder
	quote := byte(0)
	blank := 0 // trailing blanks outside of quotes do not count
	line = strings.TrimLeft(line, " \t")
	for i := 0; ; i++ {
		if i == len(line) {
			if quote == 0 {
				return b.String()[:b.Len()-blank], next, nil
			}
			if next == "" {
				return "", "", fmt.Errorf("the quote %c has no end", quote)
			}
			b.WriteByte('\n')
			line, next, _ = strings.Cut(next, "\n")
			i = -1
			continue
		}
		ch := line[i]
		switch {
		case ch == '\\' && quote != '\'':
			if i+1 == len(line) { // continues
				line, next, _ = strings.Cut(next, "\n")
				i = -1
				continue
			}
			i++
			if quote == '"' && !strings.ContainsRune("\"\\`$", rune(line[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(line[i])
			blank = 0
		case quote != 0 && ch == quote:
			quote = 0
		case quote == 0 && (ch == '"' || ch == '\''):
			quote, blank = ch, 0
		default:
			b.WriteByte(ch)
			if blank++; quote != 0 || ch != ' ' && ch != '\t' && ch != '\r' {
				blank = 0
			}
		}
	}
}
