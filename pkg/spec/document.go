package spec

import "strings"

// Document is the text of one document of a file, as it was written.
type Document struct {
	Text string // without its "---" line
	Line int    // of its first line in the file, from 1
}

// Documents splits a file into the texts of its documents, so that one of them
// can be replaced or removed without touching the others. Chunks that hold only
// comments belong to no document and are left out.
func Documents(data []byte) []Document {
	var out []Document
	for _, c := range split(string(data)) {
		if c.blank() {
			continue
		}
		text, line := c.text, c.line+1
		if strings.HasPrefix(text, "---") {
			_, text, _ = strings.Cut(text, "\n")
			line++
		}
		out = append(out, Document{Text: text, Line: line})
	}
	return out
}

// Join is the file that holds the documents.
func Join(docs []Document) []byte {
	var b strings.Builder
	for i, d := range docs {
		if i > 0 {
			b.WriteString("---\n")
		}
		b.WriteString(strings.TrimRight(d.Text, "\n") + "\n")
	}
	return []byte(b.String())
}
