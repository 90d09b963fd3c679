package absence_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/source"
	"tekton.host/pkg/spec"
)

// Small pools, so that names, files and sources meet.
var (
	someNames   = rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
	someFiles   = rapid.SampledFrom([]string{"1.yaml", "2.yaml", "3.yaml", "4.yaml"})
	someSources = []string{"local", "other"}
)

func drawKnown(t *rapid.T) []absence.Known {
	var out []absence.Known
	for _, n := range rapid.SliceOfNDistinct(someNames, 0, 6, rapid.ID).Draw(t, "known") {
		out = append(out, absence.Known{
			UID: "uid-" + n, Kind: "Container", Name: n, Source: rapid.SampledFrom(someSources).Draw(t, "source"),
			File: someFiles.Draw(t, "file"), Data: rapid.Bool().Draw(t, "data"),
		})
	}
	return out
}

func drawProblem(t *rapid.T) spec.Problem {
	p := spec.Problem{Position: spec.Position{File: someFiles.Draw(t, "problem file")}, Reason: "ParseError", Message: "bad"}
	if rapid.Bool().Draw(t, "named") {
		p.Kind, p.Name = "Container", someNames.Draw(t, "problem name")
	}
	return p
}

func drawSnapshot(t *rapid.T, name string, at time.Duration) source.Snapshot {
	f := files{}
	for _, file := range rapid.SliceOfNDistinct(someFiles, 0, 4, rapid.ID).Draw(t, "files") {
		f[file] = rapid.SliceOfN(someNames, 0, 3).Draw(t, "objects")
	}
	s := snapshot(at, f)
	s.Source, s.Marked = name, rapid.Bool().Draw(t, "marked")
	s.Complete = rapid.IntRange(0, 4).Draw(t, "incomplete") > 0
	for range rapid.IntRange(0, 2).Draw(t, "problems") {
		s.Problems = append(s.Problems, drawProblem(t))
	}
	if len(s.Files) > 0 && rapid.IntRange(0, 3).Draw(t, "unsettled") == 0 {
		s.Unsettled = []string{rapid.SampledFrom(s.Files).Draw(t, "unsettled file")}
	}
	if rapid.IntRange(0, 8).Draw(t, "failed") == 0 {
		failed(&s)
	}
	return s
}

// drawInput runs a random history, so that the state is one that can occur,
// and returns the input of its last judgement.
func drawInput(t *rapid.T) absence.Input {
	in := absence.Input{Sources: []absence.Source{{Name: "local"}, {Name: "other"}}, Known: drawKnown(t), Now: start}
	if rapid.IntRange(0, 5).Draw(t, "one source") == 0 {
		in.Sources = in.Sources[:1]
	}
	at := time.Duration(0)
	for range rapid.IntRange(0, 5).Draw(t, "history") {
		in.Snapshots = map[string]source.Snapshot{}
		for _, name := range someSources {
			in.Snapshots[name] = drawSnapshot(t, name, at)
		}
		at += time.Duration(rapid.SampledFrom([]int{0, 10, 20, 1000, 2000, 11000}).Draw(t, "pause")) * time.Millisecond
		out := absence.Judge(in)
		in.State = out.State
		in.Known = slices.DeleteFunc(in.Known, func(k absence.Known) bool {
			return out.Verdicts[k.UID].Decision == absence.Absent && rapid.Bool().Draw(t, "forgotten")
		})
	}
	in.Snapshots = map[string]source.Snapshot{}
	for _, name := range someSources {
		if rapid.IntRange(0, 9).Draw(t, "read") > 0 {
			in.Snapshots[name] = drawSnapshot(t, name, at)
		}
	}
	return in
}

func absent(o absence.Output) map[string]bool {
	out := map[string]bool{}
	for uid, v := range o.Verdicts {
		if v.Decision == absence.Absent {
			out[uid] = true
		}
	}
	return out
}

func TestEveryKnownObjectGetsOneExplainedVerdict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		out := absence.Judge(in)
		if len(out.Verdicts) != len(in.Known) {
			t.Fatalf("%d verdicts for %d objects", len(out.Verdicts), len(in.Known))
		}
		for uid, v := range out.Verdicts {
			if v.Decision != absence.Present && (v.Reason == "" || v.Message == "") {
				t.Fatalf("%s: %+v is not explained", uid, v)
			}
		}
		if _, err := json.Marshal(out.State); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		shuffled := in
		shuffled.Known = rapid.Permutation(in.Known).Draw(t, "known order")
		shuffled.Snapshots = map[string]source.Snapshot{}
		for name, s := range in.Snapshots {
			s.Objects = rapid.Permutation(s.Objects).Draw(t, "objects order")
			s.Problems = rapid.Permutation(s.Problems).Draw(t, "problems order")
			s.Files = rapid.Permutation(s.Files).Draw(t, "files order")
			shuffled.Snapshots[name] = s
		}
		if diff := cmp.Diff(absence.Judge(in), absence.Judge(shuffled)); diff != "" {
			t.Fatalf("judgement (-as drawn +shuffled):\n%s", diff)
		}
		show := func(in absence.Input) string {
			winners, duplicates := absence.Resolve(in.Sources, in.Snapshots, in.Known)
			text := ""
			for _, w := range winners {
				text += fmt.Sprintln(w.Source, w.Position, w.Meta().Name)
			}
			for _, d := range duplicates {
				text += fmt.Sprintln(d.Source, d.Error())
			}
			return text
		}
		if diff := cmp.Diff(show(in), show(shuffled)); diff != "" {
			t.Fatalf("resolution (-as drawn +shuffled):\n%s", diff)
		}
	})
}

