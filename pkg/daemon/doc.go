// Package daemon puts the parts of tekton together and answers the API's
// questions from them.
//
// Invariants:
//   - one daemon a state directory (its lock is held for life);
//   - everything that a client changes goes through a source's files, the
//     ledger or the secrets directory: the daemon keeps no state of its own.
package daemon
