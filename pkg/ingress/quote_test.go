package ingress

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuote(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"/api", "`/api`"},
		{"", "``"},
		{`a"b`, "`a\"b`"},
		{`a\`, "`a\\`"},
		{"a b # c", "`a b # c`"},
		{"$HOME", "`$HOME`"},
		{"a`b", "\"a`b\""},
	} {
		if got, err := quote(tc.in); err != nil || got != tc.want {
			t.Errorf("quote(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b", "{$HOME}", "{http.request.host}", "}", "{", "`\"", "`\\", "\xff"} {
		if got, err := quote(bad); err == nil {
			t.Errorf("quote(%q) = %q; want it refused", bad, got)
		}
	}
}

// TestQuoteIsOneToken reads what quote writes as Caddy's lexer does.
func TestQuoteIsOneToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.String().Draw(t, "in")
		got, err := quote(in)
		if err != nil {
			return
		}
		q := got[:1]
		if inner := got[1 : len(got)-1]; inner != in || got[len(got)-1:] != q || strings.Contains(inner, q) || strings.ContainsAny(inner, "{}\r\n") {
			t.Fatalf("quote(%q) = %s", in, got)
		}
	})
}

func TestComment(t *testing.T) {
	if got, want := comment("a\nb {$X} é"), "a_b _$X_ _"; got != want {
		t.Errorf("comment = %q, want %q", got, want)
	}
	if got, want := label(`Container/we"b<script>{x}`), "Container/we_b_script__x_"; got != want {
		t.Errorf("label = %q, want %q", got, want)
	}
}
