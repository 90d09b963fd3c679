// Package plan compares what is desired with what was observed and yields the
// steps that may be taken now.
//
// It is pure and total. Invariants:
//   - no step for what could not be observed, what is held, or what lacks a
//     complete owner: replacing any domain by Unknown never adds a delete, a
//     stop or a restart;
//   - a step is given only when what it needs is there (or, for a delete, what
//     stands on it is gone), as observed, never as remembered;
//   - when everything is as desired there are no steps.
package plan
