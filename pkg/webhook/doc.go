// Package webhook keeps a directory of specs as the pull requests of forges
// are: a delivery says which pull request to look at, the forge's API says how
// it is, and the Repository object says whether it has a preview.
//
// Invariants:
//   - what was answered with 202 is looked at, also after a kill;
//   - no order, repetition or loss of deliveries leads to another end than what
//     the forge shows, once a sweep went through;
//   - a forge that does not answer changes no spec.
package webhook
