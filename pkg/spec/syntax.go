package spec

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// locateLimit bounds the text in which a syntax error is searched by parsing parts of it.
const locateLimit = 32 << 10

var (
	parserLine    = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// plainWords say what the parser's words mean to somebody who writes a spec.
var plainWords = []struct{ parser, plain string }{
	{"mapping values are not allowed", "a \": \" stands where none may, or the line is indented too far; a text that contains \": \" goes in quotes"},
	{"did not find expected key", "the indentation fits no mapping above; align the line with its siblings"},
	{"did not find expected '-' indicator", "the line is neither an item (\"- \") of the list above nor outside it; check the indentation"},
	{"did not find expected ',' or", "a bracket that opens here is not closed, or a comma is missing"},
	{"unexpected end of stream", "a quote that opens here is not closed"},
	{"could not find expected ':'", "a key without \": \" after it"},
	{"did not find expected alphabetic or numeric", "'*' and '&' at the beginning begin an alias or anchor; put the value in quotes"},
	{"block sequence entries are not allowed", "a list item (\"- \") stands where none may; begin it on a line of its own"},
	{"unknown escape character", "a backslash in double quotes begins an escape; use single quotes, or write \\\\"},
	{"did not find expected node content", "a value is missing, or begins with a character that has a meaning in YAML; put it in quotes"},
	{"expected <document start>", "after \"...\" a new document begins with a line \"---\""},
	{"unknown anchor", "the alias names an anchor (&) that the document does not have before it"},
}

// syntaxProblem says where and why the chunk is not YAML.
func (c chunk) syntaxProblem(file string, err error) Problem {
	words := err.Error()
	line := 1
	if m := parserLine.FindStringSubmatch(words); m != nil {
		words = strings.TrimPrefix(words, m[0])
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	lines := strings.Split(c.text, "\n")
	if len(c.text) <= locateLimit {
		line = c.firstBroken(lines)
	}
	line = max(1, min(line, len(lines)))
	text := lines[line-1]
	column := len(text) - len(strings.TrimLeft(text, " \t")) + 1
	plain := ""
	for _, w := range plainWords {
		if strings.Contains(words, w.parser) {
			plain = w.plain
			break
		}
	}
	switch {
	case strings.Contains(words, "cannot start any token"):
		plain = "a value may not begin with this character; put it in quotes"
		fallthrough
	case plain == "":
		if tab := tabIn(text); tab > 0 {
			plain, column = "a tab indents the line; YAML takes spaces only", tab
		}
	}
	if m := unknownAnchor.FindStringSubmatch(words); m != nil {
		line, column = findAlias(lines, m[1])
	}
	if plain != "" {
		words = fmt.Sprintf("%s (%s)", plain, words)
	}
	kind, name := c.salvage()
	return Problem{Position: Position{File: file, Line: c.line + line, Column: column}, Reason: ReasonParseError,
		Message: "not YAML: " + words, Kind: kind, Name: name}
}

// firstBroken returns the first line from which on the text cannot be parsed:
// the parser's own word for it may be the beginning of an enclosing block. A
// text that ends within brackets or quotes cannot be parsed either, so a few
// more lines are given a chance to close them.
func (c chunk) firstBroken(lines []string) int {
	const chance = 8
	return sort.Search(len(lines), func(n int) bool {
		for end := n; end <= min(n+chance, len(lines)); end++ {
			if _, err := (chunk{text: strings.Join(lines[:end], "\n")}).parse(); err == nil {
				return false
			}
		}
		return true
	})
}

// tabIn returns the column of a tab in the line's indentation, or 0.
func tabIn(line string) int {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	return strings.IndexByte(indent, '\t') + 1
}

func findAlias(lines []string, name string) (line, column int) {
	for i, l := range lines {
		if at := strings.Index(l, "*"+name); at >= 0 {
			return i + 1, len([]rune(l[:at])) + 1
		}
	}
	return 1, 1
}

var (
	kindLine = regexp.MustCompile(`^kind:[ \t]+["']?([A-Za-z]+)`)
	nameLine = regexp.MustCompile(`^[ ]+name:[ \t]+["']?([a-z0-9][-a-z0-9]*)["']?[ \t]*(?:#.*)?$`)
)

// salvage reads kind and name out of text that is not YAML as a whole, so that
// the object's last good spec can stay. Only lines that are certain count.
func (c chunk) salvage() (kind, name string) {
	inside, indent := false, 0
	whole := c.text[:strings.LastIndex(c.text, "\n")+1] // a last line without its end may be half a name
	for line := range strings.SplitSeq(whole, "\n") {
		width := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case strings.TrimSpace(line) == "" || line[width] == '#':
		case width == 0:
			if m := kindLine.FindStringSubmatch(line); m != nil && kind == "" {
				kind = m[1]
			}
			inside, indent = strings.HasPrefix(line, "metadata:"), 0
		case inside:
			if indent == 0 {
				indent = width
			}
			if m := nameLine.FindStringSubmatch(line); m != nil && width == indent && name == "" {
				name = m[1]
			}
		}
	}
	return kind, name
}
