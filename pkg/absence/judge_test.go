package absence_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tekton.host/pkg/absence"
	"tekton.host/pkg/source"
)

// step is one read of the directory and what becomes of the objects.
type step struct {
	read source.Snapshot
	want map[string]string
	hold string // reason of the source's hold
	wake time.Duration
}

const (
	ms        = time.Millisecond
	confirm   = "Hold Confirming"
	mass      = "Hold MassDelete"
	problem   = "Hold FileProblem"
	pending   = "Hold FilePending"
	vanished  = "Absent Vanished"
	removed   = "Absent Removed"
	unread    = "Hold SourceUnreadable"
	emptied   = "Hold SourceEmpty"
	isPresent = "Present"
)

func TestJudgeOverTime(t *testing.T) {
	data := func(ks []absence.Known, names ...string) []absence.Known {
		for i := range ks {
			ks[i].Data = slices.Contains(names, ks[i].Name)
		}
		return ks
	}
	shared := func(names ...string) []absence.Known {
		ks := known(names...)
		for i := range ks {
			ks[i].File = "all.yaml"
		}
		return ks
	}
	tests := map[string]struct {
		known []absence.Known
		steps []step
	}{
		"all there": {known("a", "b"), []step{
			{read: snapshot(0, each("a", "b")), want: map[string]string{"a": isPresent, "b": isPresent}},
		}},
		"a document removed goes at once": {shared("a", "b"), []step{
			{read: snapshot(0, files{"all.yaml": {"b"}}), want: map[string]string{"a": removed, "b": isPresent}},
		}},
		"with data only after two reads": {data(shared("a", "b"), "a"), []step{
			{read: snapshot(0, files{"all.yaml": {"b"}}), want: map[string]string{"a": confirm, "b": isPresent}, wake: 20 * ms},
			{read: snapshot(19*ms, files{"all.yaml": {"b"}}), want: map[string]string{"a": confirm, "b": isPresent}, wake: 20 * ms},
			{read: snapshot(20*ms, files{"all.yaml": {"b"}}), want: map[string]string{"a": removed, "b": isPresent}},
		}},
		"with data, back at the second read": {data(shared("a"), "a"), []step{
			{read: snapshot(0, files{"all.yaml": nil}), want: map[string]string{"a": confirm}, wake: 20 * ms},
			{read: snapshot(20*ms, files{"all.yaml": {"a"}}), want: map[string]string{"a": isPresent}},
			{read: snapshot(40*ms, files{"all.yaml": nil}), want: map[string]string{"a": confirm}, wake: 60 * ms},
		}},
		"the same read confirms nothing": {data(shared("a"), "a"), []step{
			{read: snapshot(0, files{"all.yaml": nil}), want: map[string]string{"a": confirm}, wake: 20 * ms},
			{read: snapshot(0, files{"all.yaml": nil}), want: map[string]string{"a": confirm}, wake: 20 * ms},
		}},
		"the clock starts when the file was read": {data(shared("a"), "a"), []step{
			{read: snapshot(0, files{"all.yaml": nil}, unsettled("all.yaml")), want: map[string]string{"a": pending}},
			{read: snapshot(50*ms, files{"all.yaml": nil}), want: map[string]string{"a": confirm}, wake: 70 * ms},
			{read: snapshot(70*ms, files{"all.yaml": nil}), want: map[string]string{"a": removed}},
		}},
		"a write in between restarts the clock": {data(shared("a"), "a"), []step{
			{read: snapshot(0, files{"all.yaml": nil}), want: map[string]string{"a": confirm}, wake: 20 * ms},
			{read: snapshot(10*ms, files{"all.yaml": nil}, unsettled("all.yaml")), want: map[string]string{"a": pending}},
			{read: snapshot(25*ms, files{"all.yaml": nil}), want: map[string]string{"a": confirm}, wake: 45 * ms},
		}},
		"a vanished object with a problem counts for the brake": {known("a", "b", "c", "d"), []step{
			{read: snapshot(0, files{"new.yaml": nil}, broken("new.yaml", "a")), want: map[string]string{"a": problem, "b": mass, "c": mass, "d": mass}, hold: "MassDelete"},
		}},
		"a vanished file after 2 s": {known("a", "b"), []step{
			{read: snapshot(0, each("b")), want: map[string]string{"a": confirm, "b": isPresent}, wake: 2 * time.Second},
			{read: snapshot(1999*ms, each("b")), want: map[string]string{"a": confirm, "b": isPresent}, wake: 2 * time.Second},
			{read: snapshot(2000*ms, each("b")), want: map[string]string{"a": vanished, "b": isPresent}},
		}},
		"a vanished file that is back": {known("a"), []step{
			{read: snapshot(0, each()), want: map[string]string{"a": confirm}, wake: 2 * time.Second},
			{read: snapshot(1000*ms, each("a")), want: map[string]string{"a": isPresent}},
			{read: snapshot(2000*ms, each()), want: map[string]string{"a": confirm}, wake: 4 * time.Second},
		}},
		"the last file of a marked directory": {known("a"), []step{
			{read: snapshot(0, each()), want: map[string]string{"a": confirm}, wake: 2 * time.Second},
			{read: snapshot(3000*ms, each()), want: map[string]string{"a": vanished}},
		}},
		"the last file of an unmarked directory": {known("a"), []step{
			{read: snapshot(0, each(), unmarked), want: map[string]string{"a": emptied}, hold: "SourceEmpty"},
			{read: snapshot(time.Hour, each(), unmarked), want: map[string]string{"a": emptied}, hold: "SourceEmpty"},
			{read: snapshot(2*time.Hour, each()), want: map[string]string{"a": confirm}, wake: 2*time.Hour + 2*time.Second},
		}},
		"another directory without the marker": {known("a", "b"), []step{
			{read: snapshot(0, each("x", "y"), unmarked), want: map[string]string{"a": emptied, "b": emptied}, hold: "SourceEmpty"},
		}},
		"one known object shows the directory": {known("a", "b"), []step{
			{read: snapshot(0, each("b"), unmarked), want: map[string]string{"a": confirm, "b": isPresent}, wake: 2 * time.Second},
			{read: snapshot(2000*ms, each("b"), unmarked), want: map[string]string{"a": vanished, "b": isPresent}},
		}},
		"a renamed file": {known("a", "b"), []step{
			{read: snapshot(0, files{"new.yaml": {"a"}, "b.yaml": {"b"}}), want: map[string]string{"a": isPresent, "b": isPresent}},
		}},
		"a renamed file in an unmarked directory": {known("a"), []step{
			{read: snapshot(0, files{"new.yaml": {"a"}}, unmarked), want: map[string]string{"a": isPresent}},
		}},
		"a name changed in its file": {known("a"), []step{
			{read: snapshot(0, files{"a.yaml": {"renamed"}}), want: map[string]string{"a": removed}},
		}},
		"unreadable": {known("a"), []step{
			{read: snapshot(0, each("a"), failed), want: map[string]string{"a": unread}, hold: "SourceUnreadable"},
			{read: snapshot(time.Hour, each("a")), want: map[string]string{"a": isPresent}},
		}},
		"incomplete": {known("a", "b"), []step{
			{read: snapshot(0, each("b"), incomplete), want: map[string]string{"a": unread, "b": isPresent}, hold: "SourceUnreadable"},
			{read: snapshot(time.Hour, each("b")), want: map[string]string{"a": confirm, "b": isPresent}, wake: time.Hour + 2*time.Second},
		}},
		"unreadable in between restarts the clock": {known("a", "b"), []step{
			{read: snapshot(0, each("b")), want: map[string]string{"a": confirm, "b": isPresent}, wake: 2 * time.Second},
			{read: snapshot(1000*ms, each("b"), incomplete), want: map[string]string{"a": unread, "b": isPresent}, hold: "SourceUnreadable"},
			{read: snapshot(3000*ms, each("b")), want: map[string]string{"a": confirm, "b": isPresent}, wake: 5 * time.Second},
		}},
		"a file with a problem": {known("a", "b"), []step{
			{read: snapshot(0, files{"a.yaml": nil, "b.yaml": {"b"}}, broken("a.yaml", "")), want: map[string]string{"a": problem, "b": isPresent}},
			{read: snapshot(time.Hour, files{"a.yaml": nil, "b.yaml": {"b"}}, broken("a.yaml", "")), want: map[string]string{"a": problem, "b": isPresent}},
		}},
		"a document with a problem": {shared("a", "b", "c"), []step{
			{read: snapshot(0, files{"all.yaml": {"c"}}, broken("all.yaml", "a")), want: map[string]string{"a": problem, "b": removed, "c": isPresent}},
		}},
		"a name misspelt so that it is refused": {known("a"), []step{
			{read: snapshot(0, files{"a.yaml": nil}, broken("a.yaml", "A")), want: map[string]string{"a": problem}},
		}},
		"moved to a file where it has a problem": {known("a", "b"), []step{
			{read: snapshot(time.Hour, files{"b.yaml": {"b"}, "new.yaml": nil}, broken("new.yaml", "a")), want: map[string]string{"a": problem, "b": isPresent}},
		}},
		"another file's problem holds nothing": {known("a", "b"), []step{
			{read: snapshot(0, each("b"), broken("c.yaml", "")), want: map[string]string{"a": confirm, "b": isPresent}, wake: 2 * time.Second},
			{read: snapshot(2000*ms, each("b"), broken("c.yaml", "")), want: map[string]string{"a": vanished, "b": isPresent}},
		}},
		"another file being written may be the new place": {known("a", "b"), []step{
			{read: snapshot(0, files{"b.yaml": {"b"}, "new.yaml": nil}, unsettled("new.yaml")), want: map[string]string{"a": confirm, "b": isPresent}, wake: 10 * time.Second},
			{read: snapshot(9000*ms, files{"b.yaml": {"b"}, "new.yaml": nil}, unsettled("new.yaml")), want: map[string]string{"a": confirm, "b": isPresent}, wake: 10 * time.Second},
			{read: snapshot(9500*ms, files{"b.yaml": {"b"}, "new.yaml": {"a"}}), want: map[string]string{"a": isPresent, "b": isPresent}},
		}},
		"but a writer that never ends does not hold for ever": {shared("a"), []step{
			{read: snapshot(0, files{"all.yaml": nil, "new.yaml": nil}, unsettled("new.yaml")), want: map[string]string{"a": confirm}, wake: 10 * time.Second},
			{read: snapshot(10*time.Second, files{"all.yaml": nil, "new.yaml": nil}, unsettled("new.yaml")), want: map[string]string{"a": removed}},
		}},
		"a copy does not count while its file is broken": {known("a"), []step{
			{read: snapshot(0, files{"a.yaml": nil, "copy.yaml": {"a"}}, broken("a.yaml", "")), want: map[string]string{"a": problem}},
			{read: snapshot(0, files{"copy.yaml": {"a"}}), want: map[string]string{"a": isPresent}},
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{known: tc.known}
			for i, s := range tc.steps {
				got := w.judge(s.read)
				if diff := cmp.Diff(s.want, verdicts(got)); diff != "" {
					t.Errorf("step %d: verdicts (-want +got):\n%s", i, diff)
				}
				if reason := got.Holds["local"].Reason; reason != s.hold {
					t.Errorf("step %d: hold %q, want %q", i, reason, s.hold)
				}
				checkWake(t, i, s.wake, got)
			}
		})
	}
}