// TestNotKnowingNeverDeletes: no object of a source that is unread, unreadable
// or incomplete, and none whose file is being written, is Absent.
func TestNotKnowingNeverDeletes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		out := absence.Judge(in)
		for _, k := range in.Known {
			s, read := in.Snapshots[k.Source]
			sure := read && s.Complete && s.Err == nil && !slices.Contains(s.Unsettled, k.File)
			if out.Verdicts[k.UID].Decision == absence.Absent && !sure {
				t.Fatalf("%s: %+v from %+v", k.UID, out.Verdicts[k.UID], s)
			}
		}
	})
}

// TestWorseReadsNeverDeleteMore: a problem more, a file more that is being
// written, or an incomplete read adds no Absent.
func TestWorseReadsNeverDeleteMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := absent(absence.Judge(in))
		name := rapid.SampledFrom(someSources).Draw(t, "worse source")
		s, read := in.Snapshots[name]
		if !read {
			return
		}
		switch rapid.IntRange(0, 3).Draw(t, "worse") {
		case 0:
			s.Problems = append(slices.Clone(s.Problems), drawProblem(t))
		case 1:
			s.Complete = false
		case 2:
			failed(&s)
		case 3:
			if len(s.Files) == 0 {
				return
			}
			file := rapid.SampledFrom(s.Files).Draw(t, "written file")
			s.Unsettled = append(slices.Clone(s.Unsettled), file)
			s.Objects = slices.DeleteFunc(slices.Clone(s.Objects), func(o spec.Object) bool { return o.Position.File == file })
		}
		in.Snapshots[name] = s
		for uid := range absent(absence.Judge(in)) {
			if !before[uid] {
				t.Fatalf("%s became Absent by a worse read", uid)
			}
		}
	})
}

// TestResolutionAndJudgementAgree: what is Present has a winner of its source
// and kind, and no name has two.
func TestResolutionAndJudgementAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		out := absence.Judge(in)
		winners, duplicates := absence.Resolve(in.Sources, in.Snapshots, in.Known)
		byName := map[string]absence.Winner{}
		total := 0
		for _, w := range winners {
			if _, twice := byName[w.Meta().Name]; twice {
				t.Fatalf("%s has two winners", w.Meta().Name)
			}
			byName[w.Meta().Name] = w
		}
		for _, s := range in.Sources {
			total += len(in.Snapshots[s.Name].Objects)
		}
		if len(winners)+len(duplicates) != total {
			t.Fatalf("%d winners and %d duplicates of %d objects", len(winners), len(duplicates), total)
		}
		for _, k := range in.Known {
			w, won := byName[k.Name]
			present := out.Verdicts[k.UID].Decision == absence.Present
			if won && (w.Source != k.Source || w.Type().Kind != k.Kind) {
				t.Fatalf("%s of %s was given to %+v", k.Name, k.Source, w)
			}
			if present != won {
				t.Fatalf("%s: present %t, winner %t", k.UID, present, won)
			}
		}
	})
}

// TestBrakeBound: however files vanish, and whenever the daemon restarts, no
// more than the limit of a source's objects are let go within any Window.
func TestBrakeBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := numbered(rapid.IntRange(1, 30).Draw(t, "objects"))
		there := slices.Clone(all)
		w := &world{known: known(all...)}
		gone := map[string]time.Duration{} // UID: when its file vanished
		var let []time.Duration
		at := time.Duration(0)
		for range 25 {
			at += time.Duration(rapid.IntRange(1, 4000).Draw(t, "pause")) * time.Millisecond
			for range min(len(there), rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 5}).Draw(t, "vanish")) {
				gone[there[0]] = at
				there = there[1:]
			}
			for uid := range absent(w.judge(snapshot(at, each(there...)))) {
				let = append(let, gone[uid])
			}
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				w.state = restart(t, w.state)
			}
		}
		slices.Sort(let)
		limit := max(absence.BrakeMin, len(all)*absence.DirectoryPercent/100)
		for i := range let {
			if j := i + limit; j < len(let) && let[j]-let[i] <= absence.Window {
				t.Fatalf("%d of %d let go within %s: %v", limit+1, len(all), let[j]-let[i], let)
			}
		}
	})
}
