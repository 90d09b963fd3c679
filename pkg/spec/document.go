package spec

import "strings"

// Document is the text of one document of a file, as it was written but for
// Unix line ends.
type Document struct {
	Text string // without its "---"
	Line int    // at which it begins in the file, with its "---", from 1
}

// Documents splits a file into the texts of its documents, those that Decode
// sees, so that one of them can be replaced or removed without touching the
// others. Chunks that hold only comments belong to no document and are left out.
func Documents(data []byte) []Document {
	var out []Document
	for _, c := range split(unixText(data)) {
		if c.blank() {
			continue
		}
		text, marked := strings.CutPrefix(c.text, "---")
		if marked {
			text = strings.TrimPrefix(strings.TrimLeft(text, " \t"), "\n")
		}
		out = append(out, Document{Text: text, Line: c.line + 1})
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
