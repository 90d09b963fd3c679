package ingress

import (
	"fmt"
	"strings"
)

// quote writes s as one literal token of a Caddyfile. It refuses what no quote
// makes literal: Caddy replaces {$ENV} before it splits tokens and {placeholders}
// after, and a control character has no business in any value of ours.
func quote(s string) (string, error) {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '{' || r == '}' || r == '\uFFFD' {
			return "", fmt.Errorf("%q cannot be written into a Caddyfile: it has the character %q", s, r)
		}
	}
	switch {
	case !strings.Contains(s, "`"):
		return "`" + s + "`", nil
	case !strings.ContainsAny(s, `"\`):
		return `"` + s + `"`, nil
	}
	return "", fmt.Errorf("%q cannot be written into a Caddyfile: it has a backquote beside a double quote or a backslash", s)
}

// comment makes s harmless in a comment: one line, nothing that Caddy replaces.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '{' || r == '}' {
			return '_'
		}
		return r
	}, s)
}

// label makes s harmless as text in a page too.
func label(s string) string {
	return strings.Map(func(r rune) rune {
		if isAlnum(r) || strings.ContainsRune("/._-", r) {
			return r
		}
		return '_'
	}, s)
}

func isAlnum(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