func checkWake(t *testing.T, i int, want time.Duration, got absence.Output) {
	t.Helper()
	if want == 0 {
		if !got.NextWake.IsZero() || got.Reread != nil {
			t.Errorf("step %d: wakes at %s for %v, want never", i, got.NextWake, got.Reread)
		}
		return
	}
	if at := got.NextWake.Sub(start); at != want || !slices.Equal(got.Reread, []string{"local"}) {
		t.Errorf("step %d: wakes after %s for %v, want %s for local", i, at, got.Reread, want)
	}
}

func TestBrake(t *testing.T) {
	tests := map[string]struct {
		objects int
		percent int
		gone    []int // how many vanish at each second, from 0
		want    string
	}{
		"3 of 3":                          {3, 0, []int{3}, "vvv"},
		"3 of 4":                          {4, 0, []int{3}, "vvv"},
		"4 of 4":                          {4, 0, []int{4}, "mmmm"},
		"4 of 13":                         {13, 0, []int{4}, "mmmm"},
		"4 of 14":                         {14, 0, []int{4}, "vvvv"},
		"5 of 14":                         {14, 0, []int{5}, "mmmmm"},
		"30 of 100":                       {100, 0, []int{30}, strings.Repeat("v", 30)},
		"31 of 100":                       {100, 0, []int{31}, strings.Repeat("m", 31)},
		"half of a git commit":            {20, absence.GitPercent, []int{10}, strings.Repeat("v", 10)},
		"more than half of a git commit":  {20, absence.GitPercent, []int{11}, strings.Repeat("m", 11)},
		"2 and 2 within 2 s":              {10, 0, []int{2, 2}, "mmmm"},
		"3 gone for good, then a 4th":     {10, 0, []int{3, 0, 0, 0, 1}, "vvvm"},
		"one every 3 s drains no further": {10, 0, []int{1, 0, 0, 1, 0, 0, 1, 0, 0, 1}, "vvvm"},
		"one every 4 s":                   {10, 0, []int{1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1}, "vvvvv"},
		"the limit is that of before":     {20, 0, []int{4, 0, 0, 0, 0, 2}, "vvvvvv"},
		"3, and 3 after the window":       {20, 0, []int{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3}, "vvvvvv"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			all := numbered(tc.objects)
			in := absence.Input{Sources: []absence.Source{{Name: "local", Percent: tc.percent}}, Known: known(all...)}
			got := map[string]string{}
			lost := 0
			for second := range len(tc.gone) + 20 {
				if second < len(tc.gone) {
					lost += tc.gone[second]
				}
				in.Snapshots = map[string]source.Snapshot{"local": snapshot(time.Duration(second)*time.Second, each(all[lost:]...))}
				out := absence.Judge(in)
				in.State = out.State
				in.Known = slices.DeleteFunc(in.Known, func(k absence.Known) bool {
					got[k.UID] = verdicts(out)[k.UID]
					return out.Verdicts[k.UID].Decision == absence.Absent
				})
			}
			word := ""
			for _, uid := range all[:lost] {
				word += map[string]string{vanished: "v", mass: "m", confirm: "?"}[got[uid]]
			}
			if word != tc.want {
				t.Errorf("%d lost objects: %q, want %q (v let go, m held)", lost, word, tc.want)
			}
		})
	}
}

