package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// chunk is the text between two "---" lines. Each is parsed alone, so that a
// broken document does not hide the others: "---" at the beginning of a line
// ends a document wherever it stands, in YAML also within a quoted text.
type chunk struct {
	text string
	line int // lines before it
}

var separator = regexp.MustCompile(`(?m)^---(?:[ \t]|$)`)

func split(text string) []chunk {
	var chunks []chunk
	start, line := 0, 0
	for _, at := range separator.FindAllStringIndex(text, -1) {
		chunks = append(chunks, chunk{text[start:at[0]], line})
		line += strings.Count(text[start:at[0]], "\n")
		start = at[0]
	}
	return append(chunks, chunk{text[start:], line})
}

// blank reports whether a chunk holds only comments, directives and its marker.
func (c chunk) blank() bool {
	for line := range strings.Lines(strings.TrimPrefix(c.text, "---")) {
		if s := strings.TrimSpace(line); s != "" && s[0] != '#' && line[0] != '%' && s != "..." {
			return false
		}
	}
	return true
}

// readable checks the bytes and returns the text with Unix line ends.
func readable(file string, data []byte) (string, *Problem) {
	if len(data) > MaxFile {
		return "", &Problem{Position: Position{File: file, Line: 1, Column: 1}, Reason: ReasonParseError,
			Message: fmt.Sprintf("the file has more than %d bytes, the most that is read; split it into several files", MaxFile)}
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return "", &Problem{Position: Position{File: file, Line: 1, Column: 1}, Reason: ReasonParseError,
			Message: "the file is UTF-16; save it as UTF-8"}
	}
	text := unixText(data)
	if strings.TrimSpace(text) == "" {
		return "", &Problem{Position: Position{File: file, Line: 1, Column: 1}, Reason: ReasonParseError,
			Message: "the file is empty; delete it if nothing is wanted, as an empty file may be one that was not written to its end"}
	}
	if problem := badCharacter(file, text); problem != nil {
		return "", problem
	}
	return text, nil
}

// unixText is a file's text with Unix line ends, without a byte order mark.
func unixText(data []byte) string {
	text := string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
}

func badCharacter(file, text string) *Problem {
	line, column := 1, 1
	for i, r := range text {
		message := ""
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			message = fmt.Sprintf("byte 0x%02x is not UTF-8; save the file as UTF-8", text[i])
		case r == 0:
			message = "a NUL character; the file is not text, or it was not written to its end"
		case r == '\n':
			line, column = line+1, 1
			continue
		case (r < ' ' && r != '\t') || (r >= 0x7f && r < 0xa0 && r != 0x85) || r == 0xfeff || r == 0xfffe || r == 0xffff:
			message = fmt.Sprintf("character U+%04X has no place in YAML; write it as an escape in double quotes", r)
		}
		if message != "" {
			return &Problem{Position: Position{File: file, Line: line, Column: column}, Reason: ReasonParseError, Message: message}
		}
		column++
	}
	return nil
}

// parse returns the documents of a chunk: one, or more where "..." separates.
func (c chunk) parse() (nodes []*yaml.Node, err error) {
	// The parser is not ours: whatever it does on odd input stays here.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", v)
		}
	}()
	decoder := yaml.NewDecoder(strings.NewReader(c.text))
	for {
		node := new(yaml.Node)
		err := decoder.Decode(node)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nodes, nil
			}
			return nodes, err
		}
		nodes = append(nodes, node)
	}
}
