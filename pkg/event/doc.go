// Package event tells what happened on a host: each change of what is published
// of objects and sources becomes a line that people read.
//
// Invariants:
//   - an event is told from two published states and nothing else. Nobody
//     decides anything by events, and none says what a status would not;
//   - what is kept on disk is bounded, and a line that was torn by a crash costs
//     that line only.
package event