// TestMassDelete: a hold stays over changes, unreadable moments and the end of
// the window, and only what was released goes.
func TestMassDelete(t *testing.T) {
	all := numbered(6)
	w := &world{known: known(all...)}
	held := func(at time.Duration, there []string, want []string, change ...func(*source.Snapshot)) absence.Output {
		t.Helper()
		got := w.judge(snapshot(at, each(there...), change...))
		if diff := cmp.Diff(want, got.Holds["local"].UIDs); diff != "" {
			t.Fatalf("after %s: held (-want +got):\n%s", at, diff)
		}
		return got
	}
	got := held(0, all[:1], all[1:])
	if m := got.Holds["local"].Message; !strings.Contains(m, "Container/o01") || !strings.Contains(m, "release-deletes local") {
		t.Errorf("message %q, want the objects and the next step", m)
	}
	if !got.NextWake.IsZero() {
		t.Errorf("a hold wakes at %s; time does not end it", got.NextWake)
	}
	held(time.Hour, all[:1], all[1:])
	held(2*time.Hour, all[:1], all[1:], incomplete)
	held(3*time.Hour, all[:3], all[3:]) // two are back, the rest is below the limit
	held(4*time.Hour, all[:3], all[3:])
	// All but one of the held are released, and one of the others, which has no effect.
	w.releases = map[string]map[string]bool{"local": {"o01": true, "o04": true, "o05": true, "older": true}}
	got = held(5*time.Hour, all[:3], all[3:4])
	want := map[string]string{"o00": isPresent, "o01": isPresent, "o02": isPresent, "o03": mass, "o04": "Absent Released", "o05": "Absent Released"}
	if diff := cmp.Diff(want, verdicts(got)); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]string{"local": {"o01", "older"}}, got.Lapsed); diff != "" {
		t.Errorf("lapsed (-want +got):\n%s", diff)
	}
	w.releases = nil
	held(6*time.Hour, all[:4], nil)
	held(7*time.Hour, all[1:4], nil) // a single one goes as ever
	if got := held(8*time.Hour, all[1:4], nil); got.Verdicts["o00"].Decision != absence.Absent {
		t.Errorf("o00: %+v, want absent", got.Verdicts["o00"])
	}
}

