// Package cli is the command line of tekton.
//
// Invariants:
//   - standard output is data, standard error is talk;
//   - what machines, specs and the daemon say is escaped before it reaches a
//     terminal, but for the output of `exec`, `shell` and `logs --raw`;
//   - exit codes are those of exitCodes, and an error says what, where, why and
//     what to do next;
//   - it knows nothing of the host: all comes from the daemon, or from the
//     files that it was given; but for doctor, which looks for itself.
package cli
