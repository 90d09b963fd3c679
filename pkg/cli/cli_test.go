package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"tekton.host/pkg/api/v1alpha1"
	"tekton.host/pkg/internal/terminal"
	"tekton.host/pkg/spec"
	"tekton.host/pkg/why"
)

func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| code | meaning |\n|---|---|\n")
	var want strings.Builder
	for _, c := range exitCodes {
		fmt.Fprintf(&want, "| %d | %s |\n", c.code, c.what)
	}
	if diff := cmp.Diff(want.String(), table); diff != "" {
		t.Errorf("exit codes in docs/cli.md (-want +got):\n%s", diff)
	}
	a := &app{getenv: func(string) string { return "" }, in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	for _, c := range a.root().Commands() {
		if !strings.Contains(string(text), "| `"+c.Name()) {
			t.Errorf("docs/cli.md lacks command %s", c.Name())
		}
		everyCommand(c, func(c *cobra.Command) {
			if c.Short == "" || (c.Runnable() && c.Args == nil && c.ValidArgsFunction == nil) {
				t.Errorf("%s lacks a description or a check of its arguments", c.CommandPath())
			}
		})
	}
}

func TestParseRefs(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []v1alpha1.Ref
		bad  bool
	}{
		"nothing":        {},
		"kind":           {args: []string{"containers"}, want: []v1alpha1.Ref{{Kind: "Container"}}},
		"kind and names": {args: []string{"Container", "a", "b"}, want: []v1alpha1.Ref{{Kind: "Container", Name: "a"}, {Kind: "Container", Name: "b"}}},
		"mixed":          {args: []string{"a", "container/b"}, want: []v1alpha1.Ref{{Name: "a"}, {Kind: "Container", Name: "b"}}},
		"kind twice":     {args: []string{"container", "container/b"}, bad: true},
		"unknown kind":   {args: []string{"pod/b"}, bad: true},
		"no name":        {args: []string{"container/"}, bad: true},
	}
	for name, tc := range tests {
		got, err := parseRefs(tc.args)
		if diff := cmp.Diff(tc.want, got); diff != "" || (err != nil) != tc.bad {
			t.Errorf("%s: error %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestProblemCaret(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := map[string]struct {
		source string
		at     spec.Position
		want   string
	}{
		"no source":     {"", spec.Position{File: "a", Line: 1, Column: 1}, "a:1:1: bad\n"},
		"no column":     {"x", spec.Position{File: "a", Line: 1}, "a:1: bad\n"},
		"beyond":        {"x", spec.Position{File: "a", Line: 9, Column: 1}, "a:9:1: bad\n"},
		"middle":        {"x\nkey: ü: value\n", spec.Position{File: "a", Line: 2, Column: 9}, "a:2:9: bad\n    2 | key: ü: value\n      |         ^\n"},
		"end of line":   {"key:\n", spec.Position{File: "a", Line: 1, Column: 50}, "a:1:50: bad\n    1 | key:\n      |     ^\n"},
		"tab":           {"\tx", spec.Position{File: "a", Line: 1, Column: 2}, "a:1:2: bad\n    1 |  x\n      |  ^\n"},
		"escaped":       {"\x1b[2Jx", spec.Position{File: "a", Line: 1, Column: 5}, "a:1:5: bad\n    1 | \\x1b[2Jx\n      |        ^\n"},
		"cut to a part": {long, spec.Position{File: "a", Line: 1, Column: 201}, "a:1:201: bad\n    1 | " + long[:100] + "\n      | " + strings.Repeat(" ", 75) + "^\n"},
	}
	style, err := terminal.NewStyle(io.Discard, terminal.ColourNever, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range tests {
		got := view{style}.problem(spec.Problem{Position: tc.at, Message: "bad"}, []byte(tc.source))
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestBuildIsShown: get says how far a build is, and describe for how long.
func TestBuildIsShown(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	item := v1alpha1.Item{Status: v1alpha1.Status{
		Phase:      v1alpha1.PhaseBuilding,
		Conditions: []v1alpha1.Condition{{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionFalse, Reason: "Building"}},
		Build:      &v1alpha1.BuildStatus{Running: true, StartedAt: now.Add(-90 * time.Second), Phase: "building", Done: 2, Expected: 12, Building: []string{"glibc", "web"}},
	}}
	if got := why.Reason(item); got != "Building 2/12 glibc,web" {
		t.Errorf("get: %q", got)
	}
	a := &app{now: func() time.Time { return now }}
	if got := a.build(*item.Status.Build); got != "building glibc and web, 2 of 12 done, for 1m" && got != "building glibc and web, 2 of 12 done, for 90s" {
		t.Errorf("describe: %q", got)
	}
	item.Status.Build = &v1alpha1.BuildStatus{Running: true, Phase: "locking"}
	if got := why.Reason(item); got != "Building locking" {
		t.Errorf("get: %q", got)
	}
}

// TestSetupIsShown: get says how far a setup is, and describe how it failed.
func TestSetupIsShown(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var out strings.Builder
	a := &app{now: func() time.Time { return now }, out: &out}
	running := v1alpha1.Status{
		Phase:      v1alpha1.PhaseStarting,
		Conditions: []v1alpha1.Condition{{Type: v1alpha1.ConditionReady, Status: v1alpha1.ConditionFalse, Reason: "SettingUp"}},
		Setup:      &v1alpha1.SetupStatus{Revision: "3f2a", Running: true, StartedAt: now.Add(-90 * time.Second), Phase: "setting up"},
	}
	if got := why.Reason(v1alpha1.Item{Status: running}); got != "SettingUp setting up" {
		t.Errorf("get: %q", got)
	}
	if got := a.setup(*running.Setup); !strings.HasPrefix(got, "setting up 3f2a, for ") {
		t.Errorf("describe: %q", got)
	}
	failed := v1alpha1.Status{Setup: &v1alpha1.SetupStatus{Revision: "3f2a", Done: "11d0", EndedAt: now, Log: []string{"no \x1b[31m port"}}}
	if got := a.setup(*failed.Setup); !strings.HasPrefix(got, "3f2a, failed ") {
		t.Errorf("describe: %q", got)
	}
	a.describeSetupLog(failed)
	if got := out.String(); !strings.Contains(got, "no") || strings.Contains(got, "\x1b[31m") {
		t.Errorf("describe: %q", got)
	}
}

var (
	documentedCode = regexp.MustCompile("(?ms)^```.*?^```|^    [^\n]*$|`[^`\n]*`")
	documentedCall = regexp.MustCompile(`(?:^|sudo |    |[(;|` + "`" + `] ?)tekton((?: [a-z][a-z-]*)+)([^|;&#` + "`" + `]*)`)
	documentedFlag = regexp.MustCompile(`(?:^| )--([a-z][a-z-]*)`)
)

// TestDocumentedCommandsExist: what the documentation says one types can be typed.
func TestDocumentedCommandsExist(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{getenv: func(string) string { return "" }, in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	root, seen := a.root(), 0
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpFlag()
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range documentedCode.FindAllString(string(text), -1) {
			for _, call := range documentedCall.FindAllStringSubmatch(code, -1) {
				words := strings.Fields(call[1])
				cmd, rest, err := root.Find(words)
				if err != nil || cmd == root || cmd.HasSubCommands() && len(rest) > 0 {
					t.Errorf("%s: no command: tekton %s", file, strings.Join(words, " "))
					continue
				}
				seen++
				for _, flag := range documentedFlag.FindAllStringSubmatch(call[2], -1) {
					if cmd.Flags().Lookup(flag[1]) == nil && cmd.InheritedFlags().Lookup(flag[1]) == nil && flag[1] != "help" {
						t.Errorf("%s: tekton %s has no --%s", file, cmd.Name(), flag[1])
					}
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d commands were found; has the form changed?", seen)
	}
}

// TestApplied: what serves as before because the change was taken back is not applied.
func TestApplied(t *testing.T) {
	condition := func(kind string, status v1alpha1.ConditionStatus) v1alpha1.Condition {
		return v1alpha1.Condition{Type: kind, Status: status, Reason: "CrashLoop", Message: "ended with exit code 127"}
	}
	ready, starting := condition(v1alpha1.ConditionReady, v1alpha1.ConditionTrue), condition(v1alpha1.ConditionReady, v1alpha1.ConditionFalse)
	for name, tc := range map[string]struct {
		status v1alpha1.Status
		done   bool
		words  string // of an error
	}{
		"Ready":         {v1alpha1.Status{Phase: v1alpha1.PhaseReady, Conditions: []v1alpha1.Condition{ready}}, true, ""},
		"starting":      {v1alpha1.Status{Phase: v1alpha1.PhaseStarting, Conditions: []v1alpha1.Condition{starting}}, false, ""},
		"expired":       {v1alpha1.Status{Phase: v1alpha1.PhaseExpired, Conditions: []v1alpha1.Condition{starting}}, true, ""},
		"disabled":      {v1alpha1.Status{Phase: v1alpha1.PhaseDisabled}, true, ""},
		"rejected":      {v1alpha1.Status{Phase: v1alpha1.PhaseRejected}, false, "was rejected"},
		"taken back":    {v1alpha1.Status{Phase: v1alpha1.PhaseDegraded, Conditions: []v1alpha1.Condition{ready, condition(v1alpha1.ConditionRolledBack, v1alpha1.ConditionTrue)}}, false, "container/web is as it was before: CrashLoop: ended with exit code 127"},
		"namesake goes": {v1alpha1.Status{Phase: v1alpha1.PhaseDeleting, Conditions: []v1alpha1.Condition{ready}}, false, ""},
		"being set up":  {v1alpha1.Status{Phase: v1alpha1.PhaseReady, Conditions: []v1alpha1.Condition{ready, condition(v1alpha1.ConditionSetUp, v1alpha1.ConditionFalse)}}, false, ""},
	} {
		done, err := applied(&v1alpha1.Item{TypeMeta: v1alpha1.TypeMeta{Kind: "Container"}, Metadata: v1alpha1.ItemMeta{Name: "web"}, Status: tc.status})
		if done != tc.done || (err == nil) != (tc.words == "") || err != nil && !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
}