func TestRequests(t *testing.T) {
	for name, s := range map[string]source.Snapshot{
		"present": snapshot(0, each("a", "b")), "vanished": snapshot(0, each("b")), "unreadable": snapshot(0, nil, failed),
		"empty": snapshot(0, nil, unmarked), "broken": snapshot(0, each("b"), broken("a.yaml", "")),
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{known: known("a", "b"), requests: map[string]bool{"a": true, "stranger": true}}
			got := w.judge(s)
			if v := verdicts(got)["a"]; v != "Absent Requested" {
				t.Errorf("a: %s, want Absent Requested", v)
			}
			if got.Verdicts["b"].Decision == absence.Absent {
				t.Errorf("b: %+v; it was not asked for", got.Verdicts["b"])
			}
			if len(got.Verdicts) != 2 {
				t.Errorf("%d verdicts, want one for each known object", len(got.Verdicts))
			}
		})
	}
}

func TestReleaseOfHolds(t *testing.T) {
	released := map[string]map[string]bool{"local": {"a": true}}
	tests := map[string]struct {
		in   source.Snapshot
		want string
	}{
		"unreadable":       {snapshot(0, nil, failed), "Absent Released"},
		"empty":            {snapshot(0, nil, unmarked), "Absent Released"},
		"vanished":         {snapshot(0, each("b")), "Absent Released"},
		"back":             {snapshot(0, each("a", "b")), isPresent},
		"being written":    {snapshot(0, files{"a.yaml": nil}, unsettled("a.yaml")), pending},
		"broken":           {snapshot(0, files{"a.yaml": nil}, broken("a.yaml", "")), problem},
		"written, not all": {snapshot(0, files{"a.yaml": nil}, unsettled("a.yaml"), incomplete), pending},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{known: known("a", "b"), releases: released}
			if got := verdicts(w.judge(tc.in))["a"]; got != tc.want {
				t.Errorf("a: %s, want %s", got, tc.want)
			}
		})
	}
}

