package migrate

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"tekton.host/pkg/spec"
)

// File is the spec of a container, with what is to be done above it.
func (c Container) File() (name string, text []byte, err error) {
	document, err := spec.Marshal(c.Object)
	if err != nil {
		return "", nil, err
	}
	name = c.Object.Metadata.Name
	var b strings.Builder
	fmt.Fprintf(&b, "# Imported from %s. In this order:\n", c.At)
	steps := slices.Clone(c.Steps)
	if c.database != "" {
		steps = append(steps, fmt.Sprintf("runuser -u postgres -- pg_dump --no-owner --no-privileges %s >%s.sql", c.database, c.Name))
	}
	steps = append(steps, "remove enabled and reason below, and apply this file again")
	if c.database != "" {
		steps = append(steps, fmt.Sprintf(`tekton exec -i %s -- sh -c '. /run/tekton-environment; psql "$DATABASE_URL"' <%s.sql`, name, c.Name))
	}
	steps = append(steps, fmt.Sprintf("nixos-container destroy %s   # when all is well", c.Name))
	for _, s := range steps {
		fmt.Fprintf(&b, "#   %s\n", s)
	}
	for _, n := range c.Left {
		fmt.Fprintf(&b, "# Not taken over: %s: %s\n", n.At, strings.Map(printable, n.Text))
	}
	return name + ".yaml", append([]byte(b.String()), document...), nil
}

// printable keeps what was read from leaving the comment that it stands in.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}
