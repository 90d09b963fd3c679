// Package webhook keeps a directory of specs as the pull requests of forges
// are: a delivery says which pull request to look at, the forge's API says how
// it is, and the Repository object says whether it has a preview.
//
//	delivery ─► Journal ─► look: forge's truth × Repository ─► Decide ─► Store ─► tell
//
// Invariants:
//   - what was answered with 202 is looked at, also after a kill;
//   - no order, repetition or loss of deliveries leads to another end than what
//     the forge shows, once a sweep went through;
//   - a forge or a daemon that does not answer changes no spec: nothing is
//     removed but for what was said;
//   - what cannot be told to the forge delays no spec.
package webhook
