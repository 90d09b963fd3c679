package webhook

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"tekton.host/pkg/forge"
)

// Verb of a command.
type Verb string

// Verbs.
const (
	VerbUp      Verb = ""        // /preview
	VerbDown    Verb = "down"    // /preview down
	VerbRebuild Verb = "rebuild" // /preview rebuild
	VerbApprove Verb = "approve" // /preview approve COMMIT
)

// Command is a line of a comment that asks for something.
type Command struct {
	// Author of the comment.
	Author string
	Verb   Verb
	// Commit that is approved, in full: of a shorter one a fork's author could make a second.
	Commit string
}

var commandLine = regexp.MustCompile(`^/preview(?:[ \t]+(down|rebuild|approve[ \t]+([0-9a-f]{40}|[0-9a-f]{64})))?$`)

// Commands of the comments, oldest first, ours left out, and those of another host
// of ours that writes with another account: each is a line of its
// own, outside of quotes and blocks of code. Whether their authors have a say is
// for the caller to find out.
func Commands(comments []forge.Comment) []Command {
	comments = slices.Clone(comments)
	slices.SortStableFunc(comments, func(a, b forge.Comment) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	var out []Command
	for _, c := range comments {
		if c.Ours || strings.HasPrefix(c.Body, markerBegin) {
			continue
		}
		fenced := ""
		for line := range strings.Lines(c.Body) {
			line = strings.TrimRight(line, " \t\r\n")
			fence, info := fenceOf(line)
			if fenced == "" && fence != "" {
				fenced = fence
				continue
			}
			if fenced != "" && strings.HasPrefix(fence, fenced) && info == "" {
				fenced = ""
				continue
			}
			if m := commandLine.FindStringSubmatch(line); m != nil && fenced == "" {
				verb, _, _ := strings.Cut(strings.ReplaceAll(m[1], "\t", " "), " ")
				out = append(out, Command{Author: c.Author, Verb: Verb(verb), Commit: m[2]})
			}
		}
	}
	return out
}

// fenceOf is the fence that a line begins or ends a block of code with, and what
// follows it, by CommonMark; "": none.
func fenceOf(line string) (fence, info string) {
	text := strings.TrimLeft(line, " ")
	if len(line)-len(text) > 3 {
		return "", ""
	}
	for _, mark := range []string{"`", "~"} {
		info := strings.TrimLeft(text, mark)
		if n := len(text) - len(info); n >= 3 && (mark == "~" || !strings.Contains(info, mark)) {
			return text[:n], info
		}
	}
	return "", ""
}