func TestSourcesThatAreNotThere(t *testing.T) {
	in := absence.Input{Sources: []absence.Source{{Name: "unread"}}, Known: known("a", "b", "c")}
	in.Known[1].Source, in.Known[2].Source = "unread", "dropped"
	got := absence.Judge(in)
	want := map[string]string{"a": "Hold SourceGone", "b": "Hold SourceUnread", "c": "Hold SourceGone"}
	if diff := cmp.Diff(want, verdicts(got)); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if got.Holds["local"].Reason != absence.ReasonSourceGone || len(got.Holds) != 2 {
		t.Errorf("holds %v, want those of the two sources that are gone", got.Holds)
	}
	in.Releases = map[string]map[string]bool{"local": {"a": true}, "unread": {"b": true}}
	got = absence.Judge(in)
	want = map[string]string{"a": "Absent Released", "b": "Hold SourceUnread", "c": "Hold SourceGone"}
	if diff := cmp.Diff(want, verdicts(got)); diff != "" {
		t.Errorf("released: verdicts (-want +got):\n%s", diff)
	}
}

// TestHoldOutlivesWhatIsNoAnswer: files that come back empty, half or broken
// for a moment (a copy on a full disk) do not make their removal a single one.
func TestHoldOutlivesWhatIsNoAnswer(t *testing.T) {
	all := numbered(6)
	w := &world{known: known(all...)}
	at := time.Duration(0)
	wants := func(what string, s source.Snapshot, want string) {
		t.Helper()
		at += time.Minute
		s.ReadAt = start.Add(at)
		if got := verdicts(w.judge(s))["o05"]; got != want {
			t.Fatalf("%s: o05 is %s, want %s", what, got, want)
		}
	}
	gone := each(all[:1]...)
	back := func() files { f := each(all[:1]...); f["o05.yaml"] = nil; return f }
	wants("five vanish", snapshot(0, gone), mass)
	wants("its file is being written", snapshot(0, back(), unsettled("o05.yaml")), pending)
	wants("it is gone again", snapshot(0, gone), mass)
	wants("its file is broken", snapshot(0, back(), broken("o05.yaml", "")), problem)
	wants("the directory is unreadable", snapshot(0, nil, failed), unread)
	wants("it is gone again", snapshot(0, gone), mass)
	wants("still", snapshot(0, gone), mass)
	wants("its file is there, whole, without it", snapshot(0, back()), removed)
}

