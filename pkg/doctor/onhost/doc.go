// Package onhost looks at the host that it runs on for package doctor, and
// carries out what doctor --fix proposes.
//
// Invariants:
//   - looking changes nothing, but for Try, which starts a throw-away machine and
//     takes it away again, also what a former Try has left;
//   - what needs root and does not have it is said, never guessed.
package onhost
