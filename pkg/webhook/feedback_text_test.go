package webhook

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"tekton.host/pkg/api/v1alpha1"
)

const testMarker = "<!-- tekton-preview -->"

func commitOf(c string) string { return strings.Repeat(c, 40) }

// shown is an outcome with a preview at commit, in a phase.
func shown(commit string, phase v1alpha1.Phase, setup *v1alpha1.SetupStatus, conditions ...v1alpha1.Condition) Outcome {
	return Outcome{
		Verdict: Verdict{State: StateShown, Commit: commit}, Preview: "shop-pr-7",
		Item: &v1alpha1.Item{
			Spec:   map[string]any{"commit": commit},
			Status: v1alpha1.Status{Phase: phase, URLs: []string{"https://shop-pr-7.preview.example.org"}, Setup: setup, Conditions: conditions},
		},
	}
}

func no(typ, reason, message string) v1alpha1.Condition {
	return v1alpha1.Condition{Type: typ, Status: v1alpha1.ConditionFalse, Reason: reason, Message: message}
}

func TestNews(t *testing.T) {
	a, b := commitOf("a"), commitOf("b")
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	done := &v1alpha1.SetupStatus{Revision: a, Done: a, StartedAt: start, EndedAt: start.Add(92 * time.Second)}
	before := &v1alpha1.SetupStatus{Revision: a, Done: b, Running: true, StartedAt: start}
	failed := &v1alpha1.SetupStatus{Revision: a, Done: b, StartedAt: start, EndedAt: start.Add(time.Second), Log: []string{"npm ERR! \x1b[31mred\x1b[0m", "```"}}
	fails := no("SetUp", "SetupFailed", "exit status 1")
	fails.NextRetry = start
	ready := v1alpha1.Condition{Type: "Ready", Status: v1alpha1.ConditionTrue}
	refused := Outcome{Verdict: Verdict{State: StateUnapproved, Commit: a, Message: "approve it"}}
	tests := map[string]struct {
		o     Outcome
		state newsState
		text  string
	}{
		"not seen yet": {Outcome{Verdict: Verdict{State: StateShown, Commit: a}}, newsMaking, "**The preview is being made** · commit ` aaaaaaaaaaaa `\n"},
		"on the way":   {shown(a, v1alpha1.PhaseStarting, nil, no("Ready", "NotStarted", "x")), newsMaking, "**The preview is being made** · commit ` aaaaaaaaaaaa `\n"},
		"ready":        {shown(a, v1alpha1.PhaseReady, done, ready), newsReady, "**The preview is ready** · commit ` aaaaaaaaaaaa ` · took 1m32s\n\n<https://shop-pr-7.preview.example.org>\n"},
		"an update": {shown(a, v1alpha1.PhaseDegraded, before, ready, no("SetUp", "SettingUp", "setting up")), newsMaking,
			"**The preview is being made** · commit ` aaaaaaaaaaaa `\n\nMeanwhile there is what was before: <https://shop-pr-7.preview.example.org>\n"},
		"an update that the daemon has not read": {func() Outcome {
			o := shown(b, v1alpha1.PhaseReady, &v1alpha1.SetupStatus{Done: b}, ready)
			o.Commit = a
			return o
		}(), newsMaking, "**The preview is being made** · commit ` aaaaaaaaaaaa `\n\nMeanwhile there is what was before: <https://shop-pr-7.preview.example.org>\n"},
		"ready, and asleep": {shown(a, v1alpha1.PhaseAsleep, done), newsReady, "**The preview is ready** · commit ` aaaaaaaaaaaa ` · took 1m32s\n\n<https://shop-pr-7.preview.example.org>\n"},
		"asleep": {shown(a, v1alpha1.PhaseAsleep, &v1alpha1.SetupStatus{Done: b}), newsWaits,
			"**The preview sleeps** · commit ` aaaaaaaaaaaa `\n\nMeanwhile there is what was before: <https://shop-pr-7.preview.example.org>\n\n` nobody asks for it; it shows this commit when somebody opens it `\n"},
		"ready, and yet the commit before": {shown(a, v1alpha1.PhaseReady, &v1alpha1.SetupStatus{Done: b}, ready), newsMaking,
			"**The preview is being made** · commit ` aaaaaaaaaaaa `\n\nMeanwhile there is what was before: <https://shop-pr-7.preview.example.org>\n"},
		"a failed update": {shown(a, v1alpha1.PhaseDegraded, failed, ready, fails), newsFailed,
			"**The preview failed** · commit ` aaaaaaaaaaaa `\n\nMeanwhile there is what was before: <https://shop-pr-7.preview.example.org>\n\n` SetupFailed: exit status 1 `\n\nIt is tried again by itself.\n\n" +
				"<details><summary>The end of the log</summary>\n\n````text\nnpm ERR! red\n```\n````\n\n</details>\n"},
		"a first one that fails": {shown(a, v1alpha1.PhaseFailed, nil, no("Ready", "ConfigInvalid", "preview.yaml:1:1: <b>`x`</b>\n@all")), newsFailed,
			"**The preview failed** · commit ` aaaaaaaaaaaa `\n\n`` ConfigInvalid: preview.yaml:1:1: <b>`x`</b> @all ``\n"},
		"expired":    {shown(a, v1alpha1.PhaseExpired, done, no("Ready", "Expired", "its ttl is over")), newsStops, "**The preview is stopped** · commit ` aaaaaaaaaaaa `\n\n` Expired: its ttl is over `\n"},
		"unapproved": {refused, newsWaits, "**No preview yet** · commit ` aaaaaaaaaaaa `\n\n` approve it `\n"},
		"closed":     {Outcome{Verdict: Verdict{State: StateClosed, Commit: a, Message: "it is closed"}, Preview: "x"}, newsGone, "**No preview** · commit ` aaaaaaaaaaaa `\n\n` it is closed `\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := newsOf(tt.o)
			if n.state != tt.state {
				t.Errorf("%s, want %s", n.state, tt.state)
			}
			if diff := cmp.Diff(testMarker+"\n"+tt.text, n.render(testMarker, true)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if strings.Contains(n.render(testMarker, false), "details") {
				t.Error("a log that nobody wants")
			}
		})
	}
}

