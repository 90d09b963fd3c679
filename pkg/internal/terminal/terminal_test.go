package terminal

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestEscape(t *testing.T) {
	tests := map[string]struct{ in, line, lines string }{
		"plain":          {"héllo 世界 👩‍💻", "héllo 世界 👩‍💻", "héllo 世界 👩‍💻"},
		"colour":         {"\x1b[31mred", `\x1b[31mred`, `\x1b[31mred`},
		"hyperlink":      {"\x1b]8;;http://evil\x07x", `\x1b]8;;http://evil\x07x`, `\x1b]8;;http://evil\x07x`},
		"clipboard":      {"\x1b]52;c;aGk=\x1b\\", `\x1b]52;c;aGk=\x1b\`, `\x1b]52;c;aGk=\x1b\`},
		"overwrite":      {"bad\rgood", `bad\rgood`, `bad\rgood`},
		"C1":             {"a\u009b31mb", `a\u009b31mb`, `a\u009b31mb`},
		"DEL":            {"a\x7fb", `a\x7fb`, `a\x7fb`},
		"direction":      {"a\u202eb\u2066c", `a\u202eb\u2066c`, `a\u202eb\u2066c`},
		"not UTF-8":      {"a\xffb", `a\xffb`, `a\xffb`},
		"lines and tabs": {"a\tb\nc", `a\tb\nc`, "a\tb\nc"},
		"CRLF":           {"a\r\nb", `a\nb`, "a\nb"},
	}
	for name, tc := range tests {
		if diff := cmp.Diff(tc.line, Escape(tc.in)); diff != "" {
			t.Errorf("%s: Escape (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tc.lines, EscapeLines(tc.in)); diff != "" {
			t.Errorf("%s: EscapeLines (-want +got):\n%s", name, diff)
		}
	}
}

func TestEscaperIsIndifferentToCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		var out bytes.Buffer
		e := NewEscaper(&out)
		for rest := []byte(text); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			if _, err := e.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		e.Flush()
		if diff := cmp.Diff(EscapeLines(text), out.String()); diff != "" {
			t.Fatalf("in pieces (-want +got):\n%s", diff)
		}
		if strings.ContainsFunc(out.String(), func(r rune) bool { return hostile(r) && r != '\n' && r != '\t' }) || !utf8.Valid(out.Bytes()) {
			t.Fatalf("hostile: %q", out.String())
		}
	})
}

func TestEscapeJSONKeepsTheMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.OneOf(rapid.String(), rapid.Just("\u009b\u202e\x7f\x1b")).Draw(t, "text")
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		text = EscapeJSON(text)
		var got string
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		if bytes.ContainsFunc(text, hostile) {
			t.Fatalf("hostile: %q", text)
		}
	})
}

func TestStyle(t *testing.T) {
	none := func(string) string { return "" }
	if _, err := NewStyle(nil, "sometimes", none); err == nil {
		t.Error("an unknown mode was accepted")
	}
	for mode, want := range map[string]string{ColourAlways: "\x1b[31mx\x1b[0m", ColourNever: "x", ColourAuto: "x"} {
		s, err := NewStyle(&bytes.Buffer{}, mode, none)
		if err != nil || s.Red("x") != want {
			t.Errorf("%s: %q, %v, want %q", mode, s.Red("x"), err, want)
		}
	}
}

func TestTable(t *testing.T) {
	red := Style{true}.Red
	var table Table
	got := table.Format([][]Cell{
		{Text("NAME"), Text("PHASE"), Text("URL")},
		{Text("web"), {"Failed", red}, Text("http://web")},
		{Text("wörld"), Text("a\nb"), Text("")},
	})
	want := "NAME    PHASE    URL\nweb     \x1b[31mFailed\x1b[0m   http://web\nwörld   a\\nb     -\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("x       y        z\n", table.Format([][]Cell{{Text("x"), Text("y"), Text("z")}})); diff != "" {
		t.Errorf("added row (-want +got):\n%s", diff)
	}
}

func TestHuman(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m",
		47 * time.Hour: "47h", 48 * time.Hour: "2d",
	} {
		if got := Age(d); got != want {
			t.Errorf("Age(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1536: "1.5K", 1 << 20: "1M", 123 << 30: "123G"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	if got := Since(time.Time{}, time.Now()); got != "" {
		t.Errorf("age of the zero time: %q", got)
	}
}