// restart is what a new daemon knows of what the former one had seen.
func restart(t tester, s absence.State) absence.State {
	raw, err := json.Marshal(s.Durable())
	if err != nil {
		t.Fatalf("%v", err)
	}
	var out absence.State
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%v", err)
	}
	return out
}

type tester interface{ Fatalf(string, ...any) }

// TestRestart ends the daemon between two reads. What it has waited for is
// waited for again; what it held stays held; what it let go still counts.
func TestRestart(t *testing.T) {
	hour := time.Hour
	many := numbered(10)
	tests := map[string]struct {
		known   []absence.Known
		before  []source.Snapshot
		after   []source.Snapshot
		uid     string
		want    []string // of uid, at each of after
		forgets bool     // what was let go is still known: its tombstone was never written
	}{
		"2 s begin anew": {
			known: known("a", "b"), uid: "a", before: []source.Snapshot{snapshot(0, each("b"))},
			after: []source.Snapshot{snapshot(hour, each("b")), snapshot(hour+1999*ms, each("b")), snapshot(hour+2*time.Second, each("b"))},
			want:  []string{confirm, confirm, vanished},
		},
		"and so do the two reads of an object with data": {
			known:  []absence.Known{{UID: "a", Kind: "Container", Name: "a", Source: "local", File: "all.yaml", Data: true}},
			before: []source.Snapshot{snapshot(0, files{"all.yaml": nil})}, uid: "a",
			after: []source.Snapshot{snapshot(hour, files{"all.yaml": nil}), snapshot(hour+20*ms, files{"all.yaml": nil})},
			want:  []string{confirm, removed},
		},
		"a mass deletion stays held, also when most are back": {
			known: known(many...), uid: "o09", before: []source.Snapshot{snapshot(0, each(many[:1]...))},
			after: []source.Snapshot{snapshot(hour, each(many[:9]...)), snapshot(2*hour, each(many[:9]...))},
			want:  []string{mass, mass},
		},
		"what was let go just before counts": {
			known: known(many...), uid: "o09",
			before: []source.Snapshot{snapshot(0, each(many[3:]...)), snapshot(2*time.Second, each(many[3:]...))},
			after:  []source.Snapshot{snapshot(5*time.Second, each(many[3:9]...)), snapshot(hour, each(many[3:9]...))},
			want:   []string{mass, mass},
		},
		"also when nobody looked for an hour, in which the rest may have followed at once": {
			known: known(many...), uid: "o09",
			before: []source.Snapshot{snapshot(0, each(many[3:]...)), snapshot(2*time.Second, each(many[3:]...))},
			after:  []source.Snapshot{snapshot(hour, each(many[3:9]...)), snapshot(2*hour, each(many[3:9]...))},
			want:   []string{mass, mass},
		},
		"but not for ever": {
			known: known(many...), uid: "o09",
			before: []source.Snapshot{snapshot(0, each(many[3:]...)), snapshot(2*time.Second, each(many[3:]...))},
			after:  []source.Snapshot{snapshot(hour, each(many[3:]...)), snapshot(hour+11*time.Second, each(many[3:9]...)), snapshot(hour+13*time.Second, each(many[3:9]...))},
			want:   []string{isPresent, confirm, vanished},
		},
		"what was to go and did not is judged anew, with all the others": {
			known: known(many...), uid: "o00", forgets: true,
			before: []source.Snapshot{snapshot(0, each(many[3:]...)), snapshot(2*time.Second, each(many[3:]...))},
			after:  []source.Snapshot{snapshot(hour, each(many[4:]...)), snapshot(2*hour, each(many[4:]...))},
			want:   []string{mass, mass},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{known: tc.known}
			for _, s := range tc.before {
				w.judge(s)
			}
			if w.state = restart(t, w.state); tc.forgets {
				w.known = tc.known
			}
			for i, s := range tc.after {
				if got := verdicts(w.judge(s))[tc.uid]; got != tc.want[i] {
					t.Fatalf("read %d: %s is %s, want %s", i, tc.uid, got, tc.want[i])
				}
			}
		})
	}
}
