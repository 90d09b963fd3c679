// Package absence decides whether what is missing from a source was really
// removed. It is pure: no I/O, no clock, no randomness; memory goes in and out
// as a value.
//
// Invariants:
//   - A machine goes away, and data with it, only for an Absent verdict; not
//     knowing is a Hold.
//   - Without a request or a release, an incomplete, missing or unsettled read
//     never makes an Absent.
//   - Another problem in a snapshot never turns a verdict into Absent.
//   - The order of the inputs does not matter.
//   - Time is measured between reads of the source, not between passes: an old
//     snapshot that is judged twice confirms nothing.
package absence
