// Package source turns places where people and programs write specs into
// snapshots: all that is wanted, read at one moment.
//
// Invariants:
//   - A snapshot never mixes a file's old and new bytes: a file that somebody
//     has open for writing is Unsettled, not read.
//   - What could not be read is never taken for removed: it is a Problem, an
//     Unsettled file, or an incomplete snapshot.
//   - Snapshot never blocks on what lies in the directory: pipes and devices
//     are not opened.
//   - An event only says "look again"; losing one costs at most PollInterval.
//   - Files are named by their path below the configured directory path,
//     everywhere (Files, Unsettled, positions).
package source
