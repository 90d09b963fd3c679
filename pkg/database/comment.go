package database

import (
	"cmp"
	"encoding/json"
	"strings"

	"tekton.host/pkg/resource"
)

// ownerRetained is the owner in the marks of what outlived its object.
const ownerRetained = "retained"

// note is what the comments of a role and of its database say after the mark.
type note struct {
	Label      string                  `json:"label,omitempty"`
	Policy     resource.DeletionPolicy `json:"policy,omitempty"`
	Extensions []string                `json:"extensions,omitempty"`
	Revision   string                  `json:"revision,omitempty"`
	Seeded     bool                    `json:"seeded,omitempty"`
}

func noteOf(v resource.Database) note {
	return note{Label: v.Label, Policy: v.Policy, Extensions: v.Extensions, Revision: v.Revision, Seeded: v.Seeded}
}

// after is the note of a database that was there with another: what was done with
// it stays known to one that is adopted, of which nobody knew.
func (n note) after(old note) note {
	n.Revision, n.Seeded = cmp.Or(n.Revision, old.Revision), n.Seeded || old.Seeded
	return n
}

// comment is the text of both comments: the mark, then the note as JSON.
func comment(m resource.Mark, n note) string {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // strings always encode
	}
	return m.String() + " " + string(b)
}

// parseComment reads a comment of ours. ok is false when it carries no mark. A
// note that cannot be read is empty.
func parseComment(s string) (m resource.Mark, n note, ok bool) {
	if m, ok = resource.ParseMark(s); !ok {
		return resource.Mark{}, note{}, false
	}
	_, rest, _ := strings.Cut(s, " ")
	if json.Unmarshal([]byte(rest), &n) != nil {
		n = note{}
	}
	return m, n, true
}
