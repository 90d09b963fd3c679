// Package job is work that takes its time and happens outside of any step: a
// supervised process with a directory of its own, which outlives the daemon.
// A driver begins attempts and reads how they go (Jobs); the process itself is
// an Attempt.
//
// Invariants:
//   - An attempt that came to its end has an outcome, written before the
//     process ends and after what the outcome is about. One that was killed has
//     none, and is seen as interrupted.
//   - The result of the latest success stays until there is another.
package job
