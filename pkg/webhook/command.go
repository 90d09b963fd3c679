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

// Commands of the comments, oldest first, ours left out: each is a line of its
// own, outside of quotes and blocks of code. Whether their authors have a say is
// for the caller to find out.
func Commands(comments []forge.Comment) []Command {
	comments = slices.Clone(comments)
	slices.SortStableFunc(comments, func(a, b forge.Comment) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	var out []Command
	for _, c := range comments {
		if c.Ours {
			continue
		}
		fenced := ""
		for line := range strings.Lines(c.Body) {
			line = strings.TrimRight(line, " \t\r\n")
			if fence := fenceOf(line); fence != "" && (fenced == "" || strings.HasPrefix(fence, fenced)) {
				if fenced == "" {
					fenced = fence
				} else {
					fenced = ""
				}
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

// fenceOf is the fence that a line begins or ends a block of code with; "": none.
func fenceOf(line string) string {
	line = strings.TrimLeft(line, " ")
	for _, mark := range []string{"`", "~"} {
		if rest := strings.TrimLeft(line, mark); len(line)-len(rest) >= 3 {
			return line[:len(line)-len(rest)]
		}
	}
	return ""
}
