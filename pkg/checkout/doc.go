// Package checkout is the driver of checkouts: what a reference of a git
// repository is, fetched by the host.
//
// Each checkout is a job with a directory of its own. All checkouts of one
// repository with one secret share a mirror: a bare repository in which each
// has a reference of ours that keeps its commit.
//
// Invariants:
//   - A result stays until another one is whole: over errors of any kind, a
//     branch that was deleted or overwritten, and restarts.
//   - A mirror goes with the last checkout that uses it; what nobody's reference
//     keeps goes when the mirror is tidied.
//   - A secret is read by the job alone, and is in no description, log or outcome.
package checkout
