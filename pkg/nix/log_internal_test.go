package nix

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/resource"
)

// read feeds a log of Nix and returns what people see, and the progress after
// every line that changed it.
func read(text string) (r *logReader, lines []string, steps []resource.Progress) {
	r = newLogReader()
	for line := range strings.Lines(text) {
		if shown := r.line([]byte(strings.TrimSuffix(line, "\n"))); shown != "" {
			lines = append(lines, shown)
		}
		p := r.progress()
		if len(steps) == 0 || !reflect.DeepEqual(steps[len(steps)-1], p) {
			steps = append(steps, p)
		}
	}
	return r, lines, steps
}

// TestLogOfABuild: what Nix 2.8 wrote for two derivations, one after the other.
func TestLogOfABuild(t *testing.T) {
	raw, err := os.ReadFile("testdata/build.log")
	if err != nil {
		t.Fatal(err)
	}
	r, lines, steps := read(string(raw))
	wantLines := []string{
		"these 2 derivations will be built:", "  /nix/store/15ks5k9k6jfb809ig70mx99r3m3l259f-dep.drv", "  /nix/store/0lfgj6bw9grz7v9zabz6ir2n1pi1vh08-two.drv",
		"building '/nix/store/15ks5k9k6jfb809ig70mx99r3m3l259f-dep.drv'", "dep> building dep",
		"building '/nix/store/0lfgj6bw9grz7v9zabz6ir2n1pi1vh08-two.drv'",
		"warning: you did not specify '--add-root'; the result might be removed by the garbage collector",
	}
	if diff := cmp.Diff(wantLines, lines); diff != "" {
		t.Errorf("lines: -want +got:\n%s", diff)
	}
	wantSteps := []resource.Progress{
		{}, {Expected: 1}, {Expected: 2}, {Expected: 2, Building: []string{"dep"}},
		{Done: 1, Expected: 2, Building: []string{"dep"}}, {Done: 1, Expected: 2}, {Done: 1, Expected: 2, Building: []string{"two"}},
		{Done: 2, Expected: 2, Building: []string{"two"}}, {Done: 2, Expected: 2},
	}
	if diff := cmp.Diff(wantSteps, steps); diff != "" {
		t.Errorf("progress: -want +got:\n%s", diff)
	}
	if r.failure != "" {
		t.Errorf("failure %q", r.failure)
	}
}

func TestLogOfAFailure(t *testing.T) {
	r, lines, _ := read(`@nix {"action":"start","fields":["/nix/store/maqfjps4vqpikfy189y920gxa60qgj8y-bad.drv","",1,1],"id":3,"level":3,"text":"building","type":105}
@nix {"action":"result","fields":["\u001b[31moh no"],"id":3,"type":101}
@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m builder for '\u001b[35;1mbad.drv\u001b[0m' failed with exit code 3;\n       last 1 log lines:\n       > oh no"}
@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m 1 dependencies of derivation 'top.drv' failed to build"}
not of Nix
@nix {"action":"msg","level":5,"msg":"debug"}
@nix {half
`)
	want := []string{"building", "bad> oh no", "error: builder for 'bad.drv' failed with exit code 3;\n       last 1 log lines:\n       > oh no", "error: 1 dependencies of derivation 'top.drv' failed to build", "not of Nix"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if r.failure != want[2] {
		t.Errorf("failure %q", r.failure)
	}
}

// TestLongFailure: of a message that is longer than a line of the log may be, the
// beginning is told.
func TestLongFailure(t *testing.T) {
	for _, where := range []string{`"level":0,`, `"column":3,"file":"/preview-config.nix","level":0,"line":4,`, `"column":null,"file":null,"level":0,"line":null,`} {
		long := `@nix {"action":"msg",` + where + `"msg":"\u001b[31;1merror:\u001b[0m \"` + strings.Repeat(`ab\n`, maxLine)
		for cut := range 12 { // wherever it is cut, also within an escape
			r, _, _ := read(long[:maxLine-cut])
			if !strings.HasPrefix(r.failure, "error: \"ab\nab") || len(r.failure) > maxText {
				t.Errorf("failure %.80q", r.failure)
			}
		}
	}
}

// FuzzLog: whatever a build prints, the reader survives it, and what it shows is
// text without control characters and bounded.
func FuzzLog(f *testing.F) {
	raw, err := os.ReadFile("testdata/build.log")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw))
	f.Add("@nix {\"action\":\"start\",\"id\":1,\"type\":104}\n@nix {\"action\":\"result\",\"id\":1,\"type\":105,\"fields\":[-1,1e300,\"x\"]}\n")
	f.Add("\x1b]0;title\x07\x1b[2Jx\x00\n@nix []\n@nix {\"fields\":[[]],\"action\":\"result\",\"type\":101}\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, lines, steps := read(text)
		for _, l := range lines {
			if len(l) > 2*maxText+4 || !utf8.ValidString(l) || strings.ContainsFunc(l, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' }) {
				t.Errorf("shows %q", l)
			}
		}
		for _, p := range steps {
			if p.Done < 0 || p.Expected < 0 || len(p.Building) > shownActivities {
				t.Errorf("progress %+v", p)
			}
		}
	})
}
