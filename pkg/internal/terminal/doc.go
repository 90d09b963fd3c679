// Package terminal is what tekton needs to write for people: escaping of what
// machines and specs say, colours, tables, times.
//
// Invariants:
//   - nothing that passes Escape, EscapeLines or an Escaper can move a cursor,
//     change a terminal or reorder text;
//   - without colour there are no escape sequences at all.
package terminal