// outside are the nodes of a comment and its text as a reader of Markdown sees
// them, without what is in code.
func outside(source string) []string {
	md := goldmark.New(goldmark.WithExtensions(extension.GFM))
	src := []byte(source)
	var seen []string
	ast.Walk(md.Parser().Parse(text.NewReader(src)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.CodeSpan, *ast.FencedCodeBlock:
			seen = append(seen, n.Kind().String())
			return ast.WalkSkipChildren, nil
		case *ast.HTMLBlock:
			seen = append(seen, "html "+string(n.Lines().Value(src)))
		case *ast.Text:
			seen = append(seen, "text "+string(n.Value(src)))
		case *ast.AutoLink:
			seen = append(seen, "link "+string(n.URL(src)))
		default:
			seen = append(seen, n.Kind().String())
		}
		return ast.WalkContinue, nil
	})
	return seen
}

var evil = []string{
	"", " ", "x", "`", "``` \n# head", "````````", "\n```\n@all #1 GH-1 https://evil.example\n```", "<script>alert(1)</script>", "</details>", "-->", "<!-- tekton-preview -->",
	"![x](https://evil.example/x.png)", "[x](javascript:alert(1))", "| a | b |\n|---|---|", "@everyone", "fixes #1", "\x1b]8;;https://evil.example\x07x", "\u202egnp.exe", "a\u2028b", "\xff\xfe",
	"~~~\n", "    indented", "- [ ] task", "\\`", "` `", "&lt;b&gt;", "\r\n\r\n# x", strings.Repeat("`", 20000), strings.Repeat("ü`\n", 30000), "https://x.example\">", "<https://evil.example>",
}

// checkEscaped: nothing of s is seen as anything but code.
func checkEscaped(t *testing.T, s string) {
	t.Helper()
	n := news{state: newsFailed, title: "The preview failed", commit: commitOf("a"), url: "https://x.example", why: s, log: []string{"before", s}}
	plain := n
	plain.why, plain.log = "x", []string{"before", "x"}
	got := n.render(testMarker, true)
	if len(got) > 65536 {
		t.Errorf("%d bytes", len(got))
	}
	if i := strings.IndexFunc(got, func(r rune) bool { return unicode.Is(unicode.Cf, r) || unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
		t.Errorf("%.200q leaves %+q", s, got[i:min(i+8, len(got))])
	}
	if s == "" {
		plain.why = "" // and no line of its own
	}
	want := outside(plain.render(testMarker, true))
	if diff := cmp.Diff(want, outside(got)); diff != "" {
		t.Errorf("%.200q shows outside of code, -want +got:\n%s", s, diff)
	}
	n = news{state: newsReady, title: "x", url: s}
	if s == "" {
		return
	}
	for _, o := range outside(n.render(testMarker, true)) {
		if link, is := strings.CutPrefix(o, "link "); is && (link != s || !plainURL.MatchString(s)) {
			t.Errorf("%q is a link to %q", s, link)
		}
		if strings.HasPrefix(o, "html") && !strings.Contains(o, testMarker) || o == "Image" || o == "Link" || o == "RawHTML" {
			t.Errorf("%q shows as %q", s, o)
		}
	}
}

func TestNothingEscapes(t *testing.T) {
	for _, s := range evil {
		checkEscaped(t, s)
	}
}

func FuzzNothingEscapes(f *testing.F) {
	for _, s := range evil {
		f.Add(s)
	}
	f.Fuzz(checkEscaped)
}

func TestLongLogs(t *testing.T) {
	var log []string
	for i := range 5000 {
		log = append(log, fmt.Sprintf("%d %s", i, strings.Repeat("`", i%200)))
	}
	n := news{state: newsFailed, title: "x", why: strings.Repeat("`ü", 1<<20), log: log}
	got := n.render(testMarker, true)
	if len(got) > 65536 || !strings.Contains(got, "4999") {
		t.Errorf("%d bytes", len(got))
	}
}
