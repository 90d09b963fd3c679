package nix

import (
	"bytes"
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"tekton.host/pkg/resource"
)

// Activities and results of Nix's internal-json log (src/libutil/logging.hh).
const (
	activityCopyPaths  = 103
	activityBuilds     = 104
	activityBuild      = 105
	activitySubstitute = 108

	resultBuildLine = 101
	resultProgress  = 105

	levelError = 0
	levelInfo  = 3
)

const (
	linePrefix = "@nix "
	// traceHint comes after an error, as one of its own.
	traceHint = "(use '--show-trace'"
	// maxActivities and maxText bound what a log makes us remember.
	maxActivities = 4096
	maxText       = 4096
	// shownActivities of those that are being built.
	shownActivities = 4
)

// logReader reads the lines of an internal-json log. It is pure.
type logReader struct {
	activities map[uint64]string // what is built or fetched, by activity
	totals     map[uint64]int    // type of the activities that count
	counts     map[uint64][2]int // done and expected of those
	// failure is the last error's text.
	failure string
}

func newLogReader() *logReader {
	return &logReader{activities: map[uint64]string{}, totals: map[uint64]int{}, counts: map[uint64][2]int{}}
}

type logEvent struct {
	Action string            `json:"action"`
	ID     uint64            `json:"id"`
	Type   int               `json:"type"`
	Level  int               `json:"level"`
	Text   string            `json:"text"`
	Msg    string            `json:"msg"`
	Fields []json.RawMessage `json:"fields"`
}

// longMessage is of an event whose end was cut off.
var longMessage = regexp.MustCompile(`^\{"action":"msg",(?:"column":[^"]*"file":(?:null|"[^"]*"),)?"level":([0-9]),(?:"line":[^"]*)?"msg":("(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])+)`)

// beginsWith reads the beginning of an event that is too long to be kept: a
// stranger's code may fail with whatever text it likes.
func (e *logEvent) beginsWith(raw []byte) bool {
	found := longMessage.FindSubmatch(raw)
	if found == nil || json.Unmarshal(append(found[2], '"'), &e.Msg) != nil {
		return false
	}
	e.Action, e.Level = "msg", int(found[1][0]-'0')
	return true
}

// line takes one line and returns what of it is for people, "" for nothing.
func (r *logReader) line(line []byte) string {
	raw, isEvent := bytes.CutPrefix(line, []byte(linePrefix))
	if !isEvent { // said by what Nix runs, by what was to become Nix, or by a Nix that has no stack left
		text := plain(string(line))
		if strings.HasPrefix(text, "error: ") || strings.HasPrefix(text, "tektond: ") {
			r.failure = text
		}
		return text
	}
	var e logEvent
	if json.Unmarshal(raw, &e) != nil && !e.beginsWith(raw) {
		return ""
	}
	switch e.Action {
	case "msg":
		text := plain(e.Msg)
		// What needs something that failed fails after it, and does not say why.
		consequence := r.failure != "" && strings.HasSuffix(text, "failed to build")
		if e.Level == levelError && text != "" && !strings.HasPrefix(text, traceHint) && !consequence {
			r.failure = text
		}
		if e.Level <= levelInfo {
			return text
		}
	case "start":
		return r.start(e)
	case "stop":
		delete(r.activities, e.ID)
	case "result":
		return r.result(e)
	}
	return ""
}

func (r *logReader) start(e logEvent) string {
	switch e.Type {
	case activityBuilds, activityCopyPaths:
		if len(r.totals) < maxActivities {
			r.totals[e.ID] = e.Type
		}
	case activityBuild, activitySubstitute:
		if len(r.activities) < maxActivities {
			r.activities[e.ID] = storeName(fieldText(e.Fields, 0))
		}
	}
	if e.Level <= levelInfo {
		return plain(e.Text)
	}
	return ""
}

func (r *logReader) result(e logEvent) string {
	switch e.Type {
	case resultBuildLine:
		text := plain(fieldText(e.Fields, 0))
		if name := r.activities[e.ID]; name != "" {
			text = name + "> " + text
		}
		return text
	case resultProgress:
		if _, counts := r.totals[e.ID]; counts {
			r.counts[e.ID] = [2]int{fieldCount(e.Fields, 0), fieldCount(e.Fields, 1)}
		}
	}
	return ""
}

// progress is how far everything is that was begun so far.
func (r *logReader) progress() resource.Progress {
	var p resource.Progress
	for _, c := range r.counts {
		p.Done, p.Expected = p.Done+c[0], p.Expected+c[1]
	}
	names := slices.Compact(slices.Sorted(maps.Values(r.activities)))
	names = slices.DeleteFunc(names, func(s string) bool { return s == "" })
	p.Building = names[:min(len(names), shownActivities)]
	return p
}

func fieldText(fields []json.RawMessage, i int) string {
	var s string
	if i < len(fields) {
		_ = json.Unmarshal(fields[i], &s)
	}
	return s
}

// fieldCount is a number of things: never negative, and small enough to be added up.
func fieldCount(fields []json.RawMessage, i int) int {
	var n int
	if i < len(fields) {
		_ = json.Unmarshal(fields[i], &n)
	}
	return min(max(n, 0), 1<<30)
}

// storeName is the name in a store path: of HASH-web-1.drv, web-1.
func storeName(p string) string {
	name := strings.TrimSuffix(path.Base(p), ".drv")
	if _, rest, found := strings.Cut(name, "-"); found {
		name = rest
	}
	return plain(name)
}

// escapes are terminal sequences: colours, cursor movements, titles.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)`)

// plain is a text without what only a terminal understands.
func plain(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "")
	return strings.TrimRight(strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return -1
		}
		return c
	}, escapes.ReplaceAllString(s, "")), "\n")
}
